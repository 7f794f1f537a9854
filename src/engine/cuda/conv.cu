/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/conv.cu - depthwise causal convolution with SiLU over a segment, dt, and dt A
 * cumulated inside chunks (spec section 3, steps 3 and 4; section 7). Inputs before the segment
 * come from the ring. */
#include "engine/cuda/chain.cuh"
#include "engine/cuda/quant.cuh"

namespace {

enum {
    VEC = 4, /* channels of a thread */
    THREADS = 128,
    CONV_TOKENS = 16, /* tokens that a thread walks over, */
    AHEAD = 8,        /* so many of them on their way at once */
    MAX_K = SSMQ_MAX_CONV_KERNEL,
    DT_HEADS = 16, /* heads of a block of dt */
    LANE_TOKENS = CUDA_CHUNK_TOKENS / WARP
};

/* One launch does everything: its first blocks are of dt, the others of the convolution. */
struct conv_call {
    cuda_product zxbcdt;
    const void *taps, *bias;
    const float *dt_bias, *A;
    const int64_t *position;
    void *ring, *xbc;
    float *dt, *cs;
    int64_t T, T_pad, di, conv_dim;
    int H, dt_blocks, dt_head_blocks, channel_blocks;
    float dt_min, dt_max;
};

/* Raw inputs of token t < 0 of the segment: of the ring, or before the sequence. */
template <typename CT, int vec, int K>
__device__ __forceinline__ vec_of<CT, vec> earlier_input(const conv_call &c, int64_t b, int64_t t,
                                                         int64_t channel, int64_t position) {
    vec_of<CT, vec> x = {};
    if (position + t < 0) return x;
    const int64_t slot = (position + t) % K;
    x.load((const CT *)c.ring + (b * K + slot) * c.conv_dim + channel);
    return x;
}

/* The segment's last inputs into the ring, by the thread that alone has read it there. */
template <typename CT, int vec, int K, bool has_sums>
__device__ __forceinline__ void keep_inputs(const conv_call &c, const vec_of<float, vec> &columns,
                                            int64_t b, int64_t channel, int64_t position) {
    for (int64_t t = c.T > K ? c.T - K : 0; t < c.T; t++) {
        product_part<CT, vec, has_sums> raw;
        raw.load(c.zxbcdt, b * c.T + t, c.di + channel);
        const vec_of<CT, vec> x = raw.numbers(columns);
        x.store((CT *)c.ring + (b * K + (position + t) % K) * c.conv_dim + channel);
    }
}

/* Channels [channel, channel + vec) of CONV_TOKENS tokens. */
template <typename CT, int vec, int K, bool has_sums>
__device__ __forceinline__ void convolve(const conv_call &c, int64_t b, int64_t first,
                                         int64_t channel) {
    vec_of<CT, vec> taps[K], bias, window[K] = {};
    for (int k = 0; k < K; k++) taps[k].load((const CT *)c.taps + k * c.conv_dim + channel);
    bias.load((const CT *)c.bias + channel);
    const int64_t row0 = b * c.T, column = c.di + channel;
    CT *out = (CT *)c.xbc + row0 * c.conv_dim + channel;
    vec_of<float, vec> columns = {};
    if (has_sums) columns.load(c.zxbcdt.column_scales + column);
    wait_for_predecessor();
    const int64_t position = *c.position;
    for (int k = 1; k < K; k++) {
        const int64_t t = first - K + k;
        if (t >= 0) {
            product_part<CT, vec, has_sums> raw;
            raw.load(c.zxbcdt, row0 + t, column);
            window[k] = raw.numbers(columns);
        } else {
            window[k] = earlier_input<CT, vec, K>(c, b, t, channel, position);
        }
    }
    for (int64_t t0 = first; t0 < first + CONV_TOKENS && t0 < c.T; t0 += AHEAD) {
        product_part<CT, vec, has_sums> next[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            if (t0 + i < c.T) next[i].load(c.zxbcdt, row0 + t0 + i, column);
        }
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            for (int k = 0; k + 1 < K; k++) window[k] = window[k + 1];
            window[K - 1] = next[i].numbers(columns);
            vec_of<CT, vec> sum = bias;
            for (int k = 0; k < K; k++) {
                for (int n = 0; n < vec; n++) sum.v[n] += taps[k].v[n] * window[k].v[n];
            }
            for (int n = 0; n < vec; n++) sum.v[n] = type_silu<CT>(sum.v[n]);
            if (t0 + i < c.T) sum.store(out + (t0 + i) * c.conv_dim);
        }
    }
    if (first == 0) keep_inputs<CT, vec, K, has_sums>(c, columns, b, channel, position);
}

/* dt of a chunk's tokens and some heads into shared memory; 0 where there is no such token.
 * Comparisons that NaN fails: it must stay visible. */
template <typename CT>
__device__ __forceinline__ void fill_dt(const conv_call &c, int64_t b, int64_t first, int head0,
                                        float (*dts)[CUDA_CHUNK_TOKENS + 1]) {
    for (int i = threadIdx.x; i < DT_HEADS * CUDA_CHUNK_TOKENS; i += THREADS) {
        const int h = head0 + i % DT_HEADS;
        const int64_t t = first + i / DT_HEADS;
        float v = 0.0f;
        if (h < c.H && t < c.T) {
            const int64_t m = b * c.T + t;
            const int64_t column = c.di + c.conv_dim + h;
            vec_of<CT, 1> raw;
            load_product<CT, 1>(c.zxbcdt, m, column, row_scale(c.zxbcdt, m),
                                column_scales<1>(c.zxbcdt, column), raw);
            v = softplus(raw.v[0] + c.dt_bias[h]);
            v = v < c.dt_min ? c.dt_min : (v > c.dt_max ? c.dt_max : v);
        }
        dts[i % DT_HEADS][i / DT_HEADS] = v;
    }
}

/* dt of one head and dt A cumulated, by a warp: four tokens a lane, then over the lanes. */
__device__ __forceinline__ void cumulate(const float *dts, double A, float *dt, float *cs) {
    const int lane = threadIdx.x % WARP;
    double part[LANE_TOKENS], sum = 0.0;
    for (int k = 0; k < LANE_TOKENS; k++) {
        sum += (double)dts[lane * LANE_TOKENS + k] * A;
        part[k] = sum;
    }
    double before = sum;
    for (int step = 1; step < WARP; step *= 2) {
        const double other = __shfl_up_sync(~0u, before, step);
        if (lane >= step) before += other;
    }
    before = __shfl_up_sync(~0u, before, 1);
    if (lane == 0) before = 0.0;
    for (int k = 0; k < LANE_TOKENS; k++) {
        dt[lane * LANE_TOKENS + k] = dts[lane * LANE_TOKENS + k];
        cs[lane * LANE_TOKENS + k] = (float)(before + part[k]);
    }
}

template <typename CT> __device__ __forceinline__ void chunk_dt(const conv_call &c, int64_t b) {
    __shared__ float dts[DT_HEADS][CUDA_CHUNK_TOKENS + 1];
    const int64_t first = (int64_t)(blockIdx.x / c.dt_head_blocks) * CUDA_CHUNK_TOKENS;
    const int head0 = (int)(blockIdx.x % c.dt_head_blocks) * DT_HEADS;
    wait_for_predecessor();
    fill_dt<CT>(c, b, first, head0, dts);
    __syncthreads();
    for (int i = threadIdx.x / WARP; i < DT_HEADS && head0 + i < c.H; i += THREADS / WARP) {
        const int64_t at = (b * c.H + head0 + i) * c.T_pad + first;
        cumulate(dts[i], (double)c.A[head0 + i], c.dt + at, c.cs + at);
    }
}

/* Grid (blocks of dt, then of channels of tokens; B). */
template <typename CT, int vec, int K, bool has_sums>
__global__ void __launch_bounds__(THREADS, 5) k_conv(conv_call c) {
    release_successor();
    const int64_t b = blockIdx.y;
    if ((int)blockIdx.x < c.dt_blocks) {
        chunk_dt<CT>(c, b);
        return;
    }
    const int i = (int)blockIdx.x - c.dt_blocks;
    const int64_t channel = ((int64_t)(i % c.channel_blocks) * THREADS + threadIdx.x) * vec;
    const int64_t first = (int64_t)(i / c.channel_blocks) * CONV_TOKENS;
    if (channel < c.conv_dim) convolve<CT, vec, K, has_sums>(c, b, first, channel);
}

template <typename CT, int vec, bool has_sums>
ssmq_status launch_conv(const cuda_pass *p, conv_call c, ssmq_err *err) {
    const int64_t width = THREADS * vec;
    c.channel_blocks = (int)((c.conv_dim + width - 1) / width);
    const int64_t token_blocks = (c.T + CONV_TOKENS - 1) / CONV_TOKENS;
    const dim3 grid((unsigned)(c.dt_blocks + c.channel_blocks * token_blocks), (unsigned)p->B);
    const launch_shape shape = {grid, dim3(THREADS), 0};
    switch (p->shape->K) {
    case 1:
        return launch_chained(k_conv<CT, vec, 1, has_sums>, shape, p, err, c);
    case 2:
        return launch_chained(k_conv<CT, vec, 2, has_sums>, shape, p, err, c);
    case 3:
        return launch_chained(k_conv<CT, vec, 3, has_sums>, shape, p, err, c);
    default:
        return launch_chained(k_conv<CT, vec, MAX_K, has_sums>, shape, p, err, c);
    }
}

template <typename CT, bool has_sums>
ssmq_status launch_form(const cuda_pass *p, const conv_call &c, bool is_aligned, ssmq_err *err) {
    return is_aligned ? launch_conv<CT, VEC, has_sums>(p, c, err)
                      : launch_conv<CT, 1, has_sums>(p, c, err);
}

} // namespace

ssmq_status cuda_conv(const cuda_pass *p, const cuda_conv_call *call, ssmq_err *err) {
    const ssmq_shape *s = p->shape;
    const int64_t chunks = (p->T + CUDA_CHUNK_TOKENS - 1) / CUDA_CHUNK_TOKENS;
    const bool is_aligned =
        s->conv_dim % VEC == 0 && s->di % VEC == 0 && call->zxbcdt.ld % VEC == 0;
    const bool has_sums = call->zxbcdt.row_scales != NULL;
    conv_call c = {};
    c.zxbcdt = call->zxbcdt;
    c.taps = p->layer->conv;
    c.bias = p->layer->conv_bias;
    c.dt_bias = p->layer->dt_bias;
    c.A = p->layer->A;
    c.position = call->position;
    c.ring = call->ring;
    c.xbc = call->xbc;
    c.dt = call->dt;
    c.cs = call->cs;
    c.T = p->T;
    c.T_pad = chunks * CUDA_CHUNK_TOKENS;
    c.di = s->di;
    c.conv_dim = s->conv_dim;
    c.H = (int)s->H;
    c.dt_head_blocks = (c.H + DT_HEADS - 1) / DT_HEADS;
    c.dt_blocks = c.dt_head_blocks * (int)chunks;
    c.dt_min = s->dt_min;
    c.dt_max = s->dt_max;
    ssmq_status status = SSMQ_OK;
    DISPATCH(p->dtype, CT,
             status = has_sums ? launch_form<CT, true>(p, c, is_aligned, err)
                               : launch_form<CT, false>(p, c, is_aligned, err));
    return status;
}
