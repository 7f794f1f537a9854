/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/norm.cu - embedding, the residual sum with its norm, and the gated norm. A block
 * takes a row (or a group of it) and keeps it in registers between the sum of squares and the
 * scaling. Which thread adds which numbers depends on the row's length alone, so that a row has the
 * same bits in a step and in a segment. */
#include "engine/cuda/chain.cuh"
#include "engine/cuda/device.cuh"
#include "engine/cuda/quant.cuh"

namespace {

enum {
    MAX_THREADS = 1024,
    VEC = 8,           /* numbers a thread moves at once */
    MAX_ITEMS = 4,     /* vectors a thread keeps: CUDA_MAX_ROW numbers, or CUDA_MAX_ODD_ROW */
    IN_FLIGHT = 4,     /* sums of squares that a lane loads at once */
    MAX_REGISTERS = 64 /* of as many threads */
};

/* Sum over the block of what its threads have of each item, in an order that is the same whether
 * many threads have one item or fewer have more. */
template <int items> __device__ __forceinline__ float block_sum(const float (&x)[items]) {
    __shared__ float parts[items * WARP];
    const int n_warps = (int)blockDim.x / WARP, lane = (int)threadIdx.x % WARP;
    for (int j = 0; j < items; j++) {
        const float part = warp_sum(x[j]);
        if (lane == 0) parts[j * n_warps + (int)threadIdx.x / WARP] = part;
    }
    __syncthreads();
    float sum = 0.0f;
    for (int i = lane; i < items * n_warps; i += WARP) sum += parts[i];
    return warp_sum(sum);
}

__device__ __forceinline__ float inverse_rms(float sum, int64_t n, float eps) {
    return 1.0f / sqrtf(sum / (float)n + eps);
}

template <typename CT, int vec>
__global__ void k_embed(const CT *embeddings, const int32_t *tokens, float *residual, int64_t d) {
    release_successor();
    wait_for_predecessor();
    const int64_t row = blockIdx.x;
    const CT *from = embeddings + (int64_t)tokens[row] * d;
    for (int64_t i = threadIdx.x * vec; i < d; i += blockDim.x * vec) {
        vec_of<CT, vec> x;
        vec_of<float, vec> r;
        x.load(from + i);
        for (int k = 0; k < vec; k++) r.v[k] = x.v[k];
        r.store(residual + row * d + i);
    }
}

/* cuda_codes for a kernel. */
struct row_codes {
    uint8_t *codes;
    float *scales, qmax;
    bool is_fp8;
};

struct norm_sizes {
    int64_t d, di;
    int H;
    float eps;
    int layer_idx;
    bool residual_in_fp32;
    cuda_prefetch next; /* blocks after those of rows fetch it */
    row_codes codes;
};

/* The factor of a deferred norm, by each warp for itself; 1 where there is none. */
__device__ __forceinline__ float deferred_factor(const float *squares, const norm_sizes &s) {
    if (squares == NULL) return 1.0f;
    float sum = 0.0f;
    for (int first = 0; first < s.H; first += IN_FLIGHT * WARP) {
        float part[IN_FLIGHT];
#pragma unroll
        for (int k = 0; k < IN_FLIGHT; k++) {
            const int i = first + k * WARP + (int)(threadIdx.x % WARP);
            part[k] = i < s.H ? squares[i] : 0.0f;
        }
        for (int k = 0; k < IN_FLIGHT; k++) sum += part[k];
    }
    return inverse_rms(warp_sum(sum), s.di, s.eps);
}

/* r += factor o, rounded where the residual has the compute type. */
template <typename CT, int vec>
__device__ __forceinline__ void add(vec_of<float, vec> &r, const vec_of<CT, vec> &o, float factor,
                                    bool residual_in_fp32) {
    for (int k = 0; k < vec; k++) {
        r.v[k] += o.v[k] * factor;
        if (!residual_in_fp32) r.v[k] = to_float(from_float<CT>(r.v[k]));
    }
}

template <typename CT, int vec>
__device__ __forceinline__ void store_as(const vec_of<float, vec> &from, CT *to) {
    vec_of<CT, vec> out;
    for (int k = 0; k < vec; k++) out.v[k] = from.v[k];
    out.store(to);
}

/* A row of n numbers, vectors j of which thread i has at (j * threads + i) * vec, out as numbers of
 * CT or as their codes and a scale. */
template <typename CT, int vec, int items>
__device__ __forceinline__ void store_row(vec_of<float, vec> (&row)[items], int64_t n, CT *numbers,
                                          const row_codes &to, int64_t m) {
    const int64_t stride = (int64_t)blockDim.x * vec;
    unsigned largest = 0;
    for (int j = 0; j < items; j++) {
        const int64_t i = j * stride + threadIdx.x * vec;
        if (i >= n) continue;
        if (to.codes == NULL) {
            store_as<CT, vec>(row[j], numbers + i);
            continue;
        }
        round_as<CT, vec>(row[j].v);
        for (int k = 0; k < vec; k++) largest = max(largest, magnitude_of(row[j].v[k]));
    }
    if (to.codes == NULL) return;
    const quantizer q = quantizer_of(block_max(largest), to.qmax, to.is_fp8);
    if (threadIdx.x == 0) to.scales[m] = q.scale;
    for (int j = 0; j < items; j++) {
        const int64_t i = j * stride + threadIdx.x * vec;
        if (i < n) store_codes<vec>(q, row[j].v, to.codes + m * n + i);
    }
}

template <typename CT, int vec, int items>
__global__ void __launch_bounds__(MAX_THREADS) k_norm(cuda_norm_call call, norm_sizes s) {
    if (blockIdx.x >= call.rows) {
        release_successor();
        prefetch_share(s.next, blockIdx.x - call.rows, gridDim.x - call.rows);
        return;
    }
    vec_of<float, vec> r[items];
    vec_of<CT, vec> w[items];
    packets_of<float, vec> scales[items];
    const int64_t stride = (int64_t)blockDim.x * vec;
    for (int j = 0; j < items; j++) {
        const int64_t i = j * stride + threadIdx.x * vec;
        if (i >= s.d) continue;
        w[j].load((const CT *)call.weight + i);
        scales[j] = column_scales<vec>(call.o, i);
    }
    release_successor();
    wait_for_predecessor();
    const int64_t row = call.listed != NULL ? call.listed[blockIdx.x] : blockIdx.x;
    float *residual = call.residual + row * s.d;
    const float o_scale = row_scale(call.o, row);
    vec_of<CT, vec> o[items];
    for (int j = 0; j < items; j++) {
        const int64_t i = j * stride + threadIdx.x * vec;
        if (i >= s.d) continue;
        r[j].load(residual + i);
        if (call.o.y != NULL) load_product<CT, vec>(call.o, row, i, o_scale, scales[j], o[j]);
    }
    const float factor = deferred_factor(call.squares != NULL ? call.squares + row * s.H : NULL, s);
    float squares[items] = {};
    for (int j = 0; j < items; j++) {
        const int64_t i = j * stride + threadIdx.x * vec;
        if (i >= s.d) continue;
        if (call.o.y != NULL) {
            add<CT, vec>(r[j], o[j], factor, s.residual_in_fp32);
            r[j].store(residual + i);
        }
        for (int k = 0; k < vec; k++) squares[j] += r[j].v[k] * r[j].v[k];
    }
    const float inverse = inverse_rms(block_sum(squares), s.d, s.eps);
    if (threadIdx.x == 0 && !(inverse > 0.0f && inverse < INFINITY)) {
        atomicMin(call.fault, (unsigned long long)s.layer_idx << 40 | (unsigned long long)row);
    }
    for (int j = 0; j < items; j++) {
        const int64_t i = j * stride + threadIdx.x * vec;
        if (i >= s.d) continue;
        for (int k = 0; k < vec; k++) r[j].v[k] = r[j].v[k] * inverse * w[j].v[k];
    }
    store_row<CT, vec, items>(r, s.d, (CT *)call.u + blockIdx.x * s.d, s.codes, blockIdx.x);
}

struct gate_call {
    cuda_product zxbcdt;
    const void *y, *weight;
    void *u;
    int64_t rows, di, n; /* n = di / G */
    float eps;
    row_codes codes;
};

/* Grid (rows, groups). What does not come from kernels before is asked for first, or, where
 * threads have much of a row, when it is needed: then others have work meanwhile. */
template <typename CT, int vec, int items, bool has_sums>
__global__ void __maxnreg__(MAX_REGISTERS) k_gated_norm(gate_call c) {
    constexpr bool is_early = items == 1;
    const int64_t first = blockIdx.y * c.n, row = blockIdx.x;
    const int64_t stride = (int64_t)blockDim.x * vec, own = threadIdx.x * vec;
    const CT *weights = (const CT *)c.weight + first;
    packets_of<float, vec> scales[items] = {};
    packets_of<CT, vec> w[items], y[items];
    product_part<CT, vec, has_sums> z[items];
    release_successor();
    if (is_early && own < c.n) {
        scales[0] = column_scales<vec>(c.zxbcdt, first + own);
        w[0].load(weights + own);
    }
    wait_for_predecessor();
    for (int j = 0; j < items; j++) {
        const int64_t i = j * stride + own;
        if (i >= c.n) continue;
        y[j].load((const CT *)c.y + row * c.di + first + i);
        z[j].load(c.zxbcdt, row, first + i);
    }
    vec_of<float, vec> v[items];
    float squares[items] = {};
    for (int j = 0; j < items; j++) {
        const int64_t i = j * stride + own;
        if (i >= c.n) continue;
        if (!is_early) scales[j] = column_scales<vec>(c.zxbcdt, first + i);
        const vec_of<CT, vec> y_j = y[j].numbers(), z_j = z[j].numbers(scales[j].numbers());
        for (int k = 0; k < vec; k++) {
            v[j].v[k] = y_j.v[k] * type_silu<CT>(z_j.v[k]);
            squares[j] += v[j].v[k] * v[j].v[k];
        }
    }
    for (int j = 0; j < items && !is_early; j++) {
        if (j * stride + own < c.n) w[j].load(weights + j * stride + own);
    }
    const float inverse = inverse_rms(block_sum(squares), c.n, c.eps);
    for (int j = 0; j < items; j++) {
        const vec_of<CT, vec> w_j = w[j].numbers();
        for (int k = 0; k < vec; k++) v[j].v[k] = v[j].v[k] * inverse * w_j.v[k];
    }
    store_row<CT, vec, items>(v, c.n, (CT *)c.u + row * c.di + first, c.codes, row);
}

row_codes row_codes_of(const cuda_codes &to) {
    const float qmax = to.codes != NULL ? (float)ssmq_format_get(to.format)->qmax : 0.0f;
    return {to.codes, to.scales, qmax, to.format == SSMQ_FORMAT_FP8_E4M3};
}

/* Threads of a block for rows of n numbers, and vectors that each of them keeps. */
struct row_shape {
    unsigned threads;
    int items;
};

row_shape row_shape_of(int64_t n, int vec) {
    const int64_t vectors = (n + vec - 1) / vec;
    row_shape s = {MAX_THREADS, 1};
    while (s.items < MAX_ITEMS && (int64_t)s.items * MAX_THREADS < vectors) s.items *= 2;
    const int64_t wanted = (vectors + s.items - 1) / s.items;
    s.threads = (unsigned)((wanted + WARP - 1) / WARP * WARP);
    return s;
}

template <typename CT, int vec>
ssmq_status launch_norm(const cuda_pass *p, const cuda_norm_call *call, ssmq_err *err) {
    const ssmq_shape *shape = p->shape;
    const row_shape r = row_shape_of(shape->d, vec);
    const norm_sizes s = {shape->d,      shape->di,
                          (int)shape->H, shape->eps,
                          p->layer_idx,  shape->residual_in_fp32,
                          p->next,       row_codes_of(call->codes)};
    const int64_t fetchers = p->next.n_bytes > 0 ? p->n_sm : 0;
    const launch_shape launch = {dim3((unsigned)(call->rows + fetchers)), dim3(r.threads), 0};
    if (r.items == 1) return launch_chained(k_norm<CT, vec, 1>, launch, p, err, *call, s);
    if (r.items == 2) return launch_chained(k_norm<CT, vec, 2>, launch, p, err, *call, s);
    return launch_chained(k_norm<CT, vec, MAX_ITEMS>, launch, p, err, *call, s);
}

/* Many rows keep the device busy in blocks of few threads, which wait for each other less. */
row_shape many_rows_shape_of(int64_t n, int vec) {
    row_shape s = row_shape_of(n, vec);
    if (s.items == 1 && s.threads % (2 * WARP) == 0 && (int64_t)s.threads * vec == n) {
        s.items = 2;
        s.threads /= 2;
    }
    return s;
}

template <typename CT, int vec, bool has_sums>
ssmq_status launch_gated_norm(const cuda_pass *p, const gate_call &c, ssmq_err *err) {
    const bool is_many = c.rows >= 4 * (int64_t)p->n_sm;
    const row_shape r = is_many ? many_rows_shape_of(c.n, vec) : row_shape_of(c.n, vec);
    const dim3 grid((unsigned)c.rows, (unsigned)p->shape->G);
    const launch_shape shape = {grid, dim3(r.threads), 0};
    if (r.items == 1) return launch_chained(k_gated_norm<CT, vec, 1, has_sums>, shape, p, err, c);
    if (r.items == 2) return launch_chained(k_gated_norm<CT, vec, 2, has_sums>, shape, p, err, c);
    return launch_chained(k_gated_norm<CT, vec, MAX_ITEMS, has_sums>, shape, p, err, c);
}

template <typename CT, bool has_sums>
ssmq_status launch_gate(const cuda_pass *p, const gate_call &c, bool is_aligned, ssmq_err *err) {
    return is_aligned ? launch_gated_norm<CT, VEC, has_sums>(p, c, err)
                      : launch_gated_norm<CT, 1, has_sums>(p, c, err);
}

template <typename CT, int vec>
ssmq_status launch_embed(const cuda_pass *p, const void *embeddings, const int32_t *tokens,
                         float *residual, ssmq_err *err) {
    const row_shape r = row_shape_of(p->shape->d, vec);
    const launch_shape shape = {dim3((unsigned)(p->B * p->T)), dim3(r.threads), 0};
    return launch_chained(k_embed<CT, vec>, shape, p, err, (const CT *)embeddings, tokens, residual,
                          p->shape->d);
}

} // namespace

ssmq_status cuda_embed(const cuda_pass *p, const void *embeddings, const int32_t *tokens,
                       float *residual, ssmq_err *err) {
    const bool is_aligned = p->shape->d % VEC == 0;
    ssmq_status status = SSMQ_OK;
    DISPATCH(p->dtype, CT,
             status = is_aligned ? launch_embed<CT, VEC>(p, embeddings, tokens, residual, err)
                                 : launch_embed<CT, 1>(p, embeddings, tokens, residual, err));
    return status;
}

ssmq_status cuda_norm(const cuda_pass *p, const cuda_norm_call *call, ssmq_err *err) {
    const bool is_aligned = p->shape->d % VEC == 0 && call->o.ld % VEC == 0;
    ssmq_status status = SSMQ_OK;
    DISPATCH(p->dtype, CT,
             status = is_aligned ? launch_norm<CT, VEC>(p, call, err)
                                 : launch_norm<CT, 1>(p, call, err));
    return status;
}

ssmq_status cuda_gated_norm(const cuda_pass *p, const cuda_gated_norm_call *call, ssmq_err *err) {
    const ssmq_shape *s = p->shape;
    const int64_t n = s->di / s->G;
    gate_call c = {};
    c.zxbcdt = call->zxbcdt;
    c.y = call->y;
    c.weight = p->layer->gated_norm;
    c.u = call->u;
    c.rows = p->B * p->T;
    c.di = s->di;
    c.n = n;
    c.eps = s->eps;
    c.codes = row_codes_of(call->codes);
    const bool is_aligned = n % VEC == 0 && call->zxbcdt.ld % VEC == 0;
    const bool has_sums = call->zxbcdt.row_scales != NULL;
    ssmq_status status = SSMQ_OK;
    DISPATCH(p->dtype, CT,
             status = has_sums ? launch_gate<CT, true>(p, c, is_aligned, err)
                               : launch_gate<CT, false>(p, c, is_aligned, err));
    return status;
}
