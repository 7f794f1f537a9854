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

/* At most 16 bytes of numbers that move as one access. */
template <typename CT, int n> struct alignas(n * sizeof(CT)) packet { CT v[n]; };

/* n numbers as fp32, which memory holds as CT in accesses of up to 16 bytes; n is a power of two,
 * and the address a multiple of n * sizeof(CT) or of 16. */
template <typename CT, int n> struct vec_of {
    static constexpr int width = n * sizeof(CT) <= 16 ? n : (int)(16 / sizeof(CT));
    float v[n];
    __device__ __forceinline__ void load(const CT *from) {
        for (int i = 0; i < n / width; i++) {
            const packet<CT, width> part = ((const packet<CT, width> *)from)[i];
            for (int k = 0; k < width; k++) v[i * width + k] = to_float(part.v[k]);
        }
    }
    __device__ __forceinline__ void store(CT *to) const {
        for (int i = 0; i < n / width; i++) {
            packet<CT, width> part;
            for (int k = 0; k < width; k++) part.v[k] = from_float<CT>(v[i * width + k]);
            ((packet<CT, width> *)to)[i] = part;
        }
    }
};

/* x / (1 + exp(-x)), with the fast exponential where 16 bits are what is kept. */
template <typename CT> static __device__ __forceinline__ float type_silu(float x) {
    const float power = sizeof(CT) == sizeof(float) ? expf(-x) : __expf(-x);
    return x / (1.0f + power);
}

static __device__ __forceinline__ float softplus(float x) {
    return x > 20.0f ? x : log1pf(expf(x));
}

/* Sum over the lanes of a warp, in an order of its own, the same in every lane. */
static __device__ __forceinline__ float warp_sum(float x) {
    for (int step = WARP / 2; step > 0; step /= 2) x += __shfl_xor_sync(~0u, x, step);
    return x;
}

/* A kernel launched by launch_chained() may begin while the one before it on the stream still ends.
 * Before it reads what others wrote, or writes anything, it calls this. */
static __device__ __forceinline__ void wait_for_predecessor() {
#if __CUDA_ARCH__ >= 900
    cudaGridDependencySynchronize();
#endif
}

/* Lets the next kernel of a chain begin; it still waits for all that this one writes. */
static __device__ __forceinline__ void release_successor() {
#if __CUDA_ARCH__ >= 900
    cudaTriggerProgrammaticLaunchCompletion();
#endif
}

/* How a kernel of a chain is launched. */
struct launch_shape {
    dim3 grid, block;
    size_t shared_bytes;
};

/* Launches a kernel that calls wait_for_predecessor(). */
template <typename... Parameters, typename... Arguments>
static ssmq_status launch_chained(void (*kernel)(Parameters...), const launch_shape &shape,
                                  const cuda_pass *p, ssmq_err *err, Arguments... arguments) {
    cudaLaunchAttribute attribute = {};
    attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attribute.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = shape.grid;
    config.blockDim = shape.block;
    config.dynamicSmemBytes = shape.shared_bytes;
    config.stream = p->stream;
    config.attrs = &attribute;
    config.numAttrs = p->is_chained ? 1 : 0;
    CUDA_TRY(cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...), err);
    return SSMQ_OK;
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
