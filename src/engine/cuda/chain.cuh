/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/chain.cuh - kernels that begin while their predecessor on the stream still ends
 * (programmatic dependent launch), and fetch what the next product will read. */
#ifndef SSMQ_ENGINE_CUDA_CHAIN_CUH
#define SSMQ_ENGINE_CUDA_CHAIN_CUH

#include "engine/cuda/check.h"
#include "engine/cuda/cuda.h"

/* A kernel launched by launch_chained() may begin while the one before it on the stream still ends.
 * Before it reads what others wrote, or writes anything, it calls this. */
static __device__ __forceinline__ void wait_for_predecessor() {
#if __CUDA_ARCH__ >= 900
    cudaGridDependencySynchronize();
#endif
}

/* Lets the next kernel of a chain begin; it still waits for all that this one writes. Called before
 * this one waits, kernels further down may begin too: none ends before its own wait has, so each
 * has waited for all before it. */
static __device__ __forceinline__ void release_successor() {
#if __CUDA_ARCH__ >= 900
    cudaTriggerProgrammaticLaunchCompletion();
#endif
}

/* One thread of block `block` of n_blocks asks for its share of what the next product reads to come
 * into the L2 cache, while nobody else uses the memory. A hint: no value depends on it. */
static __device__ __forceinline__ void prefetch_share(const cuda_prefetch &next, int64_t block,
                                                      int64_t n_blocks) {
#if __CUDA_ARCH__ >= 900
    const int64_t unit = 256;
    const int64_t share = (next.n_bytes / unit + n_blocks - 1) / n_blocks * unit;
    const int64_t first = block * share;
    const int64_t n_bytes = next.n_bytes - first < share ? next.n_bytes - first : share;
    if (n_bytes < unit || threadIdx.x != 0) return;
    asm volatile(
        "cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"((const char *)next.bytes + first),
        "r"((unsigned)(n_bytes / unit * unit)));
#else
    (void)next;
    (void)block;
    (void)n_blocks;
#endif
}

/* How a kernel of a chain is launched. */
struct launch_shape {
    dim3 grid, block;
    size_t shared_bytes;
};

/* All of a pass that launch_chained() reads, for launchers that belong to no layer. */
static inline cuda_pass chain_pass(cudaStream_t stream, bool is_chained) {
    cuda_pass p = {};
    p.stream = stream;
    p.is_chained = is_chained;
    return p;
}

/* Launches a kernel that calls wait_for_predecessor(). */
template <typename... Parameters, typename... Arguments>
static ssmq_status launch_chained(void (*kernel)(Parameters...), const launch_shape &shape,
                                  const cuda_pass *p, ssmq_err *err, Arguments... arguments) {
    cudaLaunchAttribute attributes[2] = {};
    attributes[0].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[0].val.programmaticStreamSerializationAllowed = 1;
    /* A multiprocessor divides its memory anew only when it is idle: all links ask for the same. */
    attributes[1].id = cudaLaunchAttributePreferredSharedMemoryCarveout;
    attributes[1].val.sharedMemCarveout = cudaSharedmemCarveoutMaxShared;
    cudaLaunchConfig_t config = {};
    config.gridDim = shape.grid;
    config.blockDim = shape.block;
    config.dynamicSmemBytes = shape.shared_bytes;
    config.stream = p->stream;
    config.attrs = attributes;
    config.numAttrs = p->is_chained ? 2 : 0;
    CUDA_TRY(cudaLaunchKernelEx(&config, kernel, Parameters(arguments)...), err);
    return SSMQ_OK;
}

#endif
