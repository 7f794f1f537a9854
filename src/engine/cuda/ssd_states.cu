/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/ssd_states.cu - states at chunk boundaries. A block takes some rows p and columns n
 * of one head's state, keeps them in registers and walks over the chunks: chunk_states = S;   S =
 * exp(cs_last) S + sum_j (exp(cs_last - cs_j) dt_j x_j) B_j^T so that states of chunks go through
 * memory once, in 16 bits, and nothing is passed on in a launch of its own. Two warps share a tile
 * of the state: each sums over half of the tokens. */
#include "engine/cuda/ssd.cuh"

namespace {

enum {
    HALVES = 2, /* of a chunk's tokens, a warp each */
    Q = CUDA_CHUNK_TOKENS
};

/* A block's part of a head's state: `height` rows p, each tile of which has two warps, and `width`
 * columns n. Every part does the same to a number. */
template <int height_, int width_> struct part_of {
    static constexpr int height = height_, width = width_;
    static constexpr int p_warps = height / SSD_TILE, threads = p_warps * HALVES * WARP;
    static constexpr int x_pieces = height / SSD_PIECE, B_pieces = width / SSD_PIECE;
    static constexpr int n_stages = width == 64 ? 2 : 3;
};

/* One stage of shared memory: x [Q, height], B [Q, width], cs and dt [Q]. */
template <typename CT, typename part> struct stage {
    CT x[Q * part::height];
    CT B[Q * part::width];
    float cs[Q], dt[Q];
};

template <typename CT, typename part> struct block_memory {
    stage<CT, part> stages[part::n_stages];
    float4 given[part::width / 8 / HALVES * part::threads]; /* sums for the partner */
    float weights[Q];
};

/* Where a block's work lies. */
struct place {
    int64_t b;
    int h, g, first_p, first_n;
};

/* Swizzled tiles need rows of 8 pieces or more; narrower ones spread their rows otherwise. */
template <int columns, typename CT>
__device__ __forceinline__ uint32_t tile_piece(const CT *tile, int row, int piece) {
    constexpr int pieces = columns / SSD_PIECE;
    return shared_address(tile) + (uint32_t)(row * columns * (int)sizeof(CT)) +
           (uint32_t)((piece ^ (row * pieces / 8 % pieces)) * SSD_PIECE * (int)sizeof(CT));
}

template <typename CT, typename part>
__device__ __forceinline__ void load_chunk(const ssd_call &c, const place &at, int chunk,
                                           stage<CT, part> *to) {
    constexpr int x_pieces = part::x_pieces, x_step = part::threads / x_pieces;
    constexpr int B_pieces = part::B_pieces, B_step = part::threads / B_pieces;
    static_assert(x_step % 8 == 0 && B_step % 8 == 0, "rows of a thread are swizzled alike");
    const int64_t first = (int64_t)chunk * Q;
    const int n_rows = (int)(c.T - first < Q ? c.T - first : Q);
    const CT *rows = (const CT *)c.io.xbc + (at.b * c.T + first) * c.conv_dim;
    const int x_t = threadIdx.x / x_pieces, x_column = threadIdx.x % x_pieces;
    const int B_t = threadIdx.x / B_pieces, B_column = threadIdx.x % B_pieces;
    const CT *x = rows + x_t * c.conv_dim + at.h * SSD_P + at.first_p + x_column * SSD_PIECE;
    const CT *B = rows + B_t * c.conv_dim + c.di + at.g * c.N + at.first_n + B_column * SSD_PIECE;
    const uint32_t x_to = tile_piece<part::height>(to->x, x_t, x_column);
    const uint32_t B_to = tile_piece<part::width>(to->B, B_t, B_column);
#pragma unroll
    for (int k = 0; k < Q / x_step; k++) {
        copy_async(x_to + (uint32_t)(k * x_step * part::height * (int)sizeof(CT)), x,
                   x_t + k * x_step < n_rows);
        x += x_step * c.conv_dim;
    }
#pragma unroll
    for (int k = 0; k < Q / B_step; k++) {
        copy_async(B_to + (uint32_t)(k * B_step * part::width * (int)sizeof(CT)), B,
                   B_t + k * B_step < n_rows);
        B += B_step * c.conv_dim;
    }
    load_factors(c, at.b, at.h, chunk, to->cs, to->dt);
}

/* Tiles of 16 p by 8 n of a warp: those that it sums over its half of the tokens, all of the
 * block's n, and those of the state that it keeps, the other half of which its partner keeps. */
template <typename part> struct warp_tiles {
    static constexpr int summed = part::width / 8, n = summed / HALVES;
    static __device__ __forceinline__ int first_p() {
        return threadIdx.x / WARP % part::p_warps * SSD_TILE;
    }
    static __device__ __forceinline__ int half() {
        return threadIdx.x / WARP / part::p_warps;
    }
    static __device__ __forceinline__ int first_n() {
        return half() * n * 8;
    }
};

/* sums = weighted x times B over the warp's half of a chunk; first the tiles that it keeps. */
template <typename CT, typename part>
__device__ __forceinline__ void sum_chunk(float (*sums)[4], const stage<CT, part> *from,
                                          const float *weights) {
    using tiles = warp_tiles<part>;
    const int lane = threadIdx.x % WARP, matrix = lane / 8, q = lane % 4;
    const int first = tiles::half() * (Q / HALVES);
    const uint32_t x_at = tile_piece<part::height>(from->x, first + matrix / 2 * 8 + lane % 8,
                                                   tiles::first_p() / SSD_PIECE + matrix % 2);
    const uint32_t B_at = tile_piece<part::width>(from->B, first + matrix % 2 * 8 + lane % 8,
                                                  tiles::first_n() / SSD_PIECE + matrix / 2);
    weights += first + 2 * q;
#pragma unroll
    for (int k0 = 0; k0 < Q / HALVES; k0 += SSD_TILE) {
        uint32_t a[4];
        ldmatrix_transposed(a, x_at + (uint32_t)(k0 * part::height * (int)sizeof(CT)));
        weigh_tokens<CT>(a, weights + k0);
#pragma unroll
        for (int n = 0; n < tiles::summed / 2; n++) {
            uint32_t b[4];
            ldmatrix_transposed(b, (B_at + (uint32_t)(k0 * part::width * (int)sizeof(CT))) ^
                                       (uint32_t)(n * SSD_TILE * (int)sizeof(CT)));
            mma<CT>(sums[2 * n], a, b[0], b[1]);
            mma<CT>(sums[2 * n + 1], a, b[2], b[3]);
        }
    }
}

/* What the partner keeps, to it. */
template <typename part>
__device__ __forceinline__ void give_sums(const float (*sums)[4], float4 *given) {
    using tiles = warp_tiles<part>;
    for (int i = 0; i < tiles::n; i++) {
        const float(&d)[4] = sums[tiles::n + i];
        given[i * part::threads + threadIdx.x] = make_float4(d[0], d[1], d[2], d[3]);
    }
}

/* S = decay S + sums of both halves, once the partner has given its. */
template <typename part>
__device__ __forceinline__ void move_on(float (*S)[4], float decay, const float (*sums)[4],
                                        const float4 *given) {
    for (int i = 0; i < warp_tiles<part>::n; i++) {
        const float4 other = given[i * part::threads + (threadIdx.x ^ (part::p_warps * WARP))];
        S[i][0] = decay * S[i][0] + (sums[i][0] + other.x);
        S[i][1] = decay * S[i][1] + (sums[i][1] + other.y);
        S[i][2] = decay * S[i][2] + (sums[i][2] + other.z);
        S[i][3] = decay * S[i][3] + (sums[i][3] + other.w);
    }
}

/* The accumulators, rounded, to [p, n] with 16 bytes a lane, or 8 where a warp has two tiles. */
template <typename CT, typename part>
__device__ __forceinline__ void store_rounded(const float (*acc)[4], CT *to, int N) {
    using tiles = warp_tiles<part>;
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

/* Grid (N / width * P / height, H, B). */
template <typename CT, typename ST, typename part>
__global__ void __launch_bounds__(part::threads, 512 / part::threads) k_ssd_states(ssd_call c) {
    extern __shared__ __align__(128) char shared[];
    using tiles = warp_tiles<part>;
    constexpr int n_stages = part::n_stages;
    block_memory<CT, part> *memory = (block_memory<CT, part> *)shared;
    const int h = blockIdx.y, slices = c.N / part::width, slice = (int)blockIdx.x;
    const place at = {blockIdx.z, h, h / (c.H / c.G), slice / slices * part::height,
                      slice % slices * part::width};
    const int64_t state_numbers = (int64_t)SSD_P * c.N;
    const int64_t offset = (int64_t)at.first_p * c.N + at.first_n;
    ST *state = (ST *)c.io.state + (at.b * c.H + h) * state_numbers + offset;
    float S[tiles::n][4], decay = 1.0f;
    wait_for_predecessor();
    release_successor();
    move_state<ST, tiles::n, true>(S, state, c.N, tiles::first_p(), tiles::first_n());
    for (int i = 0; i < n_stages - 1; i++) {
        if (i < c.n_chunks) load_chunk<CT, part>(c, at, i, &memory->stages[i]);
        copies_commit();
    }
    float sums[tiles::summed][4];
    for (int chunk = 0; chunk < c.n_chunks; chunk++) {
        copies_wait<n_stages - 2>();
        /* All have their part of this chunk, and are done with the one before. */
        __syncthreads();
        const int ahead = chunk + n_stages - 1;
        if (ahead < c.n_chunks)
            load_chunk<CT, part>(c, at, ahead, &memory->stages[ahead % n_stages]);
        copies_commit();
        if (chunk > 0) move_on<part>(S, decay, sums, memory->given);
        const stage<CT, part> *now = &memory->stages[chunk % n_stages];
        const float last = now->cs[Q - 1];
        const int t = threadIdx.x;
        if (t < Q) memory->weights[t] = now->dt[t] * expf(fminf(last - now->cs[t], 0.0f));
        CT *to = (CT *)c.io.chunk_states + ((at.b * c.n_chunks + chunk) * c.H + h) * state_numbers +
                 offset;
        store_rounded<CT, part>(S, to, c.N);
        decay = expf(last);
        memset(sums, 0, sizeof sums);
        __syncthreads();
        sum_chunk<CT, part>(sums, now, memory->weights);
        give_sums<part>(sums, memory->given);
    }
    __syncthreads();
    move_on<part>(S, decay, sums, memory->given);
    move_state<ST, tiles::n, false>(S, state, c.N, tiles::first_p(), tiles::first_n());
}

template <typename CT, typename ST, typename part>
ssmq_status launch_parts(const cuda_pass *p, const ssd_call &c, ssmq_err *err) {
    const size_t shared_bytes = sizeof(block_memory<CT, part>);
    static_assert(sizeof(block_memory<CT, part>) <= SSD_SHARED_BYTES, "cuda_ssd() counts on it");
    CUDA_TRY(cudaFuncSetAttribute(k_ssd_states<CT, ST, part>,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes),
             err);
    const dim3 grid((unsigned)(c.N / part::width * (SSD_P / part::height)), (unsigned)c.H,
                    (unsigned)p->B);
    return launch_chained(k_ssd_states<CT, ST, part>, {grid, dim3(part::threads), shared_bytes}, p,
                          err, c);
}

/* Rows and columns of the multiprocessor that has the most. */
template <typename part> int64_t most_work(const cuda_pass *p, const ssd_call &c) {
    const int64_t blocks = p->B * c.H * (c.N / part::width) * (SSD_P / part::height);
    return (blocks + p->n_sm - 1) / p->n_sm * part::height * part::width;
}

/* The bits are the same. Low parts share the work out more evenly and weigh no number twice; where
 * even they leave multiprocessors idle, what counts is the time of one block, and more warps in it
 * take less. */
template <typename CT, typename ST>
ssmq_status launch_states(const cuda_pass *p, const ssd_call &c, ssmq_err *err) {
    using whole = part_of<64, 64>;
    using low = part_of<32, 64>;
    using narrow = part_of<64, 32>;
    const int64_t work = most_work<low>(p, c);
    if (work == low::height * low::width) return launch_parts<CT, ST, narrow>(p, c, err);
    if (work <= most_work<whole>(p, c)) return launch_parts<CT, ST, low>(p, c, err);
    return launch_parts<CT, ST, whole>(p, c, err);
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
