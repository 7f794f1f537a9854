/* SPDX-License-Identifier: Apache-2.0 */
/* quant/precision.h - named points of the precision ladder and everything between them. */
#ifndef SSMQ_QUANT_PRECISION_H
#define SSMQ_QUANT_PRECISION_H

#include "base/status.h"
#include "base/str.h"
#include "model/shapes.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the values of a format are. Adding a format is a row of SSMQ_FORMAT_TABLE, and for a new
 * encoding also a file as quant/e4m3.c with its row in quant/quantize.c. */
typedef enum ssmq_encoding {
    SSMQ_ENCODING_NONE,    /* the compute type */
    SSMQ_ENCODING_INTEGER, /* integers in [-qmax, qmax]; products of two are summed exactly in int32
                            */
    SSMQ_ENCODING_E4M3,    /* quant/e4m3.h; products are exact in fp32 and summed there */
    SSMQ_N_ENCODINGS
} ssmq_encoding;

/* Number formats of quantized values: code, name, stored bits, largest magnitude, encoding, usual
 * weights a scale (0: one scale an output channel), what names of precisions add behind the bits.
 * FLOAT means "not quantized: the compute type". Of formats with equal bits the first is what the
 * bits alone mean. Programs and configurations know formats from here alone. */
#define SSMQ_FORMAT_TABLE(X)                                                                       \
    X(FLOAT, "float", 0, 0, NONE, 0, "")                                                           \
    X(INT8, "int8", 8, 127, INTEGER, 0, "")                                                        \
    X(INT4, "int4", 4, 7, INTEGER, 128, "")                                                        \
    X(FP8_E4M3, "fp8_e4m3", 8, 448, E4M3, 0, "-fp8")

typedef enum ssmq_format {
#define X(code, name, bits, qmax, encoding, group_size, suffix) SSMQ_FORMAT_##code,
    SSMQ_FORMAT_TABLE(X)
#undef X
        SSMQ_N_FORMATS
} ssmq_format;

typedef struct ssmq_format_info {
    const char *name;
    int bits;    /* stored bits a value */
    double qmax; /* the value that absmax is scaled to */
    ssmq_encoding encoding;
    int32_t group_size; /* usual weights along K a scale; 0: one scale an output channel */
    const char *suffix; /* "w8a8" + suffix names a precision */
} ssmq_format_info;

const ssmq_format_info *ssmq_format_get(ssmq_format format);
bool ssmq_format_from_name(const char *name, ssmq_format *out);
/* The format that `bits` alone mean; false if no format has so many. */
bool ssmq_format_from_bits(int64_t bits, ssmq_format *out);
/* Appends the names of all formats, or the different bits of the quantized ones upwards, with
 * `separator` between them. */
void ssmq_format_add_names(ssmq_str *out, const char *separator);
void ssmq_format_add_bits(ssmq_str *out, const char *separator);

enum { SSMQ_PRECISION_NAME_BYTES = 32 };

/* One precision, written out. Fields are the record's and the configuration's. */
typedef struct ssmq_precision {
    char name[SSMQ_PRECISION_NAME_BYTES];
    ssmq_dtype dtype; /* compute type of everything that is not quantized */
    int32_t w_bits;   /* 32, 16, 8, 4 */
    int32_t a_bits;
    ssmq_format w_format; /* FLOAT if w_bits is the compute type's */
    ssmq_format a_format;
    int32_t group_size;     /* weights along K a scale; 0: one scale an output channel */
    ssmq_dtype state_dtype; /* of the recurrent state */
    /* Not FLOAT: the state has values of this format with one scale a head and channel (N numbers),
     * found anew at each store, and state_dtype is F32. */
    ssmq_format state_format;
    bool
        state_is_stochastic; /* rounded stochastically instead of to nearest; quant/state_round.h */
} ssmq_precision;

/* The named precision ("fp32", "fp16", "bf16", "w8a8", "w4a8", "w4a4", "w8a8-fp8", "w8a16",
 * "w4a16"); quantized names may be preceded by a compute type, "fp32:w8a8" (default bf16), and
 * followed by a group size, "w4a8:g64", or "w4a8:channel".
 * Fails: CONFIG (the message lists what is allowed). */
SSMQ_MUST_USE ssmq_status ssmq_precision_parse(ssmq_precision *out, const char *text,
                                               ssmq_err *err);

/* Name of the i-th point of the ladder, without prefix and suffix; NULL behind the last. */
const char *ssmq_precision_ladder(int i);
/* Appends those names with ", " between them. */
void ssmq_precision_add_ladder(ssmq_str *out);

/* True if weights or activations are not kept in the compute type. */
bool ssmq_precision_is_quantized(const ssmq_precision *precision);

/* True if the recurrent state is stored in less than fp32. */
bool ssmq_precision_rounds_state(const ssmq_precision *precision);
/* "fp32", "bf16", "int8", ...; and how it is rounded: "nearest", "stochastic". */
const char *ssmq_precision_state_name(const ssmq_precision *precision);
const char *ssmq_precision_state_rounding(const ssmq_precision *precision);

/* True if weights and activations are integers: products are summed exactly in int32. */
bool ssmq_precision_has_integer_sums(const ssmq_precision *precision);

/* Bytes of a weight matrix [rows, columns] in the weights' format with its scales, 4 bytes each;
 * 4-bit values two to a byte, row by row. */
int64_t ssmq_precision_weight_bytes(const ssmq_precision *precision, int64_t rows, int64_t columns);

/* "absmax: int8 weights per channel, dynamic int8 activations per token" and the like, cut to
 * `bytes` with the end of the text. */
void ssmq_precision_calib_method(const ssmq_precision *precision, char *out, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
