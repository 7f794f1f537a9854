/* SPDX-License-Identifier: Apache-2.0 */
#include "quant/precision.h"

#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "quant/quantize.h"

static const ssmq_format_info formats[SSMQ_N_FORMATS] = {
#define X(code, name, bits, qmax, encoding) {name, bits, qmax, SSMQ_ENCODING_##encoding},
    SSMQ_FORMAT_TABLE(X)
#undef X
};

/* Named points of the ladder. A compute type of -1 takes the prefix of the name, or bf16. */
static const struct {
    const char *name;
    int dtype;
    ssmq_format w_format;
    ssmq_format a_format;
    int32_t group_size;
} ladder[] = {
    {"fp32", SSMQ_F32, SSMQ_FORMAT_FLOAT, SSMQ_FORMAT_FLOAT, 0},
    {"fp16", SSMQ_F16, SSMQ_FORMAT_FLOAT, SSMQ_FORMAT_FLOAT, 0},
    {"bf16", SSMQ_BF16, SSMQ_FORMAT_FLOAT, SSMQ_FORMAT_FLOAT, 0},
    {"w8a8", -1, SSMQ_FORMAT_INT8, SSMQ_FORMAT_INT8, 0},
    {"w4a8", -1, SSMQ_FORMAT_INT4, SSMQ_FORMAT_INT8, SSMQ_INT4_GROUP_SIZE},
    {"w4a4", -1, SSMQ_FORMAT_INT4, SSMQ_FORMAT_INT4, SSMQ_INT4_GROUP_SIZE},
    {"w8a8-fp8", -1, SSMQ_FORMAT_FP8_E4M3, SSMQ_FORMAT_FP8_E4M3, 0},
    {"w8a16", -1, SSMQ_FORMAT_INT8, SSMQ_FORMAT_FLOAT, 0},
    {"w4a16", -1, SSMQ_FORMAT_INT4, SSMQ_FORMAT_FLOAT, SSMQ_INT4_GROUP_SIZE},
};
enum { N_LADDER = sizeof ladder / sizeof ladder[0], MAX_GROUP_SIZE = 65536 };

const ssmq_format_info *ssmq_format_get(ssmq_format format) {
    return &formats[format];
}

bool ssmq_format_from_name(const char *name, ssmq_format *out) {
    for (int i = 0; i < SSMQ_N_FORMATS; i++) {
        if (strcmp(name, formats[i].name) == 0) {
            *out = (ssmq_format)i;
            return true;
        }
    }
    return false;
}

static ssmq_status unknown(const char *text, ssmq_err *err) {
    return SSMQ_FAIL(err, CONFIG,
                     "'%.64s' is no precision; allowed are fp32, fp16, bf16, w8a8, w4a8, w4a4, "
                     "w8a8-fp8, w8a16, w4a16, quantized ones with a compute type before them "
                     "(fp32:w8a8) and weights a scale behind them (w4a8:g64, w4a8:channel)",
                     text);
}

/* One of the parts between colons; moves *text behind the colon. */
static void take_part(const char **text, char *part, size_t part_bytes) {
    size_t length = strcspn(*text, ":");
    size_t copied = length < part_bytes ? length : part_bytes - 1;
    memset(part, 0, part_bytes);
    memcpy(part, *text, copied);
    *text += length;
    if (**text == ':') (*text)++;
}

static int find_ladder(const char *name) {
    for (int i = 0; i < N_LADDER; i++) {
        if (strcmp(name, ladder[i].name) == 0) return i;
    }
    return -1;
}

static bool parse_grouping(const char *part, int32_t *group_size) {
    if (strcmp(part, "channel") == 0) {
        *group_size = 0;
        return true;
    }
    char *end = NULL;
    if (part[0] != 'g' || part[1] < '1' || part[1] > '9') return false;
    long value = strtol(part + 1, &end, 10);
    if (*end != '\0' || value > MAX_GROUP_SIZE) return false;
    *group_size = (int32_t)value;
    return true;
}

static void fill(ssmq_precision *out, int entry, int dtype, const char *name) {
    const int32_t float_bits = 8 * (int32_t)ssmq_dtype_bytes((ssmq_dtype)dtype);
    memset(out, 0, sizeof *out);
    ssmq_field_set(out->name, sizeof out->name, name);
    out->dtype = (ssmq_dtype)dtype;
    out->w_format = ladder[entry].w_format;
    out->a_format = ladder[entry].a_format;
    out->w_bits = out->w_format == SSMQ_FORMAT_FLOAT ? float_bits : formats[out->w_format].bits;
    out->a_bits = out->a_format == SSMQ_FORMAT_FLOAT ? float_bits : formats[out->a_format].bits;
    out->group_size = ladder[entry].group_size;
    out->state_dtype = SSMQ_F32;
}

ssmq_status ssmq_precision_parse(ssmq_precision *out, const char *text, ssmq_err *err) {
    char part[SSMQ_PRECISION_NAME_BYTES];
    const char *rest = text;
    int dtype = SSMQ_BF16;
    if (strlen(text) >= sizeof out->name) return unknown(text, err);
    take_part(&rest, part, sizeof part);
    int entry = find_ladder(part);
    if (entry >= 0 && ladder[entry].dtype >= 0 && *rest != '\0') {
        dtype = ladder[entry].dtype;
        take_part(&rest, part, sizeof part);
        entry = find_ladder(part);
        if (entry < 0 || ladder[entry].dtype >= 0) return unknown(text, err);
    }
    if (entry < 0) return unknown(text, err);
    if (ladder[entry].dtype >= 0) dtype = ladder[entry].dtype;
    fill(out, entry, dtype, text);
    if (*rest == '\0') return text[strlen(text) - 1] == ':' ? unknown(text, err) : SSMQ_OK;
    const bool is_integer = formats[out->w_format].encoding == SSMQ_ENCODING_INTEGER;
    if (!is_integer || !parse_grouping(rest, &out->group_size)) return unknown(text, err);
    return SSMQ_OK;
}

const char *ssmq_precision_ladder(int i) {
    return i >= 0 && i < N_LADDER ? ladder[i].name : NULL;
}

bool ssmq_precision_is_quantized(const ssmq_precision *precision) {
    return precision->w_format != SSMQ_FORMAT_FLOAT || precision->a_format != SSMQ_FORMAT_FLOAT;
}

bool ssmq_precision_has_integer_sums(const ssmq_precision *precision) {
    return formats[precision->w_format].encoding == SSMQ_ENCODING_INTEGER &&
           formats[precision->a_format].encoding == SSMQ_ENCODING_INTEGER;
}

int64_t ssmq_precision_weight_bytes(const ssmq_precision *precision, int64_t rows,
                                    int64_t columns) {
    if (precision->w_format == SSMQ_FORMAT_FLOAT) {
        return rows * columns * (int64_t)ssmq_dtype_bytes(precision->dtype);
    }
    const int64_t row_bytes = (columns * formats[precision->w_format].bits + 7) / 8;
    const int64_t n_scales = ssmq_scales_per_row(columns, precision->group_size);
    return rows * (row_bytes + (int64_t)sizeof(float) * n_scales);
}

const char *ssmq_precision_calib_method(const ssmq_precision *precision) {
#define WEIGHTS(w)                                                                                 \
    { ROW(w " weights per channel"), ROW(w " weights per group") }
#define ROW(w)                                                                                     \
    {                                                                                              \
        "absmax: " w, "absmax: " w ", dynamic int8 activations per token",                         \
            "absmax: " w ", dynamic int4 activations per token",                                   \
            "absmax: " w ", dynamic fp8_e4m3 activations per token"                                \
    }
    static const char *const texts[SSMQ_N_FORMATS][2][SSMQ_N_FORMATS] = {
        WEIGHTS("float"), WEIGHTS("int8"), WEIGHTS("int4"), WEIGHTS("fp8_e4m3")};
    _Static_assert(SSMQ_N_FORMATS == 4, "a row and a column for each format");
#undef ROW
#undef WEIGHTS
    if (!ssmq_precision_is_quantized(precision)) return "none";
    return texts[precision->w_format][precision->group_size > 0][precision->a_format];
}
