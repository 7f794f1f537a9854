/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/quant.cuh - numbers to codes and exact sums to numbers, as parts of other kernels
 * (design section 5). Every rounding is written out as an intrinsic: the compiler must not fuse a
 * multiplication with an addition where the reference does not. */
#ifndef SSMQ_ENGINE_CUDA_QUANT_CUH
#define SSMQ_ENGINE_CUDA_QUANT_CUH

#include <cuda_fp8.h>

#include "engine/cuda/device.cuh"

template <bool is_fp8>
static __device__ __forceinline__ uint8_t code_of(float x, float scale, float qmax) {
    const float ratio = __fdiv_rn(x, scale);
    if constexpr (is_fp8) {
        return __nv_cvt_float_to_fp8(ratio, __NV_SATFINITE, __NV_E4M3);
    } else {
        const float q = rintf(ratio);
        /* In this order NaN becomes -qmax; its scale keeps it from being lost. */
        const float clamped = q > qmax ? qmax : (q > -qmax ? q : -qmax);
        return (uint8_t)(int8_t)(int)clamped;
    }
}

/* Magnitudes compare as their bits do, with NaN over infinity, so that NaN is not lost. */
static __device__ __forceinline__ unsigned magnitude_of(float x) {
    return __float_as_uint(x) & 0x7fffffffu;
}

/* Largest over the block, in every thread. */
static __device__ __forceinline__ unsigned block_max(unsigned x) {
    __shared__ unsigned of_warp[WARP];
    for (int step = WARP / 2; step > 0; step /= 2) {
        const unsigned other = __shfl_xor_sync(~0u, x, step);
        x = x > other ? x : other;
    }
    if (threadIdx.x % WARP == 0) of_warp[threadIdx.x / WARP] = x;
    __syncthreads();
    unsigned largest = 0;
    for (unsigned i = 0; i < blockDim.x / WARP; i++) {
        largest = largest > of_warp[i] ? largest : of_warp[i];
    }
    return largest;
}

/* The scale of numbers whose largest magnitude has these bits. */
static __device__ __forceinline__ float scale_of(unsigned largest, float qmax) {
    const float scale = __fdiv_rn(__uint_as_float(largest), qmax);
    return scale == 0.0f ? 1.0f : scale;
}

template <int vec> struct alignas(vec) code_packet { uint8_t v[vec]; };

/* The number of an exact sum, not yet rounded to CT. */
static __device__ __forceinline__ float scaled_sum(int32_t sum, float row, float column) {
    return __fmul_rn(__fmul_rn(__int2float_rn(sum), row), column);
}

/* n numbers of a product's row, rounded to CT. row: its scale, or anything where there is none. */
template <typename CT, int n>
static __device__ __forceinline__ void load_product(const cuda_product &p, int64_t m,
                                                    int64_t column, float row, vec_of<CT, n> &out) {
    if (p.row_scales == NULL) {
        out.load((const CT *)p.y + m * p.ld + column);
        return;
    }
    const int32_t *sums = (const int32_t *)p.y + m * p.ld + column;
    constexpr int width = n < 4 ? n : 4;
    for (int i = 0; i < n; i += width) {
        const packet<int32_t, width> part = load_packet<int32_t, width>(sums + i);
        const packet<float, width> scale = load_packet<float, width>(p.column_scales + column + i);
        for (int k = 0; k < width; k++) {
            out.v[i + k] = to_float(from_float<CT>(scaled_sum(part.v[k], row, scale.v[k])));
        }
    }
}

/* The scale of row m; 1 where the product is in CT. */
static __device__ __forceinline__ float row_scale(const cuda_product &p, int64_t m) {
    return p.row_scales != NULL ? p.row_scales[m] : 1.0f;
}

#endif
