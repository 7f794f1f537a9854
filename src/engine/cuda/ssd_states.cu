/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/ssd_states.cu - states at chunk boundaries. A block takes some columns n of one
 * head's state, holds them in the accumulators of the tensor cores and walks over the chunks:
 *     chunk_states = S;   S = exp(cs_last) S + sum_j (exp(cs_last - cs_j) dt_j x_j) B_j^T
 * so that states of chunks go through memory once, in 16 bits, and nothing is passed on in a launch
 * of its own. */
#include "engine/cuda/ssd.cuh"

namespace {

enum {
    P_WARPS = SSD_P / SSD_TILE, /* warps side by side along p, */
    N_WARPS = 2,                /* and along n */
    THREADS = P_WARPS * N_WARPS * WARP,
    N_STAGES = 3,
    Q = CUDA_CHUNK_TOKENS,
    P_PIECES = SSD_P / SSD_PIECE
};

/* One stage of shared memory: x [Q, P], B [Q, width], cs and dt [Q]. */
template <typename CT, int width> struct stage {
    CT x[Q * SSD_P];
    CT B[Q * width];
    float cs[Q], dt[Q];
};

template <typename CT, int width> struct block_memory {
    stage<CT, width> stages[N_STAGES];
    float weights[Q];
};

/* Where a block's work lies. */
struct place {
    int64_t b;
    int h, g, first_n;
};

/* Swizzled tiles need rows of 8 pieces or more; narrower ones spread their rows otherwise. */
template <typename CT, int width>
__device__ __forceinline__ CT *B_piece(CT *tile, int row, int piece) {
    constexpr int pieces = width / SSD_PIECE;
    return tile + row * width + ((piece ^ (row * pieces / 8 % pieces)) * SSD_PIECE);
}

template <typename CT, int width>
__device__ __forceinline__ void load_chunk(const ssd_call &c, const place &at, int chunk,
                                           stage<CT, width> *to) {
    constexpr int B_pieces = width / SSD_PIECE;
    const int64_t first = (int64_t)chunk * Q;
    const CT *rows = (const CT *)c.io.xbc + (at.b * c.T + first) * c.conv_dim;
    const CT *x = rows + at.h * SSD_P;
    const CT *B = rows + c.di + at.g * c.N + at.first_n;
    for (int i = threadIdx.x; i < Q * P_PIECES; i += THREADS) {
        const int t = i / P_PIECES, piece = i % P_PIECES;
        const bool is_there = first + t < c.T;
        copy_async(piece_of(to->x, SSD_P, t, piece),
                   is_there ? x + t * c.conv_dim + piece * SSD_PIECE : x, is_there);
    }
    for (int i = threadIdx.x; i < Q * B_pieces; i += THREADS) {
        const int t = i / B_pieces, piece = i % B_pieces;
        const bool is_there = first + t < c.T;
        copy_async(B_piece<CT, width>(to->B, t, piece),
                   is_there ? B + t * c.conv_dim + piece * SSD_PIECE : B, is_there);
    }
    const int64_t base = (at.b * c.H + at.h) * c.T_pad + first;
    const int piece = threadIdx.x % (Q / 4);
    if (threadIdx.x < Q / 4) {
        copy_async(to->cs + piece * 4, c.io.cs + base + piece * 4, true);
    } else if (threadIdx.x < Q / 2) {
        copy_async(to->dt + piece * 4, c.io.dt + base + piece * 4, true);
    }
}

/* Tiles of 16 p by 8 n that a warp holds, and where they begin. */
template <int width> struct warp_tiles {
    static constexpr int n = width / N_WARPS / 8;
    static __device__ __forceinline__ int first_p() {
        return threadIdx.x / WARP % P_WARPS * SSD_TILE;
    }
    static __device__ __forceinline__ int first_n() {
        return threadIdx.x / WARP / P_WARPS * n * 8;
    }
};

/* acc += sum over the chunk of weighted x times B. */
template <typename CT, int width>
__device__ __forceinline__ void add_chunk(float (*acc)[4], stage<CT, width> *from,
                                          const float *weights) {
    using tiles = warp_tiles<width>;
    const int lane = threadIdx.x % WARP, matrix = lane / 8, q = lane % 4;
    const int x_piece = tiles::first_p() / SSD_PIECE + matrix % 2;
    const int B_piece0 = tiles::first_n() / SSD_PIECE + matrix / 2;
#pragma unroll
    for (int k0 = 0; k0 < Q; k0 += SSD_TILE) {
        uint32_t a[4];
        const int t = k0 + matrix / 2 * 8 + lane % 8;
        ldmatrix_transposed(a, piece_of(from->x, SSD_P, t, x_piece));
        const float2 low = *(const float2 *)(weights + k0 + 2 * q);
        const float2 high = *(const float2 *)(weights + k0 + 8 + 2 * q);
        a[0] = weigh<CT>(a[0], low.x, low.y);
        a[1] = weigh<CT>(a[1], low.x, low.y);
        a[2] = weigh<CT>(a[2], high.x, high.y);
        a[3] = weigh<CT>(a[3], high.x, high.y);
        const int row = k0 + matrix % 2 * 8 + lane % 8;
#pragma unroll
        for (int n = 0; n < tiles::n / 2; n++) {
            uint32_t b[4];
            ldmatrix_transposed(b, B_piece<CT, width>(from->B, row, B_piece0 + n * 2));
            mma<CT>(acc[2 * n], a, b[0], b[1]);
            mma<CT>(acc[2 * n + 1], a, b[2], b[3]);
        }
    }
}

/* The accumulators, rounded, to [p, n] with 16 bytes a lane, or 8 where a warp has two tiles. */
template <typename CT, int width>
__device__ __forceinline__ void store_rounded(const float (*acc)[4], CT *to, int N) {
    using tiles = warp_tiles<width>;
    const int lane = threadIdx.x % WARP, q = lane % 4;
    for (int half = 0; half < 2; half++) {
        CT *row = to + (tiles::first_p() + lane / 4 + half * 8) * N + tiles::first_n();
        uint32_t v[4];
        for (int i = 0; i < tiles::n; i++) {
            v[i] = pack<CT>(acc[i][half * 2], acc[i][half * 2 + 1]);
        }
        if (tiles::n == 4) {
            transpose_quad(v);
            *(uint4 *)(row + q * SSD_PIECE) = make_uint4(v[0], v[1], v[2], v[3]);
        } else {
            const bool is_odd = q & 1;
            const uint32_t other = __shfl_xor_sync(~0u, is_odd ? v[0] : v[1], 1);
            const uint2 both = is_odd ? make_uint2(other, v[1]) : make_uint2(v[0], other);
            *(uint2 *)(row + (is_odd ? SSD_PIECE : 0) + q / 2 * 4) = both;
        }
    }
}

/* The accumulators from or to the state [p, n]. */
template <typename ST, int width, bool is_load>
__device__ __forceinline__ void move_state(float (*acc)[4], ST *state, int N) {
    using tiles = warp_tiles<width>;
    const int lane = threadIdx.x % WARP, p = tiles::first_p() + lane / 4;
    for (int i = 0; i < tiles::n; i++) {
        for (int half = 0; half < 2; half++) {
            ST *pair = state + (p + half * 8) * N + tiles::first_n() + i * 8 + lane % 4 * 2;
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

/* Grid (N / width, H, B). */
template <typename CT, typename ST, int width>
__global__ void __launch_bounds__(THREADS) k_ssd_states(ssd_call c) {
    extern __shared__ __align__(128) char shared[];
    block_memory<CT, width> *memory = (block_memory<CT, width> *)shared;
    const int h = blockIdx.y;
    const place at = {blockIdx.z, h, h / (c.H / c.G), (int)blockIdx.x * width};
    const int64_t state_numbers = (int64_t)SSD_P * c.N;
    ST *state = (ST *)c.io.state + (at.b * c.H + h) * state_numbers + at.first_n;
    float acc[warp_tiles<width>::n][4];
    wait_for_predecessor();
    release_successor();
    move_state<ST, width, true>(acc, state, c.N);
    for (int i = 0; i < N_STAGES - 1; i++) {
        if (i < c.n_chunks) load_chunk<CT, width>(c, at, i, &memory->stages[i]);
        copies_commit();
    }
    for (int chunk = 0; chunk < c.n_chunks; chunk++) {
        copies_wait<N_STAGES - 2>();
        /* All have their part of this chunk, and are done with the one before. */
        __syncthreads();
        const int ahead = chunk + N_STAGES - 1;
        if (ahead < c.n_chunks)
            load_chunk<CT, width>(c, at, ahead, &memory->stages[ahead % N_STAGES]);
        copies_commit();
        stage<CT, width> *now = &memory->stages[chunk % N_STAGES];
        const float last = now->cs[Q - 1];
        const int t = threadIdx.x;
        if (t < Q) memory->weights[t] = now->dt[t] * expf(fminf(last - now->cs[t], 0.0f));
        CT *to = (CT *)c.io.chunk_states + ((at.b * c.n_chunks + chunk) * c.H + h) * state_numbers +
                 at.first_n;
        store_rounded<CT, width>(acc, to, c.N);
        const float decay = expf(last);
        for (int n = 0; n < warp_tiles<width>::n; n++) {
            for (int i = 0; i < 4; i++) acc[n][i] *= decay;
        }
        __syncthreads();
        add_chunk<CT, width>(acc, now, memory->weights);
    }
    move_state<ST, width, false>(acc, state, c.N);
}

template <typename CT, typename ST, int width>
ssmq_status launch_width(const cuda_pass *p, const ssd_call &c, ssmq_err *err) {
    const size_t shared_bytes = sizeof(block_memory<CT, width>);
    static_assert(sizeof(block_memory<CT, width>) <= SSD_SHARED_BYTES, "cuda_ssd() counts on it");
    CUDA_TRY(cudaFuncSetAttribute(k_ssd_states<CT, ST, width>,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes),
             err);
    const dim3 grid((unsigned)(c.N / width), (unsigned)c.H, (unsigned)p->B);
    return launch_chained(k_ssd_states<CT, ST, width>, {grid, dim3(THREADS), shared_bytes}, p, err,
                          c);
}

/* Narrow slices where wide ones would leave the card idle; the bits are the same. */
template <typename CT, typename ST>
ssmq_status launch_states(const cuda_pass *p, const ssd_call &c, ssmq_err *err) {
    enum { WIDE = 64, NARROW = 32 };
    if (p->B * c.H * (c.N / WIDE) >= p->n_sm) return launch_width<CT, ST, WIDE>(p, c, err);
    return launch_width<CT, ST, NARROW>(p, c, err);
}

} // namespace

ssmq_status ssd_states(const cuda_pass *p, const ssd_call &call, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    if (p->dtype == SSMQ_BF16) {
        DISPATCH(p->state_dtype, ST, status = launch_states<__nv_bfloat16, ST>(p, call, err));
    } else {
        DISPATCH(p->state_dtype, ST, status = launch_states<__half, ST>(p, call, err));
    }
    return status;
}
