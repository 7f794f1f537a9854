/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/device.cuh - what kernels of all operations share: number types and sums. */
#ifndef SSMQ_ENGINE_CUDA_DEVICE_CUH
#define SSMQ_ENGINE_CUDA_DEVICE_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "engine/cuda/check.h"
#include "engine/cuda/cuda.h"

enum { WARP = 32 };

static __device__ __forceinline__ float to_float(float x) {
    return x;
}
static __device__ __forceinline__ float to_float(__half x) {
    return __half2float(x);
}
static __device__ __forceinline__ float to_float(__nv_bfloat16 x) {
    return __bfloat162float(x);
}

/* Round to nearest even. */
template <typename CT> static __device__ __forceinline__ CT from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) {
    return x;
}
template <> __device__ __forceinline__ __half from_float<__half>(float x) {
    return __float2half_rn(x);
}
template <> __device__ __forceinline__ __nv_bfloat16 from_float<__nv_bfloat16>(float x) {
    return __float2bfloat16_rn(x);
}

/* Two numbers, each rounded to nearest even, in one instruction. */
template <typename CT> static __device__ __forceinline__ uint32_t pack(float low, float high);
template <> __device__ __forceinline__ uint32_t pack<__half>(float low, float high) {
    const __half2 both = __floats2half2_rn(low, high);
    return *(const uint32_t *)&both;
}
template <> __device__ __forceinline__ uint32_t pack<__nv_bfloat16>(float low, float high) {
    const __nv_bfloat162 both = __floats2bfloat162_rn(low, high);
    return *(const uint32_t *)&both;
}

/* At most 16 bytes of numbers that move as one access. */
template <typename CT, int n> struct alignas(n * sizeof(CT)) packet { CT v[n]; };

template <int n_bytes> struct word_of;
template <> struct word_of<2> { using type = uint16_t; };
template <> struct word_of<4> { using type = uint32_t; };
template <> struct word_of<8> { using type = uint2; };
template <> struct word_of<16> { using type = uint4; };

/* Assignment would move 16-bit numbers one by one: they are classes. */
template <typename CT, int n>
static __device__ __forceinline__ packet<CT, n> load_packet(const CT *from) {
    using word = typename word_of<n * sizeof(CT)>::type;
    packet<CT, n> part;
    *(word *)&part = *(const word *)from;
    return part;
}
template <typename CT, int n>
static __device__ __forceinline__ void store_packet(CT *to, const packet<CT, n> &part) {
    using word = typename word_of<n * sizeof(CT)>::type;
    /* By intrinsic: the compiler splits an assignment of 16 bytes that were made in pieces. */
    if constexpr (sizeof(word) == sizeof(uint16_t)) {
        *(word *)to = *(const word *)&part;
    } else {
        __stwb((word *)to, *(const word *)&part);
    }
}

/* n numbers as fp32, which memory holds as CT in accesses of up to 16 bytes; n is a power of two,
 * and the address a multiple of n * sizeof(CT) or of 16. */
template <typename CT, int n> struct vec_of {
    static constexpr int width = n * sizeof(CT) <= 16 ? n : (int)(16 / sizeof(CT));
    float v[n];
    __device__ __forceinline__ void load(const CT *from) {
        for (int i = 0; i < n / width; i++) {
            const packet<CT, width> part = load_packet<CT, width>(from + i * width);
            for (int k = 0; k < width; k++) v[i * width + k] = to_float(part.v[k]);
        }
    }
    __device__ __forceinline__ void store(CT *to) const {
        for (int i = 0; i < n / width; i++) {
            packet<CT, width> part;
            if constexpr (sizeof(CT) == 2 && width % 2 == 0) {
                uint32_t *pairs = (uint32_t *)&part;
                for (int k = 0; k < width; k += 2) {
                    pairs[k / 2] = pack<CT>(v[i * width + k], v[i * width + k + 1]);
                }
            } else {
                for (int k = 0; k < width; k++) part.v[k] = from_float<CT>(v[i * width + k]);
            }
            store_packet<CT, width>(to + i * width, part);
        }
    }
};

/* The same numbers as memory holds them, for loads that nobody waits for yet: in whole words, since
 * to cut one into its numbers is to wait for it. */
template <typename CT, int n> struct packets_of {
    static constexpr int width = vec_of<CT, n>::width;
    using word = typename word_of<width * sizeof(CT)>::type;
    word parts[n / width];
    __device__ __forceinline__ void load(const CT *from) {
        for (int i = 0; i < n / width; i++) parts[i] = *(const word *)(from + i * width);
    }
    __device__ __forceinline__ packet<CT, width> part(int i) const {
        return *(const packet<CT, width> *)&parts[i];
    }
    __device__ __forceinline__ vec_of<CT, n> numbers() const {
        vec_of<CT, n> out;
        for (int i = 0; i < n / width; i++) {
            const packet<CT, width> numbers = part(i);
            for (int k = 0; k < width; k++) out.v[i * width + k] = to_float(numbers.v[k]);
        }
        return out;
    }
};

/* Each number as CT would have it. */
template <typename CT, int n> static __device__ __forceinline__ void round_as(float (&x)[n]) {
    if constexpr (sizeof(CT) == 2 && n % 2 == 0) {
        for (int k = 0; k < n; k += 2) {
            const uint32_t pair = pack<CT>(x[k], x[k + 1]);
            const packet<CT, 2> both = *(const packet<CT, 2> *)&pair;
            x[k] = to_float(both.v[0]);
            x[k + 1] = to_float(both.v[1]);
        }
    } else {
        for (int k = 0; k < n; k++) x[k] = to_float(from_float<CT>(x[k]));
    }
}

/* x / (1 + exp(-x)), with approximations of 2 ulp each where 16 bits are what is kept. */
template <typename CT> static __device__ __forceinline__ float type_silu(float x) {
    if constexpr (sizeof(CT) == sizeof(float)) {
        return x / (1.0f + expf(-x));
    } else {
        const float minus_log2_e = -1.442695041f;
        float power, inverse;
        asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * minus_log2_e));
        asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(1.0f + power));
        return x * inverse;
    }
}

static __device__ __forceinline__ float softplus(float x) {
    return x > 20.0f ? x : log1pf(expf(x));
}

/* Sum over the lanes of a warp, in an order of its own, the same in every lane. */
static __device__ __forceinline__ float warp_sum(float x) {
    for (int step = WARP / 2; step > 0; step /= 2) x += __shfl_xor_sync(~0u, x, step);
    return x;
}

/* Calls f<CT>() for a dtype, as in  DISPATCH(p->dtype, CT, launch<CT>(...)). */
#define DISPATCH(dtype, CT, ...)                                                                   \
    do {                                                                                           \
        if ((dtype) == SSMQ_BF16) {                                                                \
            using CT = __nv_bfloat16;                                                              \
            __VA_ARGS__;                                                                           \
        } else if ((dtype) == SSMQ_F16) {                                                          \
            using CT = __half;                                                                     \
            __VA_ARGS__;                                                                           \
        } else {                                                                                   \
            using CT = float;                                                                      \
            __VA_ARGS__;                                                                           \
        }                                                                                          \
    } while (0)

#endif
