/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/conv.cu - depthwise causal convolution with SiLU over a segment, dt, and dt A
 * cumulated inside chunks (spec section 3, steps 3 and 4; section 7). Inputs before the segment
 * come from the ring. */
#include "engine/cuda/device.cuh"

namespace {

enum {
    VEC = 8, /* channels of a thread */
    CONV_THREADS = 64,
    CONV_TOKENS = 16, /* tokens that a thread walks over */
    MAX_K = SSMQ_MAX_CONV_KERNEL,
    DT_HEADS = 32, /* heads of a block of k_dt */
    DT_THREADS = 256,
    LANE_TOKENS = CUDA_CHUNK_TOKENS / WARP
};

struct conv_call {
    const void *zxbcdt, *ring, *taps, *bias;
    const int64_t *position;
    void *xbc;
    int64_t T, R_ld, di, conv_dim;
};

/* Raw inputs of token t, which may lie before the segment, and before the sequence. */
template <typename CT, int vec>
__device__ __forceinline__ vec_of<CT, vec> raw_input(const conv_call &c, int64_t b, int64_t t,
                                                     int64_t channel, int64_t position, int K) {
    vec_of<CT, vec> x;
    if (t >= 0) {
        x.load((const CT *)c.zxbcdt + (b * c.T + t) * c.R_ld + c.di + channel);
    } else if (position + t >= 0) {
        const int64_t slot = (position + t) % K;
        x.load((const CT *)c.ring + (b * K + slot) * c.conv_dim + channel);
    } else {
        for (int i = 0; i < vec; i++) x.v[i] = 0.0f;
    }
    return x;
}

/* Grid (channels, tokens, B). */
template <typename CT, int vec, int K>
__global__ void __launch_bounds__(CONV_THREADS) k_conv(conv_call c) {
    const int64_t channel = ((int64_t)blockIdx.x * CONV_THREADS + threadIdx.x) * vec;
    const int64_t first = (int64_t)blockIdx.y * CONV_TOKENS, b = blockIdx.z;
    if (channel >= c.conv_dim) return;
    vec_of<CT, vec> taps[K], bias, window[K];
    for (int k = 0; k < K; k++) taps[k].load((const CT *)c.taps + k * c.conv_dim + channel);
    bias.load((const CT *)c.bias + channel);
    wait_for_predecessor();
    release_successor();
    const int64_t position = *c.position;
    for (int k = 1; k < K; k++) {
        window[k] = raw_input<CT, vec>(c, b, first - K + k, channel, position, K);
    }
#pragma unroll 4
    for (int i = 0; i < CONV_TOKENS; i++) {
        const int64_t t = first + i;
        if (t >= c.T) break;
        for (int k = 0; k + 1 < K; k++) window[k] = window[k + 1];
        window[K - 1].load((const CT *)c.zxbcdt + (b * c.T + t) * c.R_ld + c.di + channel);
        vec_of<CT, vec> sum = bias;
        for (int k = 0; k < K; k++) {
            for (int n = 0; n < vec; n++) sum.v[n] += taps[k].v[n] * window[k].v[n];
        }
        for (int n = 0; n < vec; n++) sum.v[n] = type_silu<CT>(sum.v[n]);
        sum.store((CT *)c.xbc + (b * c.T + t) * c.conv_dim + channel);
    }
}

struct dt_call {
    const void *zxbcdt;
    const float *dt_bias, *A;
    float *dt, *cs;
    int64_t T, T_pad, R_ld, first_column, H;
    float dt_min, dt_max;
};

/* Grid (chunks, heads, B). Comparisons that NaN fails: it must stay visible. */
template <typename CT> __global__ void __launch_bounds__(DT_THREADS) k_dt(dt_call c) {
    __shared__ float dts[DT_HEADS][CUDA_CHUNK_TOKENS + 1];
    const int64_t first = (int64_t)blockIdx.x * CUDA_CHUNK_TOKENS, b = blockIdx.z;
    const int64_t head0 = (int64_t)blockIdx.y * DT_HEADS;
    wait_for_predecessor();
    release_successor();
    for (int i = threadIdx.x; i < DT_HEADS * CUDA_CHUNK_TOKENS; i += DT_THREADS) {
        const int64_t h = head0 + i % DT_HEADS, t = first + i / DT_HEADS;
        float v = 0.0f;
        if (h < c.H && t < c.T) {
            const CT *row = (const CT *)c.zxbcdt + (b * c.T + t) * c.R_ld;
            v = softplus(to_float(row[c.first_column + h]) + c.dt_bias[h]);
            v = v < c.dt_min ? c.dt_min : (v > c.dt_max ? c.dt_max : v);
        }
        dts[i % DT_HEADS][i / DT_HEADS] = v;
    }
    __syncthreads();
    const int lane = threadIdx.x % WARP;
    for (int i = threadIdx.x / WARP; i < DT_HEADS && head0 + i < c.H; i += DT_THREADS / WARP) {
        const double A = (double)c.A[head0 + i];
        double part[LANE_TOKENS], sum = 0.0;
        for (int k = 0; k < LANE_TOKENS; k++) {
            sum += (double)dts[i][lane * LANE_TOKENS + k] * A;
            part[k] = sum;
        }
        double before = sum;
        for (int step = 1; step < WARP; step *= 2) {
            const double other = __shfl_up_sync(~0u, before, step);
            if (lane >= step) before += other;
        }
        before = __shfl_up_sync(~0u, before, 1);
        if (lane == 0) before = 0.0;
        const int64_t at = (b * c.H + head0 + i) * c.T_pad + first + lane * LANE_TOKENS;
        for (int k = 0; k < LANE_TOKENS; k++) {
            c.dt[at + k] = dts[i][lane * LANE_TOKENS + k];
            c.cs[at + k] = (float)(before + part[k]);
        }
    }
}

/* Grid (channels, kept tokens, B). */
template <typename CT> __global__ void k_keep(conv_call c, CT *ring, int K) {
    wait_for_predecessor();
    release_successor();
    const int64_t channel = (int64_t)blockIdx.x * blockDim.x + threadIdx.x, b = blockIdx.z;
    const int64_t t = c.T - 1 - blockIdx.y;
    if (channel >= c.conv_dim) return;
    const int64_t slot = (*c.position + t) % K;
    ring[(b * K + slot) * c.conv_dim + channel] =
        ((const CT *)c.zxbcdt)[(b * c.T + t) * c.R_ld + c.di + channel];
}

conv_call call_of(const cuda_pass *p, const void *zxbcdt, const void *ring, const int64_t *position,
                  void *xbc) {
    const ssmq_shape *s = p->shape;
    return {zxbcdt, ring,    p->layer->conv, p->layer->conv_bias, position, xbc,
            p->T,   p->R_ld, s->di,          s->conv_dim};
}

template <typename CT, int vec>
ssmq_status launch_conv(const cuda_pass *p, const conv_call &c, ssmq_err *err) {
    const int64_t width = CONV_THREADS * vec;
    const dim3 grid((unsigned)((c.conv_dim + width - 1) / width),
                    (unsigned)((c.T + CONV_TOKENS - 1) / CONV_TOKENS), (unsigned)p->B);
    const launch_shape shape = {grid, dim3(CONV_THREADS), 0};
    switch (p->shape->K) {
    case 1:
        return launch_chained(k_conv<CT, vec, 1>, shape, p, err, c);
    case 2:
        return launch_chained(k_conv<CT, vec, 2>, shape, p, err, c);
    case 3:
        return launch_chained(k_conv<CT, vec, 3>, shape, p, err, c);
    default:
        return launch_chained(k_conv<CT, vec, MAX_K>, shape, p, err, c);
    }
}

template <typename CT>
ssmq_status launch_dt(const cuda_pass *p, const void *zxbcdt, float *dt, float *cs, ssmq_err *err) {
    const ssmq_shape *s = p->shape;
    const int64_t chunks = (p->T + CUDA_CHUNK_TOKENS - 1) / CUDA_CHUNK_TOKENS;
    const dt_call c = {zxbcdt,
                       p->layer->dt_bias,
                       p->layer->A,
                       dt,
                       cs,
                       p->T,
                       chunks * CUDA_CHUNK_TOKENS,
                       p->R_ld,
                       s->di + s->conv_dim,
                       s->H,
                       s->dt_min,
                       s->dt_max};
    const dim3 grid((unsigned)chunks, (unsigned)((s->H + DT_HEADS - 1) / DT_HEADS), (unsigned)p->B);
    return launch_chained(k_dt<CT>, {grid, dim3(DT_THREADS), 0}, p, err, c);
}

template <typename CT>
ssmq_status launch_keep(const cuda_pass *p, const conv_call &c, void *ring, ssmq_err *err) {
    const int64_t K = p->shape->K, kept = p->T < K ? p->T : K;
    const dim3 grid((unsigned)((c.conv_dim + DT_THREADS - 1) / DT_THREADS), (unsigned)kept,
                    (unsigned)p->B);
    return launch_chained(k_keep<CT>, {grid, dim3(DT_THREADS), 0}, p, err, c, (CT *)ring, (int)K);
}

} // namespace

ssmq_status cuda_conv(const cuda_pass *p, const void *zxbcdt, const void *ring,
                      const int64_t *position, void *xbc, float *dt, float *cs, ssmq_err *err) {
    const ssmq_shape *s = p->shape;
    const conv_call c = call_of(p, zxbcdt, ring, position, xbc);
    const bool is_aligned = s->conv_dim % VEC == 0 && s->di % VEC == 0 && p->R_ld % VEC == 0;
    ssmq_status status = SSMQ_OK;
    DISPATCH(p->dtype, CT, status = launch_dt<CT>(p, zxbcdt, dt, cs, err));
    if (status != SSMQ_OK) return status;
    DISPATCH(p->dtype, CT,
             status = is_aligned ? launch_conv<CT, VEC>(p, c, err) : launch_conv<CT, 1>(p, c, err));
    return status;
}

ssmq_status cuda_conv_keep(const cuda_pass *p, const void *zxbcdt, void *ring,
                           const int64_t *position, ssmq_err *err) {
    const conv_call c = call_of(p, zxbcdt, ring, position, NULL);
    ssmq_status status = SSMQ_OK;
    DISPATCH(p->dtype, CT, status = launch_keep<CT>(p, c, ring, err));
    return status;
}
