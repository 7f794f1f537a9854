/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cpu/round.c - rounding through 16 bits for whole arrays: ssmq_round_to() without branches,
 * so that the compiler makes vectors of it. */
#include <math.h>

#include "base/bits.h"
#include "engine/cpu/cpu.h"

static float to_bf16(float x) {
    const float rounded = ssmq_round_mantissa(x, 16);
    return isnan(x) ? x : rounded;
}

static float to_f16(float x) {
    /* Below 2^-14 fp16 has the spacing 2^-24 of fp32 in [0.5, 1). */
    const float least_normal = 0x1p-14f;
    const float shift = 0.75f;
    const float overflow = 65520.0f;
    const float magnitude = fabsf(x);
    const float small = (magnitude + shift) - shift;
    const float normal = ssmq_round_mantissa(magnitude, 13);
    float rounded = magnitude < least_normal ? small : normal;
    rounded = magnitude >= overflow ? INFINITY : rounded;
    return isnan(x) ? x : copysignf(rounded, x);
}

void cpu_round(float *x, int64_t n, ssmq_dtype dtype) {
    if (dtype == SSMQ_BF16) {
        for (int64_t i = 0; i < n; i++) x[i] = to_bf16(x[i]);
    } else if (dtype == SSMQ_F16) {
        for (int64_t i = 0; i < n; i++) x[i] = to_f16(x[i]);
    }
}
