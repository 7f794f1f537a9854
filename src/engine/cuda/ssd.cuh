/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/ssd.cuh - what the kernels of the chunked scan share: tensor core products of 16-bit
 * operands, and tiles in shared memory whose 16-byte pieces are swizzled, so that the eight rows of
 * an ldmatrix lie in different banks. Internal to ssd*.cu.
 *
 * Fragments of mma.m16n8k16, with r = lane / 4 and q = lane % 4 (PTX ISA, "Matrix Fragments"):
 *     A  a[0] row r, columns 2q, 2q+1; a[1] row r + 8; a[2], a[3]: columns + 8
 *     B  b[0] rows 2q, 2q+1 of column r; b[1] rows + 8
 *     D  d[0], d[1] row r, columns 2q, 2q+1; d[2], d[3] row r + 8 */
#ifndef SSMQ_ENGINE_CUDA_SSD_CUH
#define SSMQ_ENGINE_CUDA_SSD_CUH

#include "engine/cuda/chain.cuh"
#include "engine/cuda/device.cuh"

enum {
    SSD_P = 64,               /* the head size that the chunked scan is made for */
    SSD_PIECE = 8,            /* numbers of a 16-byte piece */
    SSD_TILE = 16,            /* rows of A and depth of one product */
    SSD_SHARED_BYTES = 156160 /* the least a device must have for a block */
};

/* Product number d += a b. */
template <typename CT>
static __device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                           uint32_t b1);
template <>
__device__ __forceinline__ void mma<__half>(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                            uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
                 "{%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
template <>
__device__ __forceinline__ void mma<__nv_bfloat16>(float (&d)[4], const uint32_t (&a)[4],
                                                   uint32_t b0, uint32_t b1) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
        "{%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

static __device__ __forceinline__ uint32_t shared_address(const void *place) {
    return (uint32_t)__cvta_generic_to_shared(place);
}

/* Four 8x8 matrices; lane l names the address of row l % 8 of matrix l / 8 in shared memory. */
static __device__ __forceinline__ void ldmatrix(uint32_t (&out)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(address));
}
static __device__ __forceinline__ void ldmatrix_transposed(uint32_t (&out)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(address));
}

/* 16 bytes to shared memory, or zeros where the source has no such row and is not read. */
static __device__ __forceinline__ void copy_async(uint32_t address, const void *from,
                                                  bool is_there) {
    const int n_bytes = is_there ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(from),
                 "r"(n_bytes)
                 : "memory");
}
static __device__ __forceinline__ void copies_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
/* Until at most `pending` of the groups that this thread committed are under way. */
template <int pending> static __device__ __forceinline__ void copies_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

/* Address of piece `piece` of row `row` in a tile of `columns` numbers a row. From it, the piece
 * with other bits set in its number is an exclusive or away, and row + 8 n a constant: tiles begin
 * at multiples of their rows' size. */
template <typename CT>
static __device__ __forceinline__ uint32_t piece_of(const CT *tile, int columns, int row,
                                                    int piece) {
    return shared_address(tile) + (uint32_t)(row * columns * (int)sizeof(CT)) +
           (uint32_t)((piece ^ (row & 7)) * SSD_PIECE * (int)sizeof(CT));
}

/* Rows of up to a chunk, `columns` numbers each and ld numbers apart, into a tile, by all `threads`
 * of a block; those from n_rows on are zero. */
template <int columns, int threads, typename CT>
static __device__ __forceinline__ void load_rows(const CT *from, int64_t ld, int n_rows, CT *tile) {
    constexpr int pieces = columns / SSD_PIECE, step = threads / pieces;
    static_assert(step % 8 == 0 && CUDA_CHUNK_TOKENS % step == 0,
                  "rows of a thread are swizzled alike");
    const int row = threadIdx.x / pieces, piece = threadIdx.x % pieces;
    const uint32_t to = piece_of(tile, columns, row, piece);
    from += row * ld + piece * SSD_PIECE;
#pragma unroll
    for (int k = 0; k < CUDA_CHUNK_TOKENS / step; k++) {
        copy_async(to + (uint32_t)(k * step * columns * (int)sizeof(CT)), from,
                   row + k * step < n_rows);
        from += step * ld;
    }
}

/* Both numbers of a pair times their weights, rounded. */
template <typename CT>
static __device__ __forceinline__ uint32_t weigh(uint32_t pair, float low, float high) {
    const packet<CT, 2> both = *(const packet<CT, 2> *)&pair;
    return pack<CT>(to_float(both.v[0]) * low, to_float(both.v[1]) * high);
}

/* An A fragment whose columns are tokens, weighed; weights: of the lane's first one. */
template <typename CT>
static __device__ __forceinline__ void weigh_tokens(uint32_t (&a)[4], const float *weights) {
    const float2 low = *(const float2 *)weights, high = *(const float2 *)(weights + 8);
    a[0] = weigh<CT>(a[0], low.x, low.y);
    a[1] = weigh<CT>(a[1], low.x, low.y);
    a[2] = weigh<CT>(a[2], high.x, high.y);
    a[3] = weigh<CT>(a[3], high.x, high.y);
}

/* Lane q of four has pair q of tiles 0 to 3 in v; afterwards it has pairs 0 to 3 of tile q. */
static __device__ __forceinline__ void transpose_quad(uint32_t (&v)[4]) {
    const bool is_odd = threadIdx.x & 1, is_high = threadIdx.x & 2;
    const uint32_t a = __shfl_xor_sync(~0u, is_odd ? v[0] : v[1], 1);
    const uint32_t b = __shfl_xor_sync(~0u, is_odd ? v[2] : v[3], 1);
    const uint32_t v0 = is_odd ? a : v[0], v1 = is_odd ? v[1] : a;
    const uint32_t v2 = is_odd ? b : v[2], v3 = is_odd ? v[3] : b;
    const uint32_t c = __shfl_xor_sync(~0u, is_high ? v0 : v2, 2);
    const uint32_t d = __shfl_xor_sync(~0u, is_high ? v1 : v3, 2);
    v[0] = is_high ? c : v0;
    v[1] = is_high ? d : v1;
    v[2] = is_high ? v2 : c;
    v[3] = is_high ? v3 : d;
}

/* What both kernels of the chunked scan are told. */
struct ssd_call {
    cuda_ssd_call io;
    const float *D;
    int64_t T, T_pad, R_ld, di, conv_dim;
    int H, G, N, n_chunks;
};

/* cs and dt [CUDA_CHUNK_TOKENS] of a head's chunk to shared memory, by the block's first threads.
 */
static __device__ __forceinline__ void load_factors(const ssd_call &c, int64_t b, int h, int chunk,
                                                    float *cs, float *dt) {
    constexpr int pieces = CUDA_CHUNK_TOKENS / 4;
    const int64_t base = (b * c.H + h) * c.T_pad + (int64_t)chunk * CUDA_CHUNK_TOKENS;
    const int piece = threadIdx.x % pieces;
    if (threadIdx.x < pieces) {
        copy_async(shared_address(cs + piece * 4), c.io.cs + base + piece * 4, true);
    } else if (threadIdx.x < 2 * pieces) {
        copy_async(shared_address(dt + piece * 4), c.io.dt + base + piece * 4, true);
    }
}

/* n tiles of a warp's D from or to a state [P, N], from row first_p and column first_n on. */
template <typename ST, int n, bool is_load>
static __device__ __forceinline__ void move_state(float (*acc)[4], ST *state, int N, int first_p,
                                                  int first_n) {
    const int lane = threadIdx.x % WARP, p = first_p + lane / 4;
    for (int i = 0; i < n; i++) {
        for (int half = 0; half < 2; half++) {
            ST *pair = state + (p + half * 8) * N + first_n + i * 8 + lane % 4 * 2;
            vec_of<ST, 2> both;
            if (is_load) {
                both.load(pair);
                acc[i][half * 2] = both.v[0];
                acc[i][half * 2 + 1] = both.v[1];
            } else {
                both.v[0] = acc[i][half * 2];
                both.v[1] = acc[i][half * 2 + 1];
                both.store(pair);
            }
        }
    }
}

/* ssd_states.cu: the state before each chunk into chunk_states, and the last one into state. */
ssmq_status ssd_states(const cuda_pass *p, const ssd_call &call, ssmq_err *err);
/* ssd_states_wgmma.cu: the same, to the bit, where it can run and is faster. */
bool ssd_states_has_wgmma(const cuda_pass *p, const ssd_call &call);
ssmq_status ssd_states_wgmma(const cuda_pass *p, const ssd_call &call, ssmq_err *err);
/* ssd_scan.cu: y of every chunk. */
ssmq_status ssd_scan(const cuda_pass *p, const ssd_call &call, ssmq_err *err);

#endif
