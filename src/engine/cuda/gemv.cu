/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/gemv.cu - products of few rows: memory is the limit. One block a multiprocessor takes
 * its share of W's rows, which are neighbours, in tiles of eight, and cuts a tile into pieces of
 * some bytes a row; its warps take pieces in turn. As many as shared memory holds are on their way,
 * the first ones before X is there: as bulk copies, behind which the loads of kernels beside this
 * one need not queue. A piece is multiplied on tensor cores, X as the rows of A and W as the
 * columns of B: which k comes when is free, so that a lane's 16 bytes of a row are what it holds of
 * two products. Sums of pieces meet in shared memory and are added in their order. */
#include "engine/cuda/chain.cuh"
#include "engine/cuda/device.cuh"
#include "engine/cuda/gemv.h"

namespace {

enum {
    THREADS = 256,
    N_WARPS = THREADS / WARP,
    TILE = 8,  /* rows of W: columns of a product */
    LANES = 4, /* that hold packets of one row */
    PACKET_BYTES = 16,
    MAX_DEPTH = 8, /* packets of a piece that a lane has */
    /* Packets of a row of a piece in shared memory, so that lanes which read together find other
     * banks, and of a piece. */
    ROW_LD = (MAX_DEPTH + 1) * LANES,
    PIECE = TILE * ROW_LD,
    STAGES = 4 /* pieces of a warp on their way */
};

struct gemv_call {
    const uint4 *x, *w;
    const void *bias;
    void *y;
    int64_t y_ld;
    int M, N;
    int depth;                 /* packets of a piece that a lane has */
    int packets, pieces;       /* of a row */
    int next_tile, next_piece; /* N_WARPS pieces on */
};

/* Rows of W that a block takes. */
struct share {
    int first, n;
};

__device__ __forceinline__ share share_of(const gemv_call &c) {
    const int more = c.N % (int)gridDim.x, least = c.N / (int)gridDim.x, block = blockIdx.x;
    return {block * least + min(block, more), least + (block < more)};
}

/* Where a warp is: a piece of a tile of its block. */
struct place {
    int tile, piece;
    __device__ __forceinline__ bool is_in(const share &rows) const {
        return tile * TILE < rows.n;
    }
    __device__ __forceinline__ void advance(const gemv_call &c) {
        tile += c.next_tile;
        piece += c.next_piece;
        if (piece < c.pieces) return;
        piece -= c.pieces;
        tile++;
    }
};

__device__ __forceinline__ place first_place(const gemv_call &c) {
    const int warp = threadIdx.x / WARP;
    return {warp / c.pieces, warp % c.pieces};
}

/* Weights are read once a token, and what fits beside them should stay in the L2 cache. */
__device__ __forceinline__ uint64_t once_only() {
    uint64_t policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}

/* Where a stage's piece arrives, and what counts its bytes. */
struct stage {
    uint4 *w;
    unsigned bar; /* an address in shared memory */
};

__device__ __forceinline__ unsigned shared_address(const void *p) {
    return (unsigned)__cvta_generic_to_shared(p);
}

/* Asks for a piece; past the last tile for nothing. Rows that W lacks stay what they are: they are
 * columns of their own. */
__device__ __forceinline__ void fetch_piece(const gemv_call &c, const share &rows, const place &at,
                                            uint64_t policy, const stage &to) {
#if __CUDA_ARCH__ >= 900
    if (!at.is_in(rows)) return;
    const int lane = threadIdx.x % WARP, first = at.tile * TILE;
    const int n = min(TILE, rows.n - first);
    if (lane == 0) {
        asm volatile("mbarrier.arrive.expect_tx.shared.b64 _, [%0], %1;" ::"r"(to.bar),
                     "r"(n * c.depth * LANES * PACKET_BYTES)
                     : "memory");
    }
    __syncwarp();
    if (lane >= n) return;
    const uint4 *from = c.w + (int64_t)(rows.first + first + lane) * c.packets;
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
                 "[%0], [%1], %2, [%3], %4;" ::"r"(shared_address(to.w + lane * ROW_LD)),
                 "l"(from + at.piece * c.depth * LANES), "r"(c.depth * LANES * PACKET_BYTES),
                 "r"(to.bar), "l"(policy)
                 : "memory");
#endif
}

__device__ __forceinline__ void wait_for_piece(const stage &of, unsigned phase) {
#if __CUDA_ARCH__ >= 900
    unsigned is_there = 0;
    while (!is_there) {
        asm volatile("{ .reg .pred p; mbarrier.try_wait.parity.shared.b64 p, [%1], %2; "
                     "selp.u32 %0, 1, 0, p; }"
                     : "=r"(is_there)
                     : "r"(of.bar), "r"(phase)
                     : "memory");
    }
#endif
}

/* sums += A B^T for a lane's words of both: A has X in its first eight rows, nothing below. */
template <typename CT> struct tensor_core;
#define TENSOR_CORE(CT, sum_type, constraint, instruction)                                         \
    template <> struct tensor_core<CT> {                                                           \
        using sum = sum_type;                                                                      \
        static __device__ __forceinline__ void multiply(sum (&s)[4], unsigned a0, unsigned a2,     \
                                                        unsigned b0, unsigned b1) {                \
            asm("mma.sync.aligned." instruction " {%0, %1, %2, %3}, {%4, %5, %6, %5}, {%7, %8}, "  \
                "{%0, %1, %2, %3};"                                                                \
                : "+" constraint(s[0]), "+" constraint(s[1]), "+" constraint(s[2]),                \
                  "+" constraint(s[3])                                                             \
                : "r"(a0), "r"(0), "r"(a2), "r"(b0), "r"(b1));                                     \
        }                                                                                          \
    }
TENSOR_CORE(__nv_bfloat16, float, "f", "m16n8k16.row.col.f32.bf16.bf16.f32");
TENSOR_CORE(__half, float, "f", "m16n8k16.row.col.f32.f16.f16.f32");
TENSOR_CORE(int8_t, int, "r", "m16n8k32.row.col.s32.s8.s8.s32");

/* A piece times X: the sums of row 0 of X and eight rows of W, then of row 1. */
template <typename CT>
__device__ __forceinline__ void multiply_piece(const gemv_call &c, const place &at, const uint4 *x,
                                               const uint4 *w, typename tensor_core<CT>::sum *out) {
    using core = tensor_core<CT>;
    const int lane = threadIdx.x % WARP, t = lane % LANES;
    const int m = lane / LANES; /* a row of X, and one of the tile */
    const uint4 *from = x + (m * c.pieces + at.piece) * c.depth * LANES + t;
    w += m * ROW_LD + t;
    typename core::sum even[4] = {}, odd[4] = {};
#pragma unroll 4
    for (int j = 0; j < c.depth; j++) {
        const uint4 b = w[j * LANES];
        const uint4 a = m < c.M ? from[j * LANES] : make_uint4(0, 0, 0, 0);
        core::multiply(even, a.x, a.y, b.x, b.y);
        core::multiply(odd, a.z, a.w, b.z, b.w);
    }
    if (m >= c.M) return;
    out[m * TILE + 2 * t] = even[0] + odd[0];
    out[m * TILE + 2 * t + 1] = even[1] + odd[1];
}

template <typename CT, typename YT>
__device__ __forceinline__ void store_sum(const gemv_call &c, int m, int row, float sum) {
    if (c.bias != NULL) sum += to_float(((const CT *)c.bias)[row]);
    ((YT *)c.y)[m * c.y_ld + row] = from_float<YT>(sum);
}
template <typename CT, typename YT>
__device__ __forceinline__ void store_sum(const gemv_call &c, int m, int row, int sum) {
    ((int *)c.y)[m * c.y_ld + row] = sum;
}

__device__ __forceinline__ stage stage_of(uint4 *ring, const uint64_t *bars, int i) {
    return {ring + i * PIECE, shared_address(bars + i)};
}

/* A warp's bars, for copies that it starts itself. */
__device__ __forceinline__ void begin_stages(const uint64_t *bars) {
#if __CUDA_ARCH__ >= 900
    const int lane = threadIdx.x % WARP;
    if (lane < STAGES) {
        asm volatile("mbarrier.init.shared.b64 [%0], 1;" ::"r"(
                         shared_address(bars + threadIdx.x / WARP * STAGES + lane))
                     : "memory");
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __syncwarp();
#endif
}

/* CT: of X and W; Y has int32 where that is int8. */
template <typename CT, typename YT> __global__ void __launch_bounds__(THREADS) k_gemv(gemv_call c) {
    using sum_type = typename tensor_core<CT>::sum;
    extern __shared__ uint4 shared[];
    __shared__ uint64_t bars[N_WARPS * STAGES];
    const int warp = threadIdx.x / WARP, piece_sums = c.M * TILE, n_x = c.M * c.packets;
    uint4 *const x = shared + N_WARPS * STAGES * PIECE;
    sum_type *const sums = (sum_type *)(x + n_x);
    const share rows = share_of(c);
    const uint64_t policy = once_only();
    place ahead = first_place(c);
    release_successor();
    begin_stages(bars);
    for (int i = 0; i < STAGES; i++, ahead.advance(c)) {
        fetch_piece(c, rows, ahead, policy, stage_of(shared, bars, warp * STAGES + i));
    }
    wait_for_predecessor();
    for (int i = threadIdx.x; i < n_x; i += THREADS) x[i] = c.x[i];
    __syncthreads();
    unsigned turn = 0;
    for (place at = first_place(c); at.is_in(rows); at.advance(c), ahead.advance(c), turn++) {
        const stage here = stage_of(shared, bars, warp * STAGES + (int)(turn % STAGES));
        wait_for_piece(here, turn / STAGES % 2);
        multiply_piece<CT>(c, at, x, here.w, sums + (at.tile * c.pieces + at.piece) * piece_sums);
        __syncwarp();
        fetch_piece(c, rows, ahead, policy, here);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < c.M * rows.n; i += THREADS) {
        const int m = i / rows.n, row = i % rows.n;
        const sum_type *of_row = sums + row / TILE * c.pieces * piece_sums + m * TILE + row % TILE;
        sum_type sum = 0;
        for (int k = 0; k < c.pieces; k++) sum += of_row[k * piece_sums];
        store_sum<CT, YT>(c, m, rows.first + row, sum);
    }
}

int64_t row_bytes(const cuda_gemm_shape *s) {
    const bool is_float = s->format == SSMQ_FORMAT_FLOAT;
    return s->K * (is_float ? (int64_t)ssmq_dtype_bytes(s->dtype) : 1);
}

/* The most that divides a row into equal pieces. */
int64_t depth_of(const cuda_gemm_shape *s) {
    const int64_t quads = row_bytes(s) / (LANES * PACKET_BYTES);
    int64_t depth = MAX_DEPTH;
    while (quads % depth != 0) depth--;
    return depth;
}

int64_t pieces_of(const cuda_gemm_shape *s) {
    return row_bytes(s) / (depth_of(s) * LANES * PACKET_BYTES);
}

/* Pieces on their way, X, and the sums of all pieces of a block. */
int64_t shared_bytes(const cuda_gemm_shape *s, int n_sm) {
    const int64_t tiles = ((s->N + n_sm - 1) / n_sm + TILE - 1) / TILE, pieces = pieces_of(s);
    const int64_t ring = (int64_t)N_WARPS * STAGES * PIECE * PACKET_BYTES;
    return ring + s->M * row_bytes(s) + tiles * pieces * s->M * TILE * (int64_t)sizeof(float);
}

template <typename CT, typename YT>
ssmq_status launch(const launch_shape &shape, const cuda_pass *p, const gemv_call &c,
                   ssmq_err *err) {
    CUDA_TRY(cudaFuncSetAttribute(k_gemv<CT, YT>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  (int)shape.shared_bytes),
             err);
    return launch_chained(k_gemv<CT, YT>, shape, p, err, c);
}

} // namespace

bool cuda_gemv_serves(const cuda_gemm_shape *s, int n_sm, int64_t max_shared_bytes) {
    const bool is_served = s->format == SSMQ_FORMAT_INT8
                               ? s->n_groups <= 1
                               : s->format == SSMQ_FORMAT_FLOAT && s->dtype != SSMQ_F32;
    return is_served && s->M <= CUDA_GEMV_MAX_ROWS && row_bytes(s) % (LANES * PACKET_BYTES) == 0 &&
           shared_bytes(s, n_sm) <= max_shared_bytes;
}

ssmq_status cuda_gemv(const cuda_gemm_call *call, int n_sm, bool is_chained, ssmq_err *err) {
    const cuda_gemm_shape *s = &call->shape;
    gemv_call c = {};
    c.x = (const uint4 *)call->x;
    c.w = (const uint4 *)call->w;
    c.bias = s->has_bias ? call->bias : NULL;
    c.y = call->y;
    c.y_ld = s->y_ld;
    c.M = (int)s->M;
    c.N = (int)s->N;
    c.packets = (int)(row_bytes(s) / PACKET_BYTES);
    c.depth = (int)depth_of(s);
    c.pieces = (int)pieces_of(s);
    c.next_tile = N_WARPS / c.pieces;
    c.next_piece = N_WARPS % c.pieces;
    const launch_shape shape = {dim3((unsigned)n_sm), dim3(THREADS), (size_t)shared_bytes(s, n_sm)};
    const cuda_pass p = chain_pass(call->stream, is_chained);
    if (s->format == SSMQ_FORMAT_INT8) return launch<int8_t, int>(shape, &p, c, err);
    const bool is_wide = s->y_dtype == SSMQ_F32;
    if (s->dtype == SSMQ_BF16) {
        return is_wide ? launch<__nv_bfloat16, float>(shape, &p, c, err)
                       : launch<__nv_bfloat16, __nv_bfloat16>(shape, &p, c, err);
    }
    return is_wide ? launch<__half, float>(shape, &p, c, err)
                   : launch<__half, __half>(shape, &p, c, err);
}
