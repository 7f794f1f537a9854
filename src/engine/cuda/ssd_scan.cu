/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/ssd_scan.cu - outputs of a chunk, for some heads of one group:
 *     G = C B^T                                  once for all of them, in registers
 *     Y = diag(exp(cs)) C S^T + M X + D X,       M_ij = G_ij exp(cs_i - cs_j) dt_j for j <= i
 * Warp w has rows 16 w to 16 w + 15 of the chunk, and of G what is not above the diagonal. M never
 * leaves the registers: the accumulators of G, weighed and rounded, are the A operand of M X. The
 * next head's x and S come in while one is computed.
 *
 * Left of its diagonal tile a warp splits the decay at its first row r,
 *     exp(cs_i - cs_j) = exp(cs_i - cs_r) exp(cs_r - cs_j),
 * two factors of at most 1: the second depends on the column alone and weighs G, the first scales
 * the finished row, together with that of C S^T. */
#include "engine/cuda/ssd.cuh"

namespace {

enum {
    THREADS = 256,
    Q = CUDA_CHUNK_TOKENS,
    P_PIECES = SSD_P / SSD_PIECE,
    P_TILES = SSD_P / 8,
    J_TILES = Q / 8,
    MAX_HEADS = 16 /* of a block */
};

/* What a head brings: x [Q, P], S [P, N], cs and dt [Q]. */
template <typename CT, int N> struct head_memory {
    CT x[Q * SSD_P];
    CT S[SSD_P * N];
    float cs[Q], dt[Q];
};

/* B is only needed for G; then its place holds every second head. */
template <typename CT, int N> struct block_memory {
    CT C[Q * N];
    head_memory<CT, N> even;
    union {
        CT B[Q * N];
        head_memory<CT, N> odd;
    };
    float columns[THREADS / WARP][Q]; /* exp(cs_r - cs_j) dt_j of each warp */
};

/* Where a block's work lies. */
struct place {
    int64_t b;
    int chunk, g, first_head, n_heads;
};

template <typename CT>
__device__ __forceinline__ const CT *row_of(const ssd_call &c, const place &at, int t) {
    return (const CT *)c.io.xbc + (at.b * c.T + (int64_t)at.chunk * Q + t) * c.conv_dim;
}

template <typename CT, int N>
__device__ __forceinline__ void load_group(const ssd_call &c, const place &at,
                                           block_memory<CT, N> *memory) {
    constexpr int pieces = N / SSD_PIECE;
    const CT *start = row_of<CT>(c, at, 0);
    for (int i = threadIdx.x; i < Q * pieces; i += THREADS) {
        const int t = i / pieces, piece = i % pieces;
        const bool is_there = (int64_t)at.chunk * Q + t < c.T;
        const CT *row = is_there ? row_of<CT>(c, at, t) : start;
        const CT *B = row + c.di + at.g * N + piece * SSD_PIECE;
        copy_async(piece_of(memory->B, N, t, piece), B, is_there);
        copy_async(piece_of(memory->C, N, t, piece), B + c.G * N, is_there);
    }
}

template <typename CT, int N>
__device__ __forceinline__ void load_head(const ssd_call &c, const place &at, int h,
                                          head_memory<CT, N> *to) {
    constexpr int S_pieces = N / SSD_PIECE;
    const CT *start = row_of<CT>(c, at, 0);
    for (int i = threadIdx.x; i < Q * P_PIECES; i += THREADS) {
        const int t = i / P_PIECES, piece = i % P_PIECES;
        const bool is_there = (int64_t)at.chunk * Q + t < c.T;
        const CT *row = is_there ? row_of<CT>(c, at, t) : start;
        copy_async(piece_of(to->x, SSD_P, t, piece), row + h * SSD_P + piece * SSD_PIECE, is_there);
    }
    const CT *S = (const CT *)c.io.chunk_states +
                  ((at.b * c.n_chunks + at.chunk) * c.H + h) * (int64_t)(SSD_P * N);
    for (int i = threadIdx.x; i < SSD_P * S_pieces; i += THREADS) {
        copy_async(piece_of(to->S, N, i / S_pieces, i % S_pieces), S + i * SSD_PIECE, true);
    }
    const int64_t base = (at.b * c.H + h) * c.T_pad + (int64_t)at.chunk * Q;
    const int piece = threadIdx.x % (Q / 4);
    if (threadIdx.x < Q / 4) {
        copy_async(to->cs + piece * 4, c.io.cs + base + piece * 4, true);
    } else if (threadIdx.x < Q / 2) {
        copy_async(to->dt + piece * 4, c.io.dt + base + piece * 4, true);
    }
}

/* out [2 j tiles] += rows of a warp of C times rows 8 j and up of `rows` [., N], over all of N. */
template <typename CT, int N, int pairs>
__device__ __forceinline__ void multiply_C(const CT *C, const CT *rows, int n_pairs,
                                           float (*out)[4]) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, matrix = lane / 8;
    const int C_row = warp * SSD_TILE + matrix % 2 * 8 + lane % 8;
#pragma unroll
    for (int k = 0; k < N / SSD_TILE; k++) {
        uint32_t a[4];
        ldmatrix(a, piece_of(C, N, C_row, k * 2 + matrix / 2));
#pragma unroll
        for (int j = 0; j < pairs; j++) {
            if (j >= n_pairs) break;
            uint32_t b[4];
            const int row = j * 16 + matrix / 2 * 8 + lane % 8;
            ldmatrix(b, piece_of(rows, N, row, k * 2 + matrix % 2));
            mma<CT>(out[2 * j], a, b[0], b[1]);
            mma<CT>(out[2 * j + 1], a, b[2], b[3]);
        }
    }
}

/* Factors of the columns left of the warp's diagonal tile. */
template <typename CT, int N>
__device__ __forceinline__ void fill_columns(const head_memory<CT, N> *head, float *columns) {
    const int r = threadIdx.x / WARP * SSD_TILE;
    for (int j = threadIdx.x % WARP; j < r; j += WARP) {
        columns[j] = __expf(fminf(head->cs[r] - head->cs[j], 0.0f)) * head->dt[j];
    }
    __syncwarp();
}

/* y += G X over the tiles left of the diagonal one, with G's columns weighed. */
template <typename CT, int N>
__device__ __forceinline__ void multiply_left(const head_memory<CT, N> *head, const float *columns,
                                              const float (*G)[4], float (*y)[4]) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, matrix = lane / 8;
#pragma unroll
    for (int tile = 0; tile < Q / SSD_TILE - 1; tile++) {
        if (tile >= warp) break;
        const int j = tile * SSD_TILE + lane % 4 * 2;
        const float2 low = *(const float2 *)(columns + j);
        const float2 high = *(const float2 *)(columns + j + 8);
        const float(&left)[4] = G[2 * tile], (&right)[4] = G[2 * tile + 1];
        const uint32_t a[4] = {pack<CT>(left[0] * low.x, left[1] * low.y),
                               pack<CT>(left[2] * low.x, left[3] * low.y),
                               pack<CT>(right[0] * high.x, right[1] * high.y),
                               pack<CT>(right[2] * high.x, right[3] * high.y)};
        const int row = tile * SSD_TILE + matrix % 2 * 8 + lane % 8;
#pragma unroll
        for (int p = 0; p < P_TILES / 2; p++) {
            uint32_t b[4];
            ldmatrix_transposed(b, piece_of(head->x, SSD_P, row, p * 2 + matrix / 2));
            mma<CT>(y[2 * p], a, b[0], b[1]);
            mma<CT>(y[2 * p + 1], a, b[2], b[3]);
        }
    }
}

/* Two neighbours of M as half an A register: G times decay and dt, zero above the diagonal. */
template <typename CT>
__device__ __forceinline__ uint32_t weigh_pair(float g0, float g1, float cs_i, float2 cs, float2 dt,
                                               int above) {
    const float low = above > 0 ? 0.0f : __expf(fminf(cs_i - cs.x, 0.0f)) * dt.x;
    const float high = above >= 0 ? 0.0f : __expf(fminf(cs_i - cs.y, 0.0f)) * dt.y;
    return pack<CT>(g0 * low, g1 * high);
}

/* y += M X over the diagonal tile, whose part of G is given. */
template <typename CT, int N>
__device__ __forceinline__ void multiply_diagonal(const head_memory<CT, N> *head,
                                                  const float (*G)[4], float (*y)[4]) {
    const int lane = threadIdx.x % WARP, first = threadIdx.x / WARP * SSD_TILE, matrix = lane / 8;
    const int i = lane / 4, j = lane % 4 * 2;
    const float cs_low = head->cs[first + i], cs_high = head->cs[first + i + 8];
    const float2 cs0 = *(const float2 *)(head->cs + first + j);
    const float2 dt0 = *(const float2 *)(head->dt + first + j);
    const float2 cs1 = *(const float2 *)(head->cs + first + j + 8);
    const float2 dt1 = *(const float2 *)(head->dt + first + j + 8);
    const uint32_t a[4] = {weigh_pair<CT>(G[0][0], G[0][1], cs_low, cs0, dt0, j - i),
                           weigh_pair<CT>(G[0][2], G[0][3], cs_high, cs0, dt0, j - i - 8),
                           weigh_pair<CT>(G[1][0], G[1][1], cs_low, cs1, dt1, j + 8 - i),
                           weigh_pair<CT>(G[1][2], G[1][3], cs_high, cs1, dt1, j - i)};
    const int row = first + matrix % 2 * 8 + lane % 8;
#pragma unroll
    for (int p = 0; p < P_TILES / 2; p++) {
        uint32_t b[4];
        ldmatrix_transposed(b, piece_of(head->x, SSD_P, row, p * 2 + matrix / 2));
        mma<CT>(y[2 * p], a, b[0], b[1]);
        mma<CT>(y[2 * p + 1], a, b[2], b[3]);
    }
}

/* Adds D x to rows i and i + 8 of y, rounds, and stores 16 bytes a lane. */
template <typename CT, int N>
__device__ __forceinline__ void store_y(const ssd_call &c, const place &at, int h,
                                        const head_memory<CT, N> *head, const float (*y)[4]) {
    const int lane = threadIdx.x % WARP, q = lane % 4;
    const float D = c.D[h];
    for (int half = 0; half < 2; half++) {
        const int i = threadIdx.x / WARP * SSD_TILE + lane / 4 + half * 8;
        const int64_t t = (int64_t)at.chunk * Q + i;
        CT *row = (CT *)c.io.y + (at.b * c.T + t) * c.di + h * SSD_P;
        for (int quarter = 0; quarter < 2; quarter++) {
            uint32_t v[4];
            for (int k = 0; k < 4; k++) {
                const int tile = quarter * 4 + k;
                const packet<CT, 2> x =
                    *(const packet<CT, 2> *)(piece_of(head->x, SSD_P, i, tile) + 2 * q);
                v[k] = pack<CT>(y[tile][half * 2] + D * to_float(x.v[0]),
                                y[tile][half * 2 + 1] + D * to_float(x.v[1]));
            }
            transpose_quad(v);
            if (t >= c.T) continue;
            *(uint4 *)(row + (quarter * 4 + q) * SSD_PIECE) = make_uint4(v[0], v[1], v[2], v[3]);
        }
    }
}

__device__ __forceinline__ void scale_rows(float (*y)[4], float low, float high) {
    for (int tile = 0; tile < P_TILES; tile++) {
        y[tile][0] *= low;
        y[tile][1] *= low;
        y[tile][2] *= high;
        y[tile][3] *= high;
    }
}

template <typename CT, int N>
__device__ __forceinline__ void
scan_head(const ssd_call &c, const place &at, int h, block_memory<CT, N> *memory,
          const head_memory<CT, N> *head, const float (*G)[4], const float (*diagonal)[4]) {
    const int warp = threadIdx.x / WARP, first = warp * SSD_TILE;
    const int i = first + threadIdx.x % WARP / 4;
    float y[P_TILES][4] = {};
    fill_columns<CT, N>(head, memory->columns[warp]);
    multiply_C<CT, N, P_TILES / 2>(memory->C, head->S, P_TILES / 2, y);
    const float cs_r = head->cs[first];
    const float before = expf(cs_r);
    scale_rows(y, before, before);
    multiply_left<CT, N>(head, memory->columns[warp], G, y);
    scale_rows(y, expf(fminf(head->cs[i] - cs_r, 0.0f)), expf(fminf(head->cs[i + 8] - cs_r, 0.0f)));
    multiply_diagonal<CT, N>(head, diagonal, y);
    store_y<CT, N>(c, at, h, head, y);
}

/* Grid (blocks of heads of all groups, chunks, B). */
template <typename CT, int N>
__global__ void __launch_bounds__(THREADS) k_ssd_scan(ssd_call c, int heads_per_block) {
    extern __shared__ __align__(128) char shared[];
    block_memory<CT, N> *memory = (block_memory<CT, N> *)shared;
    const int heads = c.H / c.G, blocks = (heads + heads_per_block - 1) / heads_per_block;
    const int g = blockIdx.x / blocks, offset = blockIdx.x % blocks * heads_per_block;
    const place at = {blockIdx.z, (int)blockIdx.y, g, g * heads + offset,
                      min(heads_per_block, heads - offset)};
    wait_for_predecessor();
    release_successor();
    load_group<CT, N>(c, at, memory);
    copies_commit();
    load_head<CT, N>(c, at, at.first_head, &memory->even);
    copies_commit();
    copies_wait<1>();
    __syncthreads();
    const int warp = threadIdx.x / WARP;
    /* The diagonal tile apart: registers cannot be indexed by the warp. */
    float G[J_TILES - 2][4] = {}, diagonal[2][4] = {};
    multiply_C<CT, N, J_TILES / 2 - 1>(memory->C, memory->B, warp, G);
    multiply_C<CT, N, 1>(memory->C, memory->B + warp * SSD_TILE * N, 1, diagonal);
    /* B makes room for the second head. */
    __syncthreads();
    if (at.n_heads > 1) load_head<CT, N>(c, at, at.first_head + 1, &memory->odd);
    copies_commit();
    for (int k = 0; k < at.n_heads; k++) {
        head_memory<CT, N> *head = k % 2 == 0 ? &memory->even : &memory->odd;
        copies_wait<1>();
        __syncthreads();
        scan_head<CT, N>(c, at, at.first_head + k, memory, head, G, diagonal);
        __syncthreads();
        if (k + 2 < at.n_heads) load_head<CT, N>(c, at, at.first_head + k + 2, head);
        copies_commit();
    }
}

/* Heads that share one G, as many as make the launch shortest: a block takes about 3 us to start
 * and to form G, and 2 us a head (bf16, N 128, one H100), and a multiprocessor runs one at a time.
 */
int heads_per_block_of(const cuda_pass *p, const ssd_call &c) {
    const int heads = c.H / c.G;
    const int64_t others = p->B * c.n_chunks * c.G;
    int64_t least = INT64_MAX;
    int best = 1;
    for (int n = 1; n <= heads && n <= MAX_HEADS; n++) {
        const int64_t blocks = others * ((heads + n - 1) / n);
        const int64_t cost = (blocks + p->n_sm - 1) / p->n_sm * (3 + 2 * n);
        if (cost < least) {
            least = cost;
            best = n;
        }
    }
    return best;
}

template <typename CT, int N>
ssmq_status launch_scan(const cuda_pass *p, const ssd_call &c, ssmq_err *err) {
    const int n = heads_per_block_of(p, c), heads = c.H / c.G;
    const size_t shared_bytes = sizeof(block_memory<CT, N>);
    static_assert(sizeof(block_memory<CT, N>) <= SSD_SHARED_BYTES, "cuda_ssd() counts on it");
    CUDA_TRY(cudaFuncSetAttribute(k_ssd_scan<CT, N>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                  (int)shared_bytes),
             err);
    const dim3 grid((unsigned)(c.G * ((heads + n - 1) / n)), (unsigned)c.n_chunks, (unsigned)p->B);
    return launch_chained(k_ssd_scan<CT, N>, {grid, dim3(THREADS), shared_bytes}, p, err, c, n);
}

template <typename CT>
ssmq_status launch_type(const cuda_pass *p, const ssd_call &c, ssmq_err *err) {
    return c.N == 64 ? launch_scan<CT, 64>(p, c, err) : launch_scan<CT, 128>(p, c, err);
}

} // namespace

ssmq_status ssd_scan(const cuda_pass *p, const ssd_call &call, ssmq_err *err) {
    return p->dtype == SSMQ_BF16 ? launch_type<__nv_bfloat16>(p, call, err)
                                 : launch_type<__half>(p, call, err);
}
