/* SPDX-License-Identifier: Apache-2.0 */
/* quant/precision.h - named points of the precision ladder and everything between them. */
#ifndef SSMQ_QUANT_PRECISION_H
#define SSMQ_QUANT_PRECISION_H

#include "base/status.h"
#include "model/shapes.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Number formats of quantized values: code, name, bits, largest magnitude, values per byte.
 * FLOAT means "not quantized: the compute type". */
#define SSMQ_FORMAT_TABLE(X)                                                                       \
    X(FLOAT, "float", 0, 0)                                                                        \
    X(INT8, "int8", 8, 127)                                                                        \
    X(INT4, "int4", 4, 7)                                                                          \
    X(FP8_E4M3, "fp8_e4m3", 8, 448)

typedef enum ssmq_format {
#define X(code, name, bits, qmax) SSMQ_FORMAT_##code,
    SSMQ_FORMAT_TABLE(X)
#undef X
        SSMQ_N_FORMATS
} ssmq_format;

typedef struct ssmq_format_info {
    const char *name;
    int bits;    /* stored bits a value */
    double qmax; /* the value that absmax is scaled to */
} ssmq_format_info;

const ssmq_format_info *ssmq_format_get(ssmq_format format);
bool ssmq_format_from_name(const char *name, ssmq_format *out);

enum { SSMQ_PRECISION_NAME_BYTES = 32, SSMQ_INT4_GROUP_SIZE = 128 };

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
} ssmq_precision;

/* The named precision ("fp32", "fp16", "bf16", "w8a8", "w4a8", "w4a4", "w8a8-fp8", "w8a16",
 * "w4a16"); quantized names may be preceded by a compute type, "fp32:w8a8" (default bf16), and
 * followed by a group size, "w4a8:g64", or "w4a8:channel".
 * Fails: CONFIG (the message lists what is allowed). */
SSMQ_MUST_USE ssmq_status ssmq_precision_parse(ssmq_precision *out, const char *text,
                                               ssmq_err *err);

/* True if some product is not computed in the compute type. */
bool ssmq_precision_is_quantized(const ssmq_precision *precision);

/* "int8 weights per channel x int8 activations per token, absmax" and the like: calib_method. */
const char *ssmq_precision_calib_method(const ssmq_precision *precision);

#ifdef __cplusplus
}
#endif
#endif
