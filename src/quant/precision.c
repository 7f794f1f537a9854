/* SPDX-License-Identifier: Apache-2.0 */
#include "quant/precision.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "quant/quantize.h"

static const ssmq_format_info formats[SSMQ_N_FORMATS] = {
#define X(code, name, bits, qmax, encoding, group_size, suffix)                                    \
    {name, bits, qmax, SSMQ_ENCODING_##encoding, group_size, suffix},
    SSMQ_FORMAT_TABLE(X)
#undef X
};

/* Named points of the ladder. A compute type of -1 takes the prefix of the name, or bf16. */
static const struct {
    const char *name;
    int dtype;
    ssmq_format w_format;
    ssmq_format a_format;
} ladder[] = {
    {"fp32", SSMQ_F32, SSMQ_FORMAT_FLOAT, SSMQ_FORMAT_FLOAT},
    {"fp16", SSMQ_F16, SSMQ_FORMAT_FLOAT, SSMQ_FORMAT_FLOAT},
    {"bf16", SSMQ_BF16, SSMQ_FORMAT_FLOAT, SSMQ_FORMAT_FLOAT},
    {"w8a8", -1, SSMQ_FORMAT_INT8, SSMQ_FORMAT_INT8},
    {"w4a8", -1, SSMQ_FORMAT_INT4, SSMQ_FORMAT_INT8},
    {"w4a4", -1, SSMQ_FORMAT_INT4, SSMQ_FORMAT_INT4},
    {"w8a8-fp8", -1, SSMQ_FORMAT_FP8_E4M3, SSMQ_FORMAT_FP8_E4M3},
    {"w8a16", -1, SSMQ_FORMAT_INT8, SSMQ_FORMAT_FLOAT},
    {"w4a16", -1, SSMQ_FORMAT_INT4, SSMQ_FORMAT_FLOAT},
    {"w16a8", -1, SSMQ_FORMAT_FLOAT, SSMQ_FORMAT_INT8},
    {"w16a4", -1, SSMQ_FORMAT_FLOAT, SSMQ_FORMAT_INT4},
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

bool ssmq_format_from_bits(int64_t bits, ssmq_format *out) {
    for (int i = 0; i < SSMQ_N_FORMATS; i++) {
        if (i == SSMQ_FORMAT_FLOAT || formats[i].bits != bits) continue;
        *out = (ssmq_format)i;
        return true;
    }
    return false;
}

void ssmq_format_add_names(ssmq_str *out, const char *separator) {
    for (int i = 0; i < SSMQ_N_FORMATS; i++) {
        ssmq_str_addf(out, "%s%s", i > 0 ? separator : "", formats[i].name);
    }
}

void ssmq_format_add_bits(ssmq_str *out, const char *separator) {
    enum { MOST_BITS = 32 };
    const char *before = "";
    for (int64_t bits = 1; bits < MOST_BITS; bits++) {
        ssmq_format unused = SSMQ_FORMAT_FLOAT;
        if (!ssmq_format_from_bits(bits, &unused)) continue;
        ssmq_str_addf(out, "%s%d", before, (int)bits);
        before = separator;
    }
}

void ssmq_precision_add_ladder(ssmq_str *out) {
    for (int i = 0; i < N_LADDER; i++) {
        ssmq_str_addf(out, "%s%s", i > 0 ? ", " : "", ladder[i].name);
    }
}

static ssmq_status unknown(const char *text, ssmq_err *err) {
    ssmq_str names;
    ssmq_str_init(&names, SSMQ_ERR_TEXT_BYTES);
    ssmq_precision_add_ladder(&names);
    const ssmq_status status = SSMQ_FAIL(
        err, CONFIG,
        "'%.64s' is no precision; allowed are %s, quantized ones with a compute type before them "
        "(fp32:w8a8) and weights a scale behind them (w4a8:g64, w4a8:channel)",
        text, ssmq_str_get(&names));
    ssmq_str_free(&names);
    return status;
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
    out->group_size = formats[out->w_format].group_size;
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

bool ssmq_precision_rounds_state(const ssmq_precision *precision) {
    return precision->state_dtype != SSMQ_F32 || precision->state_format != SSMQ_FORMAT_FLOAT;
}

const char *ssmq_precision_state_name(const ssmq_precision *precision) {
    return precision->state_format == SSMQ_FORMAT_FLOAT ? ssmq_dtype_name(precision->state_dtype)
                                                        : formats[precision->state_format].name;
}

const char *ssmq_precision_state_rounding(const ssmq_precision *precision) {
    return precision->state_is_stochastic ? "stochastic" : "nearest";
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

/* Without memory of its own: a record must not lose its text for want of it. */
void ssmq_precision_calib_method(const ssmq_precision *precision, char *out, size_t bytes) {
    enum { PART_BYTES = 64 };
    char weights[PART_BYTES] = "", activations[PART_BYTES] = "";
    const bool has_weights = precision->w_format != SSMQ_FORMAT_FLOAT;
    const bool has_activations = precision->a_format != SSMQ_FORMAT_FLOAT;
    if (!has_weights && !has_activations) {
        ssmq_field_set(out, bytes, "none");
        return;
    }
    if (has_weights) {
        (void)snprintf(weights, sizeof weights, "%s weights per %s",
                       formats[precision->w_format].name,
                       precision->group_size > 0 ? "group" : "channel");
    }
    if (has_activations) {
        (void)snprintf(activations, sizeof activations, "dynamic %s activations per token",
                       formats[precision->a_format].name);
    }
    (void)snprintf(out, bytes, "absmax: %s%s%s", weights,
                   has_weights && has_activations ? ", " : "", activations);
}
