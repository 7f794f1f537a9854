/* SPDX-License-Identifier: Apache-2.0 */
/* quant/quantize.h - scalar reference quantizers: symmetric, scale = absmax / qmax in fp32, x /
 * scale to the nearest value of the format, half to even, clamped; a row, group or token of zeros
 * has scale 1. x is then about value * scale.
 *
 * A quantized value is stored as one byte, its code: int8 and int4 the integer itself (int4 can be
 * packed further), fp8_e4m3 the bits of quant/e4m3.h. */
#ifndef SSMQ_QUANT_QUANTIZE_H
#define SSMQ_QUANT_QUANTIZE_H

#include <stdint.h>

#include "quant/precision.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Scale of n values that share one: absmax / qmax; 1 where that is zero; not finite where a value
 * is not, so that a fault stays visible in the product. */
float ssmq_quantize_scale(const float *x, int64_t n, ssmq_format format);

/* n values that share a scale: out[n] as values of the format, in [-qmax, qmax]; returns the scale.
 * format is not FLOAT, here and below. */
float ssmq_quantize_values(const float *x, int64_t n, ssmq_format format, float *out);

/* The same as codes. */
float ssmq_quantize_block(const float *x, int64_t n, ssmq_format format, int8_t *out);

/* Values of n codes: exact. */
void ssmq_quantize_decode(const int8_t *codes, int64_t n, ssmq_format format, float *out);

/* Scales of a row of `columns` values: 1, or one per group of group_size (a last shorter group is
 * allowed). */
int64_t ssmq_scales_per_row(int64_t columns, int32_t group_size);

/* A weight matrix [rows, columns] into codes q [rows, columns] and scales
 * [rows, ssmq_scales_per_row]. */
void ssmq_quantize_weight(const float *w, int64_t rows, int64_t columns, ssmq_format format,
                          int32_t group_size, int8_t *q, float *scales);

/* Two int4 values to a byte, low nibble first, two's complement; a row of odd length ends in a
 * zero nibble. packed is [rows, (columns + 1) / 2]. */
void ssmq_pack_int4(const int8_t *q, int64_t rows, int64_t columns, uint8_t *packed);
void ssmq_unpack_int4(const uint8_t *packed, int64_t rows, int64_t columns, int8_t *q);

#ifdef __cplusplus
}
#endif
#endif
