/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/quant.h - numbers to codes and back, on the device (quant.cu). Internal to this
 * folder. Bits are those of quant/quantize.h. Launches only; every call fails with DEVICE, and only
 * then. Matrices begin at multiples of 16 bytes. */
#ifndef SSMQ_ENGINE_CUDA_QUANT_H
#define SSMQ_ENGINE_CUDA_QUANT_H

#include "engine/cuda/linear.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Codes of x [rows, K]; int4 is left one to a byte. Padding of a row's last group is zeroed, that
 * of groups before it is not touched. */
typedef struct cuda_quantize_call {
    const void *x;
    ssmq_dtype dtype;
    int64_t rows;
    cuda_code_shape shape;
    ssmq_format format;
    bool by_group;  /* a scale for each group; otherwise one for the row */
    uint8_t *codes; /* [rows, ld] */
    float *scales;  /* scale of (row, group) at row + group * scale_stride */
    int64_t scale_stride;
    bool is_chained; /* see chain.cuh */
    cudaStream_t stream;
} cuda_quantize_call;
SSMQ_MUST_USE ssmq_status cuda_quantize(const cuda_quantize_call *call, ssmq_err *err);

/* n int4 codes, one to a byte, into n / 2 bytes, low nibble first, and back; n is a multiple of
 * 16. */
SSMQ_MUST_USE ssmq_status cuda_pack_int4(const uint8_t *codes, int64_t n, uint8_t *packed,
                                         cudaStream_t stream, ssmq_err *err);
SSMQ_MUST_USE ssmq_status cuda_unpack_int4(const uint8_t *packed, int64_t n, uint8_t *codes,
                                           cudaStream_t stream, ssmq_err *err);

/* w [N, K] of a quantized block (int8 or int4 weights), code * scale rounded to CT. */
SSMQ_MUST_USE ssmq_status cuda_dequantize_weights(const cuda_linear *linear,
                                                  const cuda_block *block, void *w,
                                                  cudaStream_t stream, ssmq_err *err);

/* y [M, rows of the block], from sums [n_groups, M, N]: int32, of which y is the sum over groups of
 * sum * s_x * s_w; or, of fp8, fp32 with both scales applied. Then bias, and rounding to CT. */
typedef struct cuda_dequantize_call {
    const cuda_linear *linear;
    const cuda_block *block;
    const void *sums;
    const float *x_scales; /* [M] */
    int64_t M;
    void *y; /* CT, the first row of Y [M, y_ld] as a whole */
    bool is_chained;
    cudaStream_t stream;
} cuda_dequantize_call;
SSMQ_MUST_USE ssmq_status cuda_dequantize(const cuda_dequantize_call *call, ssmq_err *err);

/* Codes to try a product with: runs of any code, of the largest and of the smallest. n is a
 * multiple of 16. */
SSMQ_MUST_USE ssmq_status cuda_draw_codes(uint8_t *codes, int64_t n, ssmq_format format,
                                          cudaStream_t stream, ssmq_err *err);

/* Sums [n_groups, M, N] of codes x [M, ld] and w [N, ld]: how many of the first row's, of one in
 * the middle and of the last are not the exact ones, into *n_wrong (device). */
typedef struct cuda_count_call {
    cuda_code_shape shape;
    const uint8_t *x, *w;
    const int32_t *sums;
    int64_t M, N;
    int32_t *n_wrong;
    cudaStream_t stream;
} cuda_count_call;
SSMQ_MUST_USE ssmq_status cuda_count_wrong(const cuda_count_call *call, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
