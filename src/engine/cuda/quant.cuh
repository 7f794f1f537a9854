/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/quant.cuh - numbers to codes and exact sums to numbers, as parts of other kernels
 * (design section 5). Every rounding is written out as an intrinsic: the compiler must not fuse a
 * multiplication with an addition where the reference does not. */
#ifndef SSMQ_ENGINE_CUDA_QUANT_CUH
#define SSMQ_ENGINE_CUDA_QUANT_CUH

#include <cuda_fp8.h>

#include "engine/cuda/device.cuh"

/* Magnitudes compare as their bits do, with NaN over infinity, so that NaN is not lost. */
static __device__ __forceinline__ unsigned magnitude_of(float x) {
    return __float_as_uint(x) & 0x7fffffffu;
}

/* Largest over the block, in every thread. */
static __device__ __forceinline__ unsigned block_max(unsigned x) {
    __shared__ unsigned of_warp[WARP];
    const unsigned lane = threadIdx.x % WARP;
    x = __reduce_max_sync(~0u, x);
    if (lane == 0) of_warp[threadIdx.x / WARP] = x;
    __syncthreads();
    return __reduce_max_sync(~0u, lane < blockDim.x / WARP ? of_warp[lane] : 0);
}

/* Makes codes of numbers that share a scale. */
struct quantizer {
    float scale, inverse, qmax;
    bool is_fp8, is_usual;
};

/* For numbers whose largest magnitude has these bits. */
static __device__ __forceinline__ quantizer quantizer_of(unsigned largest, float qmax,
                                                         bool is_fp8) {
    const float least = 0x1p-60f, most = 0x1p60f;
    const float scale = __fdiv_rn(__uint_as_float(largest), qmax);
    quantizer q = {scale == 0.0f ? 1.0f : scale, 0.0f, qmax, is_fp8, false};
    q.inverse = __frcp_rn(q.scale);
    q.is_usual = q.scale >= least && q.scale <= most;
    return q;
}

/* x / scale, rounded correctly where the scale is usual: from the rounded reciprocal, twice
 * corrected by the exact remainder (Markstein; Muller et al., Handbook of Floating-Point
 * Arithmetic, on division with a fused multiply-add). A remainder that underflows belongs to a code
 * of 0. */
static __device__ __forceinline__ float divided(const quantizer &q, float x) {
    float ratio = __fmul_rn(x, q.inverse);
    ratio = __fmaf_rn(__fmaf_rn(-q.scale, ratio, x), q.inverse, ratio);
    return __fmaf_rn(__fmaf_rn(-q.scale, ratio, x), q.inverse, ratio);
}

/* Of any number under any scale. */
static __device__ __forceinline__ uint8_t unusual_code(const quantizer &q, float x) {
    const float ratio = __fdiv_rn(x, q.scale);
    if (q.is_fp8) return __nv_cvt_float_to_fp8(ratio, __NV_SATFINITE, __NV_E4M3);
    const float rounded = rintf(ratio);
    /* In this order NaN becomes -qmax; its scale keeps it from being lost. */
    const float clamped = rounded > q.qmax ? q.qmax : (rounded > -q.qmax ? rounded : -q.qmax);
    return (uint8_t)(int8_t)(int)clamped;
}

template <int vec> struct alignas(vec) code_packet { uint8_t v[vec]; };

/* Codes of ratios that a usual scale leaves within those of the format. */
template <int vec>
static __device__ __forceinline__ code_packet<vec> codes_of(const quantizer &q,
                                                            const float (&ratio)[vec]) {
    code_packet<vec> packet;
    if (q.is_fp8) {
        for (int i = 0; i + 1 < vec; i += 2) {
            const __nv_fp8x2_storage_t pair = __nv_cvt_float2_to_fp8x2(
                make_float2(ratio[i], ratio[i + 1]), __NV_SATFINITE, __NV_E4M3);
            packet.v[i] = (uint8_t)pair;
            packet.v[i + 1] = (uint8_t)(pair >> 8);
        }
        if (vec == 1) packet.v[0] = __nv_cvt_float_to_fp8(ratio[0], __NV_SATFINITE, __NV_E4M3);
        return packet;
    }
    /* Whose last bit is a unit: the sum is rounded to the nearest even integer, in its low bits. */
    const float unit = 0x1.8p23f;
    for (int i = 0; i < vec; i++) packet.v[i] = (uint8_t)__float_as_uint(__fadd_rn(ratio[i], unit));
    return packet;
}

template <int vec>
static __device__ __forceinline__ void store_codes(const quantizer &q, const float (&x)[vec],
                                                   uint8_t *to) {
    code_packet<vec> packet;
    if (q.is_usual) {
        float ratio[vec];
        for (int i = 0; i < vec; i++) ratio[i] = divided(q, x[i]);
        packet = codes_of<vec>(q, ratio);
    } else {
        for (int i = 0; i < vec; i++) packet.v[i] = unusual_code(q, x[i]);
    }
    *(code_packet<vec> *)to = packet;
}

/* The number of an exact sum, not yet rounded to CT. */
static __device__ __forceinline__ float scaled_sum(int32_t sum, float row, float column) {
    return __fmul_rn(__fmul_rn(__int2float_rn(sum), row), column);
}

/* n neighbouring sums of a row as numbers of CT. row, columns: their scales. */
template <typename CT, int n>
static __device__ __forceinline__ void scale_sums(const packets_of<int32_t, n> &sums, float row,
                                                  const vec_of<float, n> &columns,
                                                  vec_of<CT, n> &out) {
    for (int i = 0; i < n; i++) {
        const int32_t sum = sums.part(i / sums.width).v[i % sums.width];
        out.v[i] = scaled_sum(sum, row, columns.v[i]);
    }
    round_as<CT, n>(out.v);
}

/* The scales of n columns of a product, for load_product(); nothing where it has none. They are
 * there before the product is. */
template <int n>
static __device__ __forceinline__ packets_of<float, n> column_scales(const cuda_product &p,
                                                                     int64_t column) {
    packets_of<float, n> scales = {};
    if (p.row_scales != NULL) scales.load(p.column_scales + column);
    return scales;
}

/* n numbers of a product's row, rounded to CT. row: its scale, or anything where there is none. */
template <typename CT, int n>
static __device__ __forceinline__ void
load_product(const cuda_product &p, int64_t m, int64_t column, float row,
             const packets_of<float, n> &columns, vec_of<CT, n> &out) {
    if (p.row_scales == NULL) {
        out.load((const CT *)p.y + m * p.ld + column);
        return;
    }
    packets_of<int32_t, n> sums;
    sums.load((const int32_t *)p.y + m * p.ld + column);
    scale_sums<CT, n>(sums, row, columns.numbers(), out);
}

/* The scale of row m; 1 where the product is in CT. */
static __device__ __forceinline__ float row_scale(const cuda_product &p, int64_t m) {
    return p.row_scales != NULL ? p.row_scales[m] : 1.0f;
}

/* Neighbouring numbers of a product's row as it left them, for loads that nobody waits for yet.
 * What numbers() is told, the scales of the columns, only sums need. */
template <typename CT, int vec, bool has_sums> struct product_part {
    packets_of<CT, vec> parts;
    __device__ __forceinline__ void load(const cuda_product &p, int64_t m, int64_t column) {
        parts.load((const CT *)p.y + m * p.ld + column);
    }
    __device__ __forceinline__ vec_of<CT, vec> numbers(const vec_of<float, vec> &) const {
        return parts.numbers();
    }
};
template <typename CT, int vec> struct product_part<CT, vec, true> {
    packets_of<int32_t, vec> sums;
    float scale;
    __device__ __forceinline__ void load(const cuda_product &p, int64_t m, int64_t column) {
        sums.load((const int32_t *)p.y + m * p.ld + column);
        scale = p.row_scales[m];
    }
    __device__ __forceinline__ vec_of<CT, vec> numbers(const vec_of<float, vec> &columns) const {
        vec_of<CT, vec> out;
        scale_sums<CT, vec>(sums, scale, columns, out);
        return out;
    }
};

#endif
