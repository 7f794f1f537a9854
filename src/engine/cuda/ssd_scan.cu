/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/ssd_scan.cu - outputs of a chunk, for some heads of one group:
 *     G = C B^T                                  once for all of them, in registers
 *     Y = diag(exp(cs)) C S^T + M X + D X,       M_ij = G_ij exp(cs_i - cs_j) dt_j for j <= i
 * A warp has 16 rows of the chunk, and of G what is not above the diagonal. M never leaves the
 * registers: the accumulators of G, weighed and rounded, are the A operand of M X. The next heads'
 * x and S come in while one is computed. Where the gated norm is deferred, Y is gated on its way
 * out (cuda_gate).
 *
 * Left of its diagonal tile a warp splits the decay at its first row r,
 *     exp(cs_i - cs_j) = exp(cs_i - cs_r) exp(cs_r - cs_j),
 * two factors of at most 1: the second depends on the column alone and weighs G, the first scales
 * the finished row, together with that of C S^T. */
#include "engine/cuda/ssd.cuh"

namespace {

enum {
    N_WARPS = 8,
    THREADS = N_WARPS * WARP,
    Q = CUDA_CHUNK_TOKENS,
    P_TILES = SSD_P / 8,
    J_TILES = Q / 8,
    STAGE_COLUMNS = SSD_P + 8, /* rows of a stage begin in other banks than their neighbours */
    MAX_HEADS = 16,            /* of a block */
    FEW_STAGES = 2,            /* heads in shared memory at a time, */
    MANY_STAGES = 3            /* or where there is room for them */
};

/* What a head brings: x [Q, P], S [P, N], cs and dt [Q], and for the gate z [Q, P] and weights of
 * the norm [P]. */
template <typename CT, int N, bool is_gated> struct alignas(256) head_memory {
    CT x[Q * SSD_P];
    CT S[SSD_P * N];
    CT z[is_gated ? Q * SSD_P : SSD_PIECE];
    float cs[Q], dt[Q];
    CT w[is_gated ? SSD_P : SSD_PIECE];
};

/* Heads under way, one of which is computed. B is only needed for G; then its place holds the last
 * of them. */
template <typename CT, int N, bool is_gated, int n_stages> struct block_memory {
    CT C[Q * N];
    head_memory<CT, N, is_gated> heads[n_stages - 1];
    union {
        CT B[Q * N];
        head_memory<CT, N, is_gated> last_head;
    };
    float columns[N_WARPS][Q];                    /* exp(cs_r - cs_j) dt_j of each warp */
    CT stages[N_WARPS][SSD_TILE * STAGE_COLUMNS]; /* rows of y of each warp, on their way out */
};

/* Where a block's work lies, and which part of it a warp has. */
struct place {
    int64_t b;
    int chunk, g, first_head, n_heads;
    int n_rows;   /* tokens of the chunk that are there */
    int64_t row0; /* the first of them among all rows */
    int warp, lane;
    int tile; /* rows 16 tile and up */
};

/* Warps w and w + 4 share a scheduler: together they have the same number of tiles everywhere. */
__device__ __forceinline__ int tile_of_warp(int warp) {
    return warp < N_WARPS / 2 ? warp : N_WARPS + N_WARPS / 2 - 1 - warp;
}

template <typename CT, int N>
__device__ __forceinline__ void load_group(const ssd_call &c, const place &at, CT *to_B, CT *to_C) {
    const CT *B = (const CT *)c.io.xbc + at.row0 * c.conv_dim + c.di + at.g * N;
    load_rows<N, THREADS>(B, c.conv_dim, at.n_rows, to_B);
    load_rows<N, THREADS>(B + c.G * N, c.conv_dim, at.n_rows, to_C);
}

template <typename CT, int N, bool is_gated>
__device__ __forceinline__ void load_head(const ssd_call &c, const place &at, int h,
                                          head_memory<CT, N, is_gated> *to) {
    constexpr int S_pieces = N / SSD_PIECE, step = THREADS / S_pieces;
    const CT *x = (const CT *)c.io.xbc + at.row0 * c.conv_dim + h * SSD_P;
    load_rows<SSD_P, THREADS>(x, c.conv_dim, at.n_rows, to->x);
    const CT *S = (const CT *)c.io.chunk_states +
                  ((at.b * c.n_chunks + at.chunk) * c.H + h) * (int64_t)(SSD_P * N);
    const uint32_t S_to = piece_of(to->S, N, threadIdx.x / S_pieces, threadIdx.x % S_pieces);
#pragma unroll
    for (int k = 0; k < SSD_P / step; k++) {
        copy_async(S_to + (uint32_t)(k * step * N * (int)sizeof(CT)),
                   S + (k * THREADS + (int)threadIdx.x) * SSD_PIECE, true);
    }
    load_factors(c, at.b, h, at.chunk, to->cs, to->dt);
    if (!is_gated) return;
    const CT *z = (const CT *)c.io.gate.zxbcdt + at.row0 * c.R_ld + h * SSD_P;
    load_rows<SSD_P, THREADS>(z, c.R_ld, at.n_rows, to->z);
    const int last = (int)threadIdx.x - (THREADS - SSD_P / SSD_PIECE);
    if (last < 0) return;
    copy_async(shared_address(to->w + last * SSD_PIECE),
               (const CT *)c.io.gate.weight + h * SSD_P + last * SSD_PIECE, true);
}

/* out [2 j tiles] += rows of a warp of C times rows 8 j and up of `rows` [., N], over all of N. */
template <typename CT, int N, int pairs>
__device__ __forceinline__ void multiply_C(const place &at, const CT *C, const CT *rows,
                                           int n_pairs, float (*out)[4]) {
    const int matrix = at.lane / 8, low = at.lane % 8;
    const uint32_t C_at = piece_of(C, N, at.tile * SSD_TILE + matrix % 2 * 8 + low, matrix / 2);
    const uint32_t rows_at = piece_of(rows, N, matrix / 2 * 8 + low, matrix % 2);
#pragma unroll
    for (int k = 0; k < N / SSD_TILE; k++) {
        const uint32_t bits = (uint32_t)(k * SSD_TILE * (int)sizeof(CT));
        uint32_t a[4];
        ldmatrix(a, C_at ^ bits);
#pragma unroll
        for (int j = 0; j < pairs; j++) {
            if (j >= n_pairs) break;
            uint32_t b[4];
            ldmatrix(b, (rows_at ^ bits) + (uint32_t)(j * SSD_TILE * N * (int)sizeof(CT)));
            mma<CT>(out[2 * j], a, b[0], b[1]);
            mma<CT>(out[2 * j + 1], a, b[2], b[3]);
        }
    }
}

/* y += a X over the 16 rows of x that begin at address x_at for this lane. */
template <typename CT>
__device__ __forceinline__ void multiply_x(const uint32_t (&a)[4], uint32_t x_at, float (*y)[4]) {
#pragma unroll
    for (int p = 0; p < P_TILES / 2; p++) {
        uint32_t b[4];
        ldmatrix_transposed(b, x_at ^ (uint32_t)(p * SSD_TILE * (int)sizeof(CT)));
        mma<CT>(y[2 * p], a, b[0], b[1]);
        mma<CT>(y[2 * p + 1], a, b[2], b[3]);
    }
}

/* Factors of the columns left of the warp's diagonal tile. */
template <typename head_type>
__device__ __forceinline__ void fill_columns(const place &at, const head_type *head,
                                             float *columns) {
    const int r = at.tile * SSD_TILE, j = at.lane * 4;
    if (j < r) {
        const float cs_r = head->cs[r];
        const float4 cs = *(const float4 *)(head->cs + j), dt = *(const float4 *)(head->dt + j);
        const float4 out = {
            __expf(fminf(cs_r - cs.x, 0.0f)) * dt.x, __expf(fminf(cs_r - cs.y, 0.0f)) * dt.y,
            __expf(fminf(cs_r - cs.z, 0.0f)) * dt.z, __expf(fminf(cs_r - cs.w, 0.0f)) * dt.w};
        *(float4 *)(columns + j) = out;
    }
    __syncwarp();
}

/* y += G X over the tiles left of the diagonal one, with G's columns weighed. */
template <typename CT>
__device__ __forceinline__ void multiply_left(const place &at, uint32_t x_at, const float *columns,
                                              const float (*G)[4], float (*y)[4]) {
#pragma unroll
    for (int tile = 0; tile < Q / SSD_TILE - 1; tile++) {
        if (tile >= at.tile) break;
        const int j = tile * SSD_TILE + at.lane % 4 * 2;
        const float2 low = *(const float2 *)(columns + j);
        const float2 high = *(const float2 *)(columns + j + 8);
        const float(&left)[4] = G[2 * tile], (&right)[4] = G[2 * tile + 1];
        const uint32_t a[4] = {pack<CT>(left[0] * low.x, left[1] * low.y),
                               pack<CT>(left[2] * low.x, left[3] * low.y),
                               pack<CT>(right[0] * high.x, right[1] * high.y),
                               pack<CT>(right[2] * high.x, right[3] * high.y)};
        multiply_x<CT>(a, x_at + (uint32_t)(tile * SSD_TILE * SSD_P * (int)sizeof(CT)), y);
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
template <typename CT, typename head_type>
__device__ __forceinline__ void multiply_diagonal(const place &at, const head_type *head,
                                                  uint32_t x_at, const float (*G)[4],
                                                  float (*y)[4]) {
    const int first = at.tile * SSD_TILE, i = at.lane / 4, j = at.lane % 4 * 2;
    const float cs_low = head->cs[first + i], cs_high = head->cs[first + i + 8];
    const float2 cs0 = *(const float2 *)(head->cs + first + j);
    const float2 dt0 = *(const float2 *)(head->dt + first + j);
    const float2 cs1 = *(const float2 *)(head->cs + first + j + 8);
    const float2 dt1 = *(const float2 *)(head->dt + first + j + 8);
    const uint32_t a[4] = {weigh_pair<CT>(G[0][0], G[0][1], cs_low, cs0, dt0, j - i),
                           weigh_pair<CT>(G[0][2], G[0][3], cs_high, cs0, dt0, j - i - 8),
                           weigh_pair<CT>(G[1][0], G[1][1], cs_low, cs1, dt1, j + 8 - i),
                           weigh_pair<CT>(G[1][2], G[1][3], cs_high, cs1, dt1, j - i)};
    multiply_x<CT>(a, x_at + (uint32_t)(first * SSD_P * (int)sizeof(CT)), y);
}

template <typename CT> __device__ __forceinline__ float2 to_floats(const CT *pair) {
    const packet<CT, 2> both = load_packet<CT, 2>(pair);
    return make_float2(to_float(both.v[0]), to_float(both.v[1]));
}

/* y + D x of the warp's rows into its stage, gated where that is wanted; then squares holds the
 * sums of squares of this lane's columns in rows lane / 4 and lane / 4 + 8. */
template <typename CT, int N, bool is_gated>
__device__ __forceinline__ void finish_rows(const place &at,
                                            const head_memory<CT, N, is_gated> *head, float D,
                                            const float (*y)[4], CT *stage, float (&squares)[2]) {
    const int i = at.lane / 4, j = at.lane % 4 * 2;
    const int start = (at.tile * SSD_TILE + i) * SSD_P + i * SSD_PIECE + j;
#pragma unroll
    for (int tile = 0; tile < P_TILES; tile++) {
        const float2 w = is_gated ? to_floats(head->w + tile * 8 + j) : make_float2(1.0f, 1.0f);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int from = (start ^ (tile * SSD_PIECE)) + half * 8 * SSD_P;
            const float2 x = to_floats(head->x + from);
            float low = y[tile][half * 2] + D * x.x, high = y[tile][half * 2 + 1] + D * x.y;
            if (is_gated) {
                const float2 z = to_floats(head->z + from);
                low *= type_silu<CT>(z.x);
                high *= type_silu<CT>(z.y);
                squares[half] += low * low;
                squares[half] += high * high;
                low *= w.x;
                high *= w.y;
            }
            *(uint32_t *)(stage + (i + half * 8) * STAGE_COLUMNS + tile * 8 + j) =
                pack<CT>(low, high);
        }
    }
}

/* The stage to the rows that are there, 16 bytes a lane; and their sums of squares. */
template <typename CT, bool is_gated>
__device__ __forceinline__ void store_rows(const ssd_call &c, const place &at, int h,
                                           const CT *stage, const float (&squares)[2]) {
    constexpr int pieces = SSD_P / SSD_PIECE, step = WARP / pieces;
    const int piece = at.lane % pieces, first = at.tile * SSD_TILE;
    __syncwarp();
#pragma unroll
    for (int k = 0; k < SSD_TILE / step; k++) {
        const int i = at.lane / pieces + k * step;
        const uint4 part = *(const uint4 *)(stage + i * STAGE_COLUMNS + piece * SSD_PIECE);
        CT *row = (CT *)c.io.y + (at.row0 + first + i) * c.di + h * SSD_P;
        if (first + i < at.n_rows) *(uint4 *)(row + piece * SSD_PIECE) = part;
    }
    if constexpr (is_gated) {
        for (int half = 0; half < 2; half++) {
            float sum = squares[half];
            sum += __shfl_xor_sync(~0u, sum, 1);
            sum += __shfl_xor_sync(~0u, sum, 2);
            const int i = first + at.lane / 4 + half * 8;
            if (at.lane % 4 == 0 && i < at.n_rows) {
                c.io.gate.squares[(at.row0 + i) * c.H + h] = sum;
            }
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

template <typename CT, int N, bool is_gated, int n_stages>
__device__ __forceinline__ void scan_head(const ssd_call &c, const place &at, int h,
                                          block_memory<CT, N, is_gated, n_stages> *memory,
                                          const head_memory<CT, N, is_gated> *head,
                                          const float (*G)[4], const float (*diagonal)[4]) {
    const int first = at.tile * SSD_TILE, i = first + at.lane / 4, matrix = at.lane / 8;
    const uint32_t x_at = piece_of(head->x, SSD_P, matrix % 2 * 8 + at.lane % 8, matrix / 2);
    float y[P_TILES][4] = {}, squares[2] = {};
    fill_columns(at, head, memory->columns[at.warp]);
    multiply_C<CT, N, P_TILES / 2>(at, memory->C, head->S, P_TILES / 2, y);
    const float cs_r = head->cs[first];
    const float before = expf(cs_r);
    scale_rows(y, before, before);
    multiply_left<CT>(at, x_at, memory->columns[at.warp], G, y);
    scale_rows(y, expf(fminf(head->cs[i] - cs_r, 0.0f)), expf(fminf(head->cs[i + 8] - cs_r, 0.0f)));
    multiply_diagonal<CT>(at, head, x_at, diagonal, y);
    finish_rows<CT, N, is_gated>(at, head, c.D[h], y, memory->stages[at.warp], squares);
    store_rows<CT, is_gated>(c, at, h, memory->stages[at.warp], squares);
}

__device__ __forceinline__ place place_of(const ssd_call &c, int heads_per_block) {
    const int heads = c.H / c.G, blocks = (heads + heads_per_block - 1) / heads_per_block;
    const int g = blockIdx.x / blocks, offset = blockIdx.x % blocks * heads_per_block;
    place at;
    at.b = blockIdx.z;
    at.chunk = (int)blockIdx.y;
    at.g = g;
    at.first_head = g * heads + offset;
    at.n_heads = min(heads_per_block, heads - offset);
    const int64_t first = (int64_t)at.chunk * Q;
    at.n_rows = (int)(c.T - first < Q ? c.T - first : Q);
    at.row0 = at.b * c.T + first;
    /* By shuffle, so that the compiler knows it to be the same in all lanes. */
    at.warp = __shfl_sync(~0u, (int)threadIdx.x / WARP, 0);
    at.lane = threadIdx.x % WARP;
    at.tile = tile_of_warp(at.warp);
    return at;
}

/* Grid (blocks of heads of all groups, chunks, B). While a head is computed, the n_stages - 1 after
 * it are on their way. */
template <typename CT, int N, bool is_gated, int n_stages>
__global__ void __launch_bounds__(THREADS) k_ssd_scan(ssd_call c, int heads_per_block) {
    extern __shared__ __align__(1024) char shared[];
    block_memory<CT, N, is_gated, n_stages> *memory =
        (block_memory<CT, N, is_gated, n_stages> *)shared;
    const place at = place_of(c, heads_per_block);
    wait_for_predecessor();
    release_successor();
    load_group<CT, N>(c, at, memory->B, memory->C);
    copies_commit();
    for (int k = 0; k < n_stages - 1; k++) {
        if (k < at.n_heads) load_head<CT, N, is_gated>(c, at, at.first_head + k, &memory->heads[k]);
        copies_commit();
    }
    copies_wait<n_stages - 1>();
    __syncthreads();
    /* The diagonal tile apart: registers cannot be indexed by the warp. */
    float G[J_TILES - 2][4] = {}, diagonal[2][4] = {};
    multiply_C<CT, N, J_TILES / 2 - 1>(at, memory->C, memory->B, at.tile, G);
    multiply_C<CT, N, 1>(at, memory->C, memory->B + at.tile * SSD_TILE * N, 1, diagonal);
    /* B makes room for a head. */
    __syncthreads();
    if (at.n_heads >= n_stages)
        load_head<CT, N, is_gated>(c, at, at.first_head + n_stages - 1, &memory->last_head);
    copies_commit();
    for (int k = 0; k < at.n_heads; k++) {
        const int place_of_head = k % n_stages;
        head_memory<CT, N, is_gated> *head =
            place_of_head < n_stages - 1 ? &memory->heads[place_of_head] : &memory->last_head;
        copies_wait<n_stages - 1>();
        __syncthreads();
        scan_head<CT, N, is_gated, n_stages>(c, at, at.first_head + k, memory, head, G, diagonal);
        __syncthreads();
        const int ahead = k + n_stages;
        if (ahead < at.n_heads) load_head<CT, N, is_gated>(c, at, at.first_head + ahead, head);
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

template <typename CT, int N, bool is_gated, int n_stages>
ssmq_status launch_stages(const cuda_pass *p, const ssd_call &c, ssmq_err *err) {
    const int n = heads_per_block_of(p, c), heads = c.H / c.G;
    const size_t shared_bytes = sizeof(block_memory<CT, N, is_gated, n_stages>);
    CUDA_TRY(cudaFuncSetAttribute(k_ssd_scan<CT, N, is_gated, n_stages>,
                                  cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes),
             err);
    const dim3 grid((unsigned)(c.G * ((heads + n - 1) / n)), (unsigned)c.n_chunks, (unsigned)p->B);
    return launch_chained(k_ssd_scan<CT, N, is_gated, n_stages>,
                          {grid, dim3(THREADS), shared_bytes}, p, err, c, n);
}

/* As many stages as the device has room for; the bits are the same. */
template <typename CT, int N, bool is_gated>
ssmq_status launch_scan(const cuda_pass *p, const ssd_call &c, ssmq_err *err) {
    static_assert(sizeof(block_memory<CT, N, is_gated, FEW_STAGES>) <= SSD_SHARED_BYTES,
                  "cuda_ssd() counts on it");
    if ((size_t)p->shared_bytes >= sizeof(block_memory<CT, N, is_gated, MANY_STAGES>))
        return launch_stages<CT, N, is_gated, MANY_STAGES>(p, c, err);
    return launch_stages<CT, N, is_gated, FEW_STAGES>(p, c, err);
}

template <typename CT, bool is_gated>
ssmq_status launch_type(const cuda_pass *p, const ssd_call &c, ssmq_err *err) {
    return c.N == 64 ? launch_scan<CT, 64, is_gated>(p, c, err)
                     : launch_scan<CT, 128, is_gated>(p, c, err);
}

} // namespace

ssmq_status ssd_scan(const cuda_pass *p, const ssd_call &call, ssmq_err *err) {
    if (p->dtype == SSMQ_F16) return launch_type<__half, false>(p, call, err);
    if (call.io.gate.squares == NULL) return launch_type<__nv_bfloat16, false>(p, call, err);
    return launch_type<__nv_bfloat16, true>(p, call, err);
}
