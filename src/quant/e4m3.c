/* SPDX-License-Identifier: Apache-2.0 */
#include "quant/e4m3.h"

#include <math.h>

#include "base/bits.h"

enum {
    MANTISSA_BITS = 3,
    DROPPED_BITS = 23 - MANTISSA_BITS, /* of an fp32 mantissa */
    BIAS = 7,
    SIGN = 0x80,
    NAN_CODE = 0x7F,
    F32_BIAS = 127
};
static const float largest = 448.0f;
static const float least_normal = 0x1p-6f;
static const float least = 0x1p-9f;

/* Without branches. The clamp comes first, so that a carry out of the mantissa stays a number. */
static inline float round_value(float x) {
    /* Below 2^-6 values have the spacing 2^-9 of fp32 in [2^14, 2^15). */
    const float shift = 0x1.8p14f;
    const float magnitude = fabsf(x) < largest ? fabsf(x) : largest;
    const float normal = ssmq_round_mantissa(magnitude, DROPPED_BITS);
    const float small = (magnitude + shift) - shift;
    const float rounded = copysignf(magnitude < least_normal ? small : normal, x);
    return isnan(x) ? x : rounded;
}

float ssmq_e4m3_round(float x) {
    return round_value(x);
}

void ssmq_e4m3_round_scaled(const float *x, int64_t n, float scale, float *out) {
    for (int64_t i = 0; i < n; i++) out[i] = round_value(x[i] / scale);
}

uint8_t ssmq_e4m3_encode(float x) {
    const float value = round_value(x);
    const int sign = signbit(x) ? SIGN : 0;
    const float magnitude = fabsf(value);
    if (isnan(x)) return (uint8_t)(sign | NAN_CODE);
    if (magnitude < least_normal) return (uint8_t)(sign | (int)(magnitude / least));
    const int exponent_and_mantissa = (int)(ssmq_bits_of_f32(magnitude) >> DROPPED_BITS);
    return (uint8_t)(sign | (exponent_and_mantissa - ((F32_BIAS - BIAS) << MANTISSA_BITS)));
}

float ssmq_e4m3_decode(uint8_t code) {
    const int exponent = (code & NAN_CODE) >> MANTISSA_BITS;
    const int mantissa = code & ((1 << MANTISSA_BITS) - 1);
    const float sign = (code & SIGN) != 0 ? -1.0f : 1.0f;
    if ((code & NAN_CODE) == NAN_CODE) return NAN;
    if (exponent == 0) return sign * least * (float)mantissa;
    return sign * ldexpf((float)((1 << MANTISSA_BITS) + mantissa), exponent - BIAS - MANTISSA_BITS);
}
