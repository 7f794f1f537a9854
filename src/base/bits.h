/* SPDX-License-Identifier: Apache-2.0 */
/* base/bits.h - fp32 numbers by their bits (IEEE 754 binary32), inline, so that loops over arrays
 * become vectors. */
#ifndef SSMQ_BASE_BITS_H
#define SSMQ_BASE_BITS_H

#include <stdint.h>
#include <string.h>

static inline uint32_t ssmq_bits_of_f32(float x) {
    uint32_t bits = 0;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline float ssmq_f32_of_bits(uint32_t bits) {
    float x = 0;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* The number whose lowest `dropped` mantissa bits (1 to 23) are 0, nearest to x, which is no NaN,
 * ties to even; a carry goes into the exponent, which is right. */
static inline float ssmq_round_mantissa(float x, int dropped) {
    const uint32_t bits = ssmq_bits_of_f32(x), half_less_one = (1u << (dropped - 1)) - 1u;
    return ssmq_f32_of_bits((bits + half_less_one + (bits >> dropped & 1u)) &
                            ~((1u << dropped) - 1u));
}

#endif
