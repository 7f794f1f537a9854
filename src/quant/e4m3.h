/* SPDX-License-Identifier: Apache-2.0 */
/* quant/e4m3.h - the 8-bit float of OCP "8-bit Floating Point Specification" 1.0, E4M3 (elsewhere
 * float8_e4m3fn): a sign, 4 exponent bits with bias 7, 3 mantissa bits.
 *
 *   exponent 1..15   (1 + m / 8) * 2^(exponent - 7)   2^-6 to 448; 15 with m = 7 is NaN
 *   exponent 0       m / 8 * 2^-6                     0 and subnormals, 2^-9 to 7 * 2^-9
 *
 * There is no infinity: codes 0x7F and 0xFF are NaN, everything else is a number. Every value, and
 * every product of two, is exact in fp32, and a value also in bf16 and fp16. */
#ifndef SSMQ_QUANT_E4M3_H
#define SSMQ_QUANT_E4M3_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The value nearest to x, ties to the even mantissa, saturating: beyond 448, infinity included, it
 * is 448 with the sign of x. NaN stays NaN, a zero keeps its sign. */
float ssmq_e4m3_round(float x);

/* Code of ssmq_e4m3_round(x); 0x7F or 0xFF for NaN. */
uint8_t ssmq_e4m3_encode(float x);

/* Value of a code; NaN for 0x7F and 0xFF. */
float ssmq_e4m3_decode(uint8_t code);

/* out[i] = ssmq_e4m3_round(x[i] / scale), in a loop that becomes vectors. */
void ssmq_e4m3_round_scaled(const float *x, int64_t n, float scale, float *out);

#ifdef __cplusplus
}
#endif
#endif
