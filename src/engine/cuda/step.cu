/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/step.cu - one token of each sequence through conv and recurrence (spec section 6):
 *     S = exp(dt A) S + dt x B^T,  y = S C + D x.
 * A block takes some rows of one head's state. It makes the channels it needs, its x and its
 * group's B and C, from the ring's older slots and the new input; who writes the new slot is fixed
 * and nobody reads it. The state is the traffic: its first rows are on their way before all else.
 */
#include "engine/cuda/device.cuh"

namespace {

enum {
    THREADS = 128,
    N_WARPS = THREADS / WARP,
    ROWS = 8, /* of the state that a warp has in flight at once */
    MAX_K = SSMQ_MAX_CONV_KERNEL
};

struct step_call {
    cuda_step_call io;
    const void *taps, *bias;
    const float *dt_bias, *A, *D;
    int64_t R_ld;
    int di, conv_dim, H, P, N, G, K;
    int slice_rows;    /* of P, of one block */
    int lanes_per_row; /* a power of two */
    float dt_min, dt_max;
};

/* Where a block's work lies. */
struct place {
    int64_t b;
    int h, g, first_row;
};

__device__ __forceinline__ place place_of(const step_call &c) {
    const int slices = c.P / c.slice_rows;
    const int h = blockIdx.x / slices;
    return {blockIdx.y, h, h / (c.H / c.G), (int)(blockIdx.x % slices) * c.slice_rows};
}

/* Channel number i of a block: its rows of x, then B, then C. */
__device__ __forceinline__ int channel_of(const step_call &c, const place &at, int i) {
    if (i < c.slice_rows) return at.h * c.P + at.first_row + i;
    i -= c.slice_rows;
    return i < c.N ? c.di + at.g * c.N + i : c.di + (c.G + at.g) * c.N + i - c.N;
}

/* Channels into shared memory: x [slice_rows], B [N], C [N], rounded as xbc is in a segment. */
template <typename CT>
__device__ __forceinline__ void fill_channels(const step_call &c, const place &at, float *shared) {
    const CT *taps = (const CT *)c.taps, *bias = (const CT *)c.bias;
    const CT *raw = (const CT *)c.io.zxbcdt + at.b * c.R_ld + c.di;
    CT *ring = (CT *)c.io.ring + at.b * c.K * c.conv_dim;
    const int64_t position = *c.io.position;
    const bool is_first = at.h % (c.H / c.G) == 0 && at.first_row == 0;
    const int n = c.slice_rows + 2 * c.N;
    for (int i0 = 0; i0 < n; i0 += THREADS) {
        const int i = i0 + threadIdx.x;
        const int channel = channel_of(c, at, i < n ? i : 0);
        float sum = to_float(bias[channel]), last_tap = 0.0f;
        for (int k = 0; k < c.K; k++) {
            const int64_t t = position - (c.K - 1) + k;
            const float tap = to_float(taps[k * c.conv_dim + channel]);
            if (k == c.K - 1) {
                last_tap = tap;
            } else if (t >= 0) {
                sum += tap * to_float(ring[t % c.K * c.conv_dim + channel]);
            }
        }
        /* Only what comes from the product before must wait for it. */
        if (i0 == 0) wait_for_predecessor();
        if (i >= n) break;
        const CT now = raw[channel];
        sum += last_tap * to_float(now);
        shared[i] = to_float(from_float<CT>(type_silu<CT>(sum)));
        if (i < c.slice_rows || is_first) ring[position % c.K * c.conv_dim + channel] = now;
    }
}

template <typename CT> __device__ __forceinline__ float dt_of(const step_call &c, const place &at) {
    const CT *raw = (const CT *)c.io.zxbcdt + at.b * c.R_ld + c.di + c.conv_dim;
    const float v = softplus(to_float(raw[at.h]) + c.dt_bias[at.h]);
    return v < c.dt_min ? c.dt_min : (v > c.dt_max ? c.dt_max : v);
}

/* Sum over the lanes_per_row neighbours of a lane. */
__device__ __forceinline__ float row_sum(float x, int lanes_per_row) {
    for (int step = lanes_per_row / 2; step > 0; step /= 2) x += __shfl_xor_sync(~0u, x, step);
    return x;
}

/* Grid (H * slices, B). lanes_per_row lanes hold a row of N = lanes_per_row * vec states. */
template <typename CT, typename ST, int vec>
__global__ void __launch_bounds__(THREADS) k_step(step_call c) {
    extern __shared__ float shared[];
    const place at = place_of(c);
    const int rows_per_warp = WARP / c.lanes_per_row;
    const int lane = threadIdx.x % WARP;
    const int row0 = threadIdx.x / WARP * rows_per_warp + lane / c.lanes_per_row;
    const int n = lane % c.lanes_per_row * vec;
    const int step = N_WARPS * rows_per_warp;
    ST *state = (ST *)c.io.state + ((at.b * c.H + at.h) * c.P + at.first_row) * (int64_t)c.N + n;
    /* As stored: to convert them here would be to wait for them here. */
    packet<ST, vec> stored[ROWS];
#pragma unroll
    for (int j = 0; j < ROWS; j++) {
        const int row = row0 + j * step;
        if (row < c.slice_rows) stored[j] = *(const packet<ST, vec> *)(state + (int64_t)row * c.N);
    }
    release_successor();
    fill_channels<CT>(c, at, shared);
    const float dt = dt_of<CT>(c, at), decay = expf(dt * c.A[at.h]), D = c.D[at.h];
    __syncthreads();
    float B[vec], C[vec];
    for (int k = 0; k < vec; k++) {
        B[k] = shared[c.slice_rows + n + k];
        C[k] = shared[c.slice_rows + c.N + n + k];
    }
    CT *y = (CT *)c.io.y + at.b * c.di + at.h * c.P + at.first_row;
    for (int base = 0; base < c.slice_rows; base += ROWS * step) {
#pragma unroll
        for (int j = 0; j < ROWS; j++) {
            const int row = base + row0 + j * step;
            if (base == 0 || row >= c.slice_rows) continue;
            stored[j] = *(const packet<ST, vec> *)(state + (int64_t)row * c.N);
        }
#pragma unroll
        for (int j = 0; j < ROWS; j++) {
            const int row = base + row0 + j * step;
            if (base + j * step >= c.slice_rows) break;
            const float x = row < c.slice_rows ? shared[row] : 0.0f;
            float sum = 0.0f;
            for (int k = 0; k < vec; k++) {
                const float S = decay * to_float(stored[j].v[k]) + dt * x * B[k];
                stored[j].v[k] = from_float<ST>(S);
                sum += S * C[k];
            }
            sum = row_sum(sum, c.lanes_per_row);
            if (row >= c.slice_rows) continue;
            *(packet<ST, vec> *)(state + (int64_t)row * c.N) = stored[j];
            if (n == 0) y[row] = from_float<CT>(sum + D * x);
        }
    }
}

/* N that no power of two of lanes divides: a warp a row, a number at a time. */
template <typename CT, typename ST>
__global__ void __launch_bounds__(THREADS) k_step_any(step_call c) {
    extern __shared__ float shared[];
    const place at = place_of(c);
    fill_channels<CT>(c, at, shared);
    const float dt = dt_of<CT>(c, at), decay = expf(dt * c.A[at.h]), D = c.D[at.h];
    __syncthreads();
    const float *B = shared + c.slice_rows, *C = B + c.N;
    ST *state = (ST *)c.io.state + ((at.b * c.H + at.h) * c.P + at.first_row) * (int64_t)c.N;
    CT *y = (CT *)c.io.y + at.b * c.di + at.h * c.P + at.first_row;
    for (int row = threadIdx.x / WARP; row < c.slice_rows; row += N_WARPS) {
        float sum = 0.0f;
        for (int n = threadIdx.x % WARP; n < c.N; n += WARP) {
            const int64_t i = (int64_t)row * c.N + n;
            const float S = decay * to_float(state[i]) + dt * shared[row] * B[n];
            state[i] = from_float<ST>(S);
            sum += S * C[n];
        }
        sum = warp_sum(sum);
        if (threadIdx.x % WARP == 0) y[row] = from_float<CT>(sum + D * shared[row]);
    }
}

/* The most slices of P that the card has room for at once, down to one row a warp. */
int slice_rows_of(const cuda_pass *p, int rows_per_pass) {
    const int64_t heads = p->B * p->shape->H;
    int64_t rows = p->shape->P;
    while (rows % 2 == 0 && rows / 2 >= rows_per_pass &&
           heads * (p->shape->P / rows) < 2 * p->n_sm) {
        rows /= 2;
    }
    return (int)rows;
}

template <typename CT, typename ST>
ssmq_status launch_step(const cuda_pass *p, const cuda_step_call *io, ssmq_err *err) {
    const ssmq_shape *s = p->shape;
    const cuda_layer *layer = p->layer;
    constexpr int vec = 16 / sizeof(ST);
    const int64_t lanes = s->N / vec;
    const bool is_even = s->N % vec == 0 && lanes <= WARP && (lanes & (lanes - 1)) == 0;
    const int rows_per_pass = is_even ? N_WARPS * WARP / (int)lanes : N_WARPS;
    step_call c = {*io,
                   layer->conv,
                   layer->conv_bias,
                   layer->dt_bias,
                   layer->A,
                   layer->D,
                   p->R_ld,
                   (int)s->di,
                   (int)s->conv_dim,
                   (int)s->H,
                   (int)s->P,
                   (int)s->N,
                   (int)s->G,
                   (int)s->K,
                   slice_rows_of(p, rows_per_pass),
                   (int)lanes,
                   s->dt_min,
                   s->dt_max};
    const dim3 grid((unsigned)(s->H * (s->P / c.slice_rows)), (unsigned)p->B);
    const size_t shared_bytes = (size_t)(c.slice_rows + 2 * c.N) * sizeof(float);
    const launch_shape shape = {grid, dim3(THREADS), shared_bytes};
    if (is_even) return launch_chained(k_step<CT, ST, vec>, shape, p, err, c);
    return launch_chained(k_step_any<CT, ST>, shape, p, err, c);
}

} // namespace

ssmq_status cuda_step(const cuda_pass *p, const cuda_step_call *call, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    DISPATCH(p->dtype, CT,
             DISPATCH(p->state_dtype, ST, status = launch_step<CT, ST>(p, call, err)));
    return status;
}
