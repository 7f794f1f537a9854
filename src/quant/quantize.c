/* SPDX-License-Identifier: Apache-2.0 */
#include "quant/quantize.h"

#include <math.h>

#include "base/bits.h"
#include "quant/e4m3.h"

/* What an encoding does with x / scale, a value, a code. */
typedef struct codec {
    void (*round_scaled)(const float *x, int64_t n, float scale, float qmax, float *out);
    int8_t (*encode)(float value);
    float (*decode)(int8_t code);
} codec;

static void round_integers(const float *x, int64_t n, float scale, float qmax, float *out) {
    /* rintf rounds half to even in the default mode. The clamp serves a subnormal absmax, whose
     * scale may round down so far that a quotient exceeds qmax. */
    for (int64_t i = 0; i < n; i++) {
        const float q = rintf(x[i] / scale);
        out[i] = q > qmax ? qmax : (q > -qmax ? q : -qmax);
    }
}

static int8_t encode_integer(float value) {
    return (int8_t)value;
}

static float decode_integer(int8_t code) {
    return (float)code;
}

static void round_e4m3(const float *x, int64_t n, float scale, float qmax, float *out) {
    (void)qmax; /* saturates there by itself */
    ssmq_e4m3_round_scaled(x, n, scale, out);
}

static int8_t encode_e4m3(float value) {
    return (int8_t)ssmq_e4m3_encode(value);
}

static float decode_e4m3(int8_t code) {
    return ssmq_e4m3_decode((uint8_t)code);
}

static const codec codecs[SSMQ_N_ENCODINGS] = {
    [SSMQ_ENCODING_INTEGER] = {round_integers, encode_integer, decode_integer},
    [SSMQ_ENCODING_E4M3] = {round_e4m3, encode_e4m3, decode_e4m3},
};

float ssmq_quantize_scale(const float *x, int64_t n, ssmq_format format) {
    /* Magnitudes compare as their bits do, with NaN over infinity, so that NaN is not lost. */
    uint32_t largest = 0;
    for (int64_t i = 0; i < n; i++) {
        const uint32_t bits = ssmq_bits_of_f32(x[i]) & 0x7fffffffu;
        largest = bits > largest ? bits : largest;
    }
    const float scale = ssmq_f32_of_bits(largest) / (float)ssmq_format_get(format)->qmax;
    return scale == 0.0f ? 1.0f : scale;
}

float ssmq_quantize_values(const float *x, int64_t n, ssmq_format format, float *out) {
    const ssmq_format_info *info = ssmq_format_get(format);
    const float scale = ssmq_quantize_scale(x, n, format);
    codecs[info->encoding].round_scaled(x, n, scale, (float)info->qmax, out);
    return scale;
}

float ssmq_quantize_block(const float *x, int64_t n, ssmq_format format, int8_t *out) {
    const ssmq_format_info *info = ssmq_format_get(format);
    const codec *c = &codecs[info->encoding];
    const float scale = ssmq_quantize_scale(x, n, format);
    for (int64_t i = 0; i < n; i++) {
        float value = 0.0f;
        c->round_scaled(&x[i], 1, scale, (float)info->qmax, &value);
        out[i] = c->encode(value);
    }
    return scale;
}

void ssmq_quantize_decode(const int8_t *codes, int64_t n, ssmq_format format, float *out) {
    const codec *c = &codecs[ssmq_format_get(format)->encoding];
    for (int64_t i = 0; i < n; i++) out[i] = c->decode(codes[i]);
}

int64_t ssmq_scales_per_row(int64_t columns, int32_t group_size) {
    return group_size > 0 ? (columns + group_size - 1) / group_size : 1;
}

void ssmq_quantize_weight(const float *w, int64_t rows, int64_t columns, ssmq_format format,
                          int32_t group_size, int8_t *q, float *scales) {
    const int64_t n_scales = ssmq_scales_per_row(columns, group_size);
    const int64_t width = group_size > 0 ? group_size : columns;
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t s = 0; s < n_scales; s++) {
            const int64_t first = s * width;
            const int64_t n = columns - first < width ? columns - first : width;
            const int64_t at = row * columns + first;
            scales[row * n_scales + s] = ssmq_quantize_block(w + at, n, format, q + at);
        }
    }
}

void ssmq_pack_int4(const int8_t *q, int64_t rows, int64_t columns, uint8_t *packed) {
    const int64_t row_bytes = (columns + 1) / 2;
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t i = 0; i < row_bytes; i++) {
            const int8_t *pair = q + row * columns + 2 * i;
            const int8_t high = 2 * i + 1 < columns ? pair[1] : 0;
            packed[row * row_bytes + i] = (uint8_t)((pair[0] & 0xF) | (high & 0xF) << 4);
        }
    }
}

static int8_t from_nibble(int nibble) {
    return (int8_t)((nibble ^ 8) - 8);
}

void ssmq_unpack_int4(const uint8_t *packed, int64_t rows, int64_t columns, int8_t *q) {
    const int64_t row_bytes = (columns + 1) / 2;
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t i = 0; i < columns; i++) {
            const uint8_t byte = packed[row * row_bytes + i / 2];
            q[row * columns + i] = from_nibble(i % 2 == 0 ? byte & 0xF : byte >> 4);
        }
    }
}
