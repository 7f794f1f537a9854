/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/ssd_states_wgmma.cu - states at chunk boundaries where a warpgroup multiplies
 * (compute capability 9.0): what ssd_states.cu does, with x weighed on its way from shared memory
 * into registers as A, and B where it is. A block has all rows p and some columns n of one head's
 * state in registers. What it leaves has the same bits. */
#include "engine/cuda/wgmma.cuh"

namespace {

enum {
    THREADS = WGMMA_THREADS,
    Q = CUDA_CHUNK_TOKENS,
    WIDTH = WGMMA_COLUMNS,         /* of a block, */
    TILES = WIDTH / 8,             /* or tiles of D */
    HALVES = 2,                    /* of a chunk, summed each for itself, */
    STEPS = Q / SSD_TILE / HALVES, /* in so many products */
    N_STAGES = 3                   /* chunks in shared memory at a time */
};

template <typename CT> struct alignas(1024) stage {
    CT x[Q * SSD_P], B[Q * WIDTH];
    float cs[Q], dt[Q];
};

template <typename CT> struct block_memory {
    stage<CT> stages[N_STAGES];
    float weights[Q];
};

/* Where a block's work lies. */
struct place {
    int64_t b;
    int h, g, first_n;
};

template <typename CT>
__device__ __forceinline__ void load_chunk(const ssd_call &c, const place &at, int chunk,
                                           stage<CT> *to) {
    const int64_t first = (int64_t)chunk * Q;
    const int n_rows = (int)(c.T - first < Q ? c.T - first : Q);
    const CT *rows = (const CT *)c.io.xbc + (at.b * c.T + first) * c.conv_dim;
    const CT *B = rows + c.di + at.g * c.N + at.first_n;
    load_rows<SSD_P, THREADS>(rows + at.h * SSD_P, c.conv_dim, n_rows, to->x);
    load_rows<WIDTH, THREADS>(B, c.conv_dim, n_rows, to->B);
    load_factors(c, at.b, at.h, chunk, to->cs, to->dt);
}

/* sums = weighted x, transposed, times B over half of a chunk. */
template <typename CT>
__device__ __forceinline__ void sum_half(float (*sums)[4], const stage<CT> *from,
                                         const float *weights, int half) {
    const int lane = (int)threadIdx.x % WARP, matrix = lane / 8;
    const int warp_piece = (int)threadIdx.x / WARP * SSD_TILE / SSD_PIECE;
    const uint32_t x_at =
        piece_of(from->x, SSD_P, matrix / 2 * 8 + lane % 8, warp_piece + matrix % 2);
    const uint32_t B_at = shared_address(from->B);
    weights += lane % 4 * 2;
    uint32_t a[STEPS][4];
#pragma unroll
    for (int k = 0; k < STEPS; k++) {
        const int row = (half * STEPS + k) * SSD_TILE;
        ldmatrix_transposed(a[k], x_at + (uint32_t)(row * SSD_P * (int)sizeof(CT)));
        weigh_tokens<CT>(a[k], weights + row);
        wgmma_begin();
        wgmma_multiply<CT>(sums, a[k], wgmma_tile(B_at + (uint32_t)(row * WIDTH * (int)sizeof(CT))),
                           k > 0);
        wgmma_commit();
    }
}

/* The accumulators, rounded, to [p, n] with 16 bytes a lane. */
template <typename CT>
__device__ __forceinline__ void store_rounded(const float (*S)[4], CT *to, int N) {
    const int warp = (int)threadIdx.x / WARP, lane = (int)threadIdx.x % WARP;
    for (int half = 0; half < 2; half++) {
        CT *row = to + (warp * SSD_TILE + lane / 4 + half * 8) * N + lane % 4 * SSD_PIECE;
        for (int i = 0; i < WIDTH / 32; i++) {
            uint32_t v[4];
            for (int k = 0; k < 4; k++) {
                v[k] = pack<CT>(S[4 * i + k][half * 2], S[4 * i + k][half * 2 + 1]);
            }
            transpose_quad(v);
            *(uint4 *)(row + i * 32) = make_uint4(v[0], v[1], v[2], v[3]);
        }
    }
}

/* Grid (N / WIDTH, H, B). */
template <typename CT, typename ST>
__global__ void __launch_bounds__(THREADS) k_ssd_states_wgmma(ssd_call c) {
    extern __shared__ __align__(1024) char shared[];
    block_memory<CT> *memory = (block_memory<CT> *)shared;
    const int h = blockIdx.y, t = threadIdx.x, first_p = t / WARP * SSD_TILE;
    const place at = {blockIdx.z, h, h / (c.H / c.G), (int)blockIdx.x * WIDTH};
    const int64_t state_numbers = (int64_t)SSD_P * c.N;
    ST *state = (ST *)c.io.state + (at.b * c.H + h) * state_numbers + at.first_n;
    float S[TILES][4], sums[HALVES][TILES][4];
    wait_for_predecessor();
    release_successor();
    move_state<ST, TILES, true>(S, state, c.N, first_p, 0);
    for (int i = 0; i < N_STAGES - 1; i++) {
        if (i < c.n_chunks) load_chunk<CT>(c, at, i, &memory->stages[i]);
        copies_commit();
    }
    for (int chunk = 0; chunk < c.n_chunks; chunk++) {
        copies_wait<N_STAGES - 2>();
        wgmma_publish();
        /* All have their part of this chunk, and are done with the one before. */
        __syncthreads();
        const int ahead = chunk + N_STAGES - 1;
        if (ahead < c.n_chunks) load_chunk<CT>(c, at, ahead, &memory->stages[ahead % N_STAGES]);
        copies_commit();
        const stage<CT> *now = &memory->stages[chunk % N_STAGES];
        const float last = now->cs[Q - 1], decay = expf(last);
        memory->weights[t] = now->dt[t] * expf(fminf(last - now->cs[t], 0.0f));
        __syncthreads();
        for (int half = 0; half < HALVES; half++) {
            sum_half<CT>(sums[half], now, memory->weights, half);
        }
        /* While the tensor cores sum. */
        CT *to = (CT *)c.io.chunk_states + ((at.b * c.n_chunks + chunk) * c.H + h) * state_numbers +
                 at.first_n;
        store_rounded<CT>(S, to, c.N);
        wgmma_wait<TILES>(sums[0]);
        wgmma_wait<TILES>(sums[1]);
        for (int i = 0; i < TILES; i++) {
            for (int k = 0; k < 4; k++) {
                S[i][k] = decay * S[i][k] + (sums[0][i][k] + sums[1][i][k]);
            }
        }
    }
    move_state<ST, TILES, false>(S, state, c.N, first_p, 0);
}

template <typename CT, typename ST>
ssmq_status launch_states(const cuda_pass *p, const ssd_call &c, ssmq_err *err) {
    const size_t shared_bytes = sizeof(block_memory<CT>);
    static_assert(sizeof(block_memory<CT>) <= SSD_SHARED_BYTES, "cuda_ssd() counts on it");
    CUDA_TRY(cudaFuncSetAttribute(k_ssd_states_wgmma<CT, ST>,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes),
             err);
    const dim3 grid((unsigned)(c.N / WIDTH), (unsigned)c.H, (unsigned)p->B);
    return launch_chained(k_ssd_states_wgmma<CT, ST>, {grid, dim3(THREADS), shared_bytes}, p, err,
                          c);
}

} // namespace

/* A block's time hardly depends on how many there are, so that most multiprocessors need one. */
bool ssd_states_has_wgmma(const cuda_pass *p, const ssd_call &c) {
    return p->has_wgmma && 10 * p->B * c.H * (c.N / WIDTH) >= 7 * (int64_t)p->n_sm;
}

ssmq_status ssd_states_wgmma(const cuda_pass *p, const ssd_call &call, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    if (p->dtype == SSMQ_BF16) {
        DISPATCH(p->state_dtype, ST, status = launch_states<__nv_bfloat16, ST>(p, call, err));
    } else {
        DISPATCH(p->state_dtype, ST, status = launch_states<__half, ST>(p, call, err));
    }
    return status;
}
