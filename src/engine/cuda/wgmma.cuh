/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/wgmma.cuh - products by the tensor cores of compute capability 9.0, as a warpgroup of
 * 128 threads asks for them: D [64, 64] in registers += A [64, 16] B [16, 64] (PTX ISA,
 * "Asynchronous Warpgroup Level Matrix Multiply-Accumulate"). Warp w of the group has rows 16 w and
 * up, with the fragments of A and D of mma.m16n8k16 (ssd.cuh). Internal to ssd*.cu.
 *
 * B lies in shared memory, in tiles swizzled by piece_of() that begin at multiples of 1024 bytes.
 */
#ifndef SSMQ_ENGINE_CUDA_WGMMA_CUH
#define SSMQ_ENGINE_CUDA_WGMMA_CUH

#include "engine/cuda/ssd.cuh"

enum {
    WGMMA_THREADS = 128,
    WGMMA_COLUMNS = 64 /* of D and B */
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL
#define SSMQ_HAS_WGMMA 1
#endif

/* Rows of a tile, which are B's rows, as the tensor cores are told of them: swizzled over 128
 * bytes, eight rows after eight rows, in units of 16 bytes. */
static __device__ __forceinline__ uint64_t wgmma_tile(uint32_t address) {
    const uint64_t swizzle = (uint64_t)1 << 62, eight_rows = 8 * 128 >> 4;
    return swizzle | eight_rows << 32 | eight_rows << 16 | (address & 0x3ffffu) >> 4;
}

/* What threads wrote to shared memory themselves, cp.async among it, is there for the products of
 * all, once they have also met at a barrier. */
static __device__ __forceinline__ void wgmma_publish() {
#ifdef SSMQ_HAS_WGMMA
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

/* Before the first product that uses registers which something else wrote. */
static __device__ __forceinline__ void wgmma_begin() {
#ifdef SSMQ_HAS_WGMMA
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}
static __device__ __forceinline__ void wgmma_commit() {
#ifdef SSMQ_HAS_WGMMA
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}
/* Until all products are done; d [n][4] is what they summed into, and is not read before. */
template <int n> static __device__ __forceinline__ void wgmma_wait(float (*d)[4]) {
#ifdef SSMQ_HAS_WGMMA
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#endif
    for (int i = 0; i < n; i++) {
        for (int k = 0; k < 4; k++) asm volatile("" : "+f"(d[i][k])::"memory");
    }
}

/* d = a times 16 rows of a tile, added to d if is_sum. */
template <typename CT>
static __device__ __forceinline__ void wgmma_multiply(float (*d)[4], const uint32_t (&a)[4],
                                                      uint64_t rows, int is_sum);
#ifdef SSMQ_HAS_WGMMA
#define WGMMA_D(i) "+f"(d[i][0]), "+f"(d[i][1]), "+f"(d[i][2]), "+f"(d[i][3])
#define WGMMA(CT, type)                                                                            \
    template <>                                                                                    \
    __device__ __forceinline__ void wgmma_multiply<CT>(float(*d)[4], const uint32_t(&a)[4],        \
                                                       uint64_t rows, int is_sum) {                \
        asm volatile("{ .reg .pred p; setp.ne.b32 p, %37, 0; "                                     \
                     "wgmma.mma_async.sync.aligned.m64n64k16.f32." type "." type                   \
                     " {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,"    \
                     "%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, {%32,%33,%34,%35}, %36, "  \
                     "p, 1, 1, 1; }"                                                               \
                     : WGMMA_D(0), WGMMA_D(1), WGMMA_D(2), WGMMA_D(3), WGMMA_D(4), WGMMA_D(5),     \
                       WGMMA_D(6), WGMMA_D(7)                                                      \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(rows), "r"(is_sum));        \
    }
WGMMA(__nv_bfloat16, "bf16")
WGMMA(__half, "f16")
#else
template <typename CT>
static __device__ __forceinline__ void wgmma_multiply(float (*)[4], const uint32_t (&)[4], uint64_t,
                                                      int) {
}
#endif

#endif
