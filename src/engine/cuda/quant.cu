/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/quant.cu - numbers to codes and back, as kernels of their own. */
#include "engine/cuda/chain.cuh"
#include "engine/cuda/quant.cuh"
#include "engine/cuda/quant.h"

namespace {

enum {
    VEC = 8,        /* codes a thread makes at once */
    CODES = 16,     /* int4 codes a thread packs */
    OUT = 4,        /* sums a thread reads at once, */
    ROWS = 4,       /* of so many rows */
    MANY_ROWS = 64, /* where there are as many as this */
    THREADS = 256,  /* of kernels without sums */
    OUT_THREADS = 128,
    MAX_THREADS = 512,
    MAX_BLOCKS = 8192
};

struct quantize_args {
    const void *x;
    uint8_t *codes;
    float *scales;
    int64_t ld, scale_stride;
    int K, scale_columns; /* columns that share a scale */
    int group_columns, group_ld;
    float qmax;
    bool is_fp8;
};

/* Grid (rows, scales of a row). The row is read twice; the second time it is in the cache. */
template <typename CT, int vec> __global__ void k_quantize(quantize_args a) {
    const int64_t row = blockIdx.x;
    const int first = (int)blockIdx.y * a.scale_columns;
    const int end = min(first + a.scale_columns, a.K);
    const CT *x = (const CT *)a.x + row * a.K;
    uint8_t *codes = a.codes + row * a.ld;
    unsigned largest = 0;
    release_successor();
    wait_for_predecessor();
    for (int k = first + (int)threadIdx.x * vec; k < end; k += (int)blockDim.x * vec) {
        vec_of<CT, vec> v;
        v.load(x + k);
        for (int i = 0; i < vec; i++) largest = max(largest, magnitude_of(v.v[i]));
    }
    const quantizer q = quantizer_of(block_max(largest), a.qmax, a.is_fp8);
    if (threadIdx.x == 0) a.scales[row + blockIdx.y * a.scale_stride] = q.scale;
    for (int k = first + (int)threadIdx.x * vec; k < end; k += (int)blockDim.x * vec) {
        vec_of<CT, vec> v;
        v.load(x + k);
        const int group = k / a.group_columns;
        store_codes<vec>(q, v.v, codes + group * a.group_ld + k - group * a.group_columns);
    }
    if (end < a.K) return;
    const int last = (a.K - 1) / a.group_columns;
    const int used = last * a.group_ld + a.K - last * a.group_columns;
    for (int i = used + (int)threadIdx.x; i < a.ld; i += (int)blockDim.x) codes[i] = 0;
}

__global__ void k_pack_int4(const uint4 *codes, uint2 *packed, int64_t n) {
    const int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
        const uint4 from = codes[i];
        const uint32_t words[4] = {from.x, from.y, from.z, from.w};
        uint32_t pairs[4]; /* 16 bits of each word */
        for (int k = 0; k < 4; k++) {
            const uint32_t low = words[k] & 0x000f000fu, high = words[k] >> 4 & 0x00f000f0u;
            const uint32_t both = low | high;
            pairs[k] = (both & 0xffu) | (both >> 8 & 0xff00u);
        }
        packed[i] = make_uint2(pairs[0] | pairs[1] << 16, pairs[2] | pairs[3] << 16);
    }
}

/* Eight codes of four packed bytes. */
__device__ __forceinline__ uint2 unpacked_of(uint32_t packed) {
    const uint32_t bias = 0x08080808u;
    const uint32_t low = __vsub4((packed & 0x0f0f0f0fu) ^ bias, bias);
    const uint32_t high = __vsub4((packed >> 4 & 0x0f0f0f0fu) ^ bias, bias);
    return make_uint2(__byte_perm(low, high, 0x5140), __byte_perm(low, high, 0x7362));
}

__global__ void k_unpack_int4(const uint2 *packed, uint4 *codes, int64_t n) {
    const int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
        const uint2 from = packed[i];
        const uint2 low = unpacked_of(from.x), high = unpacked_of(from.y);
        codes[i] = make_uint4(low.x, low.y, high.x, high.y);
    }
}

struct weights_args {
    const uint8_t *codes;
    const float *scales;
    void *w;
    int64_t ld; /* bytes of a row of codes */
    int64_t N;
    int K, group_columns, group_ld;
};

/* Grid (N). */
template <typename CT, int vec, bool is_int4> __global__ void k_dequantize_weights(weights_args a) {
    const int64_t n = blockIdx.x;
    const uint8_t *codes = a.codes + n * a.ld;
    CT *w = (CT *)a.w + n * a.K;
    for (int k = (int)threadIdx.x * vec; k < a.K; k += (int)blockDim.x * vec) {
        const int group = k / a.group_columns;
        const int place = group * a.group_ld + k - group * a.group_columns;
        const float scale = a.scales[group * a.N + n];
        alignas(VEC) int8_t q[VEC];
        if constexpr (vec == VEC && is_int4) {
            *(uint2 *)q = unpacked_of(*(const uint32_t *)(codes + place / 2));
        } else if constexpr (vec == VEC) {
            *(uint2 *)q = *(const uint2 *)(codes + place);
        } else if constexpr (is_int4) {
            const int nibble = codes[place / 2] >> (place % 2 * 4) & 0xf;
            q[0] = (int8_t)((nibble ^ 8) - 8);
        } else {
            q[0] = (int8_t)codes[place];
        }
        vec_of<CT, vec> out;
        for (int i = 0; i < vec; i++) out.v[i] = __fmul_rn((float)q[i], scale);
        out.store(w + k);
    }
}

struct dequantize_args {
    const void *sums;
    const float *x_scales, *w_scales;
    const void *bias; /* of the block's first row; NULL if none */
    void *y;          /* there too */
    int64_t M, N, rows, y_ld;
    int n_groups;
};

/* What a thread makes: OUT columns of `rows` rows. */
template <int rows> struct patch { float v[rows][OUT]; };

/* Terms of groups in ascending order. Rows past the last are read as the last. */
template <int rows>
__device__ __forceinline__ void sum_groups(const dequantize_args &a, int64_t m, int64_t n,
                                           patch<rows> &y) {
    float s_x[rows];
    for (int r = 0; r < rows; r++) s_x[r] = a.x_scales[min(m + r, a.M - 1)];
    for (int g = 0; g < a.n_groups; g++) {
        const int32_t *sums = (const int32_t *)a.sums + g * a.M * a.N + n;
        const float4 four = *(const float4 *)(a.w_scales + g * a.N + n);
        const float s_w[OUT] = {four.x, four.y, four.z, four.w};
        int4 acc[rows];
        for (int r = 0; r < rows; r++) acc[r] = *(const int4 *)(sums + min(m + r, a.M - 1) * a.N);
        for (int r = 0; r < rows; r++) {
            const int32_t accs[OUT] = {acc[r].x, acc[r].y, acc[r].z, acc[r].w};
            for (int i = 0; i < OUT; i++) {
                const float term = scaled_sum(accs[i], s_x[r], s_w[i]);
                y.v[r][i] = g > 0 ? __fadd_rn(y.v[r][i], term) : term;
            }
        }
    }
}

/* fp8 has one group, and its scales are applied. */
template <int rows>
__device__ __forceinline__ void copy_sums(const dequantize_args &a, int64_t m, int64_t n,
                                          patch<rows> &y) {
    for (int r = 0; r < rows; r++) {
        const float *sums = (const float *)a.sums + min(m + r, a.M - 1) * a.N + n;
        const float4 four = *(const float4 *)sums;
        y.v[r][0] = four.x;
        y.v[r][1] = four.y;
        y.v[r][2] = four.z;
        y.v[r][3] = four.w;
    }
}

/* Grid (columns, M / rows). vec: numbers that are stored at once, OUT or 1. */
template <typename CT, int vec, int rows, bool is_fp8>
__global__ void __launch_bounds__(OUT_THREADS) k_dequantize(dequantize_args a) {
    const int64_t m = (int64_t)blockIdx.y * rows;
    const int64_t n = ((int64_t)blockIdx.x * OUT_THREADS + threadIdx.x) * OUT;
    patch<rows> y;
    release_successor();
    wait_for_predecessor();
    if (n >= a.rows) return;
    if constexpr (is_fp8) {
        copy_sums(a, m, n, y);
    } else {
        sum_groups(a, m, n, y);
    }
    const CT *bias = (const CT *)a.bias;
    for (int r = 0; r < rows && m + r < a.M; r++) {
        CT *to = (CT *)a.y + (m + r) * a.y_ld + n;
        for (int i = 0; i < OUT && bias != NULL; i++) {
            if (n + i < a.rows) y.v[r][i] = __fadd_rn(y.v[r][i], to_float(bias[n + i]));
        }
        if constexpr (vec == OUT) {
            vec_of<CT, OUT> out;
            for (int i = 0; i < OUT; i++) out.v[i] = y.v[r][i];
            out.store(to);
        } else {
            for (int i = 0; i < OUT && n + i < a.rows; i++) to[i] = from_float<CT>(y.v[r][i]);
        }
    }
}

__global__ void k_draw_codes(uint4 *codes, int64_t n, int qmax) {
    enum { RUN = 4 }; /* items of one kind in a row */
    const int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += step) {
        alignas(16) int8_t item[CODES];
        const int kind = (int)(i / RUN % 4);
        for (int k = 0; k < CODES; k++) {
            /* The finalizer of MurmurHash3, of the place. */
            uint32_t h = (uint32_t)(i * CODES + k) + 0x9e3779b9u;
            h = (h ^ h >> 16) * 0x85ebca6bu;
            h = (h ^ h >> 13) * 0xc2b2ae35u;
            h ^= h >> 16;
            const int any = (int)(h % (uint32_t)(2 * qmax + 1)) - qmax;
            item[k] = (int8_t)(kind == 1 ? qmax : (kind == 2 ? -qmax : any));
        }
        codes[i] = *(const uint4 *)item;
    }
}

/* Grid (N, n_groups, rows that are looked at). */
__global__ void k_count_wrong(cuda_count_call c) {
    const int64_t n = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, g = blockIdx.y;
    const int64_t rows[] = {0, c.M / 2, c.M - 1}, m = rows[blockIdx.z];
    if (n >= c.N) return;
    const int *x = (const int *)(c.x + m * c.shape.ld + g * c.shape.group_ld);
    const int *w = (const int *)(c.w + n * c.shape.ld + g * c.shape.group_ld);
    int sum = 0;
    for (int64_t k = 0; k < c.shape.group_ld / 4; k++) sum = __dp4a(x[k], w[k], sum);
    if (sum != c.sums[(g * c.M + m) * c.N + n]) atomicAdd(c.n_wrong, 1);
}

unsigned threads_for(int64_t n) {
    const int64_t whole = (n + WARP - 1) / WARP * WARP;
    return (unsigned)(whole < MAX_THREADS ? whole : MAX_THREADS);
}

unsigned blocks_for(int64_t n) {
    const int64_t wanted = (n + THREADS - 1) / THREADS;
    return (unsigned)(wanted < MAX_BLOCKS ? wanted : MAX_BLOCKS);
}

template <typename CT>
void launch_weights(const weights_args &a, bool is_int4, bool is_aligned, cudaStream_t stream) {
    const unsigned grid = (unsigned)a.N;
    if (is_aligned) {
        const unsigned threads = threads_for(a.K / VEC);
        if (is_int4) k_dequantize_weights<CT, VEC, true><<<grid, threads, 0, stream>>>(a);
        if (!is_int4) k_dequantize_weights<CT, VEC, false><<<grid, threads, 0, stream>>>(a);
    } else {
        const unsigned threads = threads_for(a.K);
        if (is_int4) k_dequantize_weights<CT, 1, true><<<grid, threads, 0, stream>>>(a);
        if (!is_int4) k_dequantize_weights<CT, 1, false><<<grid, threads, 0, stream>>>(a);
    }
}

template <typename CT, int vec>
ssmq_status launch_quantize(const cuda_quantize_call *c, const quantize_args &a, dim3 grid,
                            ssmq_err *err) {
    const unsigned threads = threads_for((a.scale_columns + vec - 1) / vec);
    const launch_shape shape = {grid, dim3(threads), 0};
    const cuda_pass p = chain_pass(c->stream, c->is_chained);
    return launch_chained(k_quantize<CT, vec>, shape, &p, err, a);
}

template <typename CT, int rows, bool is_fp8>
ssmq_status launch_dequantize(const dequantize_args &a, bool is_aligned, const cuda_pass &p,
                              ssmq_err *err) {
    const int64_t a_block = (int64_t)OUT_THREADS * OUT;
    const dim3 grid((unsigned)((a.rows + a_block - 1) / a_block),
                    (unsigned)((a.M + rows - 1) / rows));
    const launch_shape shape = {grid, dim3(OUT_THREADS), 0};
    if (is_aligned) return launch_chained(k_dequantize<CT, OUT, rows, is_fp8>, shape, &p, err, a);
    return launch_chained(k_dequantize<CT, 1, rows, is_fp8>, shape, &p, err, a);
}

template <typename CT>
ssmq_status launch_rows(const dequantize_args &a, bool is_fp8, bool is_aligned, const cuda_pass &p,
                        ssmq_err *err) {
    if (a.M < MANY_ROWS) {
        return is_fp8 ? launch_dequantize<CT, 1, true>(a, is_aligned, p, err)
                      : launch_dequantize<CT, 1, false>(a, is_aligned, p, err);
    }
    return is_fp8 ? launch_dequantize<CT, ROWS, true>(a, is_aligned, p, err)
                  : launch_dequantize<CT, ROWS, false>(a, is_aligned, p, err);
}

} // namespace

ssmq_status cuda_quantize(const cuda_quantize_call *call, ssmq_err *err) {
    const cuda_code_shape *s = &call->shape;
    quantize_args a = {};
    a.x = call->x;
    a.codes = call->codes;
    a.scales = call->scales;
    a.ld = s->ld;
    a.scale_stride = call->scale_stride;
    a.K = (int)s->columns;
    a.scale_columns = (int)(call->by_group ? s->group_columns : s->columns);
    a.group_columns = (int)s->group_columns;
    a.group_ld = (int)s->group_ld;
    a.qmax = (float)ssmq_format_get(call->format)->qmax;
    a.is_fp8 = call->format == SSMQ_FORMAT_FP8_E4M3;
    const dim3 grid((unsigned)call->rows, (unsigned)(call->by_group ? s->n_groups : 1));
    const bool is_aligned = s->columns % VEC == 0 && s->group_columns % VEC == 0;
    ssmq_status status = SSMQ_OK;
    DISPATCH(call->dtype, CT,
             status = is_aligned ? launch_quantize<CT, VEC>(call, a, grid, err)
                                 : launch_quantize<CT, 1>(call, a, grid, err));
    return status;
}

ssmq_status cuda_pack_int4(const uint8_t *codes, int64_t n, uint8_t *packed, cudaStream_t stream,
                           ssmq_err *err) {
    const int64_t items = n / CODES;
    k_pack_int4<<<blocks_for(items), THREADS, 0, stream>>>((const uint4 *)codes, (uint2 *)packed,
                                                           items);
    CUDA_LAUNCHED(err);
    return SSMQ_OK;
}

ssmq_status cuda_unpack_int4(const uint8_t *packed, int64_t n, uint8_t *codes, cudaStream_t stream,
                             ssmq_err *err) {
    const int64_t items = n / CODES;
    k_unpack_int4<<<blocks_for(items), THREADS, 0, stream>>>((const uint2 *)packed, (uint4 *)codes,
                                                             items);
    CUDA_LAUNCHED(err);
    return SSMQ_OK;
}

ssmq_status cuda_draw_codes(uint8_t *codes, int64_t n, ssmq_format format, cudaStream_t stream,
                            ssmq_err *err) {
    const int64_t items = n / CODES;
    const int qmax = (int)ssmq_format_get(format)->qmax;
    k_draw_codes<<<blocks_for(items), THREADS, 0, stream>>>((uint4 *)codes, items, qmax);
    CUDA_LAUNCHED(err);
    return SSMQ_OK;
}

ssmq_status cuda_count_wrong(const cuda_count_call *call, ssmq_err *err) {
    const unsigned n_rows = 3, n_blocks = (unsigned)((call->N + THREADS - 1) / THREADS);
    const dim3 grid(n_blocks, (unsigned)call->shape.n_groups, n_rows);
    CUDA_TRY(cudaMemsetAsync(call->n_wrong, 0, sizeof *call->n_wrong, call->stream), err);
    k_count_wrong<<<grid, THREADS, 0, call->stream>>>(*call);
    CUDA_LAUNCHED(err);
    return SSMQ_OK;
}

ssmq_status cuda_dequantize_weights(const cuda_linear *linear, const cuda_block *block, void *w,
                                    cudaStream_t stream, ssmq_err *err) {
    const cuda_code_shape *s = &linear->codes;
    const bool is_int4 = linear->w_format == SSMQ_FORMAT_INT4;
    weights_args a = {};
    a.codes = (const uint8_t *)block->w;
    a.scales = block->scales;
    a.w = w;
    a.ld = is_int4 ? s->ld / 2 : s->ld;
    a.N = block->N;
    a.K = (int)s->columns;
    a.group_columns = (int)s->group_columns;
    a.group_ld = (int)s->group_ld;
    const bool is_aligned = s->columns % VEC == 0 && s->group_columns % VEC == 0;
    DISPATCH(linear->dtype, CT, launch_weights<CT>(a, is_int4, is_aligned, stream));
    CUDA_LAUNCHED(err);
    return SSMQ_OK;
}

ssmq_status cuda_dequantize(const cuda_dequantize_call *call, ssmq_err *err) {
    const cuda_linear *l = call->linear;
    const cuda_block *k = call->block;
    const int64_t size = (int64_t)ssmq_dtype_bytes(l->dtype), offset = k->first_row * size;
    const bool is_aligned = k->first_row % OUT == 0 && k->rows % OUT == 0 && l->y_ld % OUT == 0;
    dequantize_args a = {};
    a.sums = call->sums;
    a.x_scales = call->x_scales;
    a.w_scales = k->scales;
    a.bias = l->bias != NULL ? (const char *)l->bias + offset : NULL;
    a.y = (char *)call->y + offset;
    a.M = call->M;
    a.N = k->N;
    a.rows = k->rows;
    a.y_ld = l->y_ld;
    a.n_groups = (int)l->codes.n_groups;
    const bool is_fp8 = l->w_format == SSMQ_FORMAT_FP8_E4M3;
    const cuda_pass p = chain_pass(call->stream, call->is_chained);
    ssmq_status status = SSMQ_OK;
    DISPATCH(l->dtype, CT, status = launch_rows<CT>(a, is_fp8, is_aligned, p, err));
    return status;
}
