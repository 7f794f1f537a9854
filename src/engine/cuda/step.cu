/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/step.cu - one token of each sequence through conv and recurrence (spec section 6):
 *     S = exp(dt A) S + dt x B^T,  y = S C + D x.
 * A block takes neighbouring rows of one sequence's state [H * P, N], all of one group: part of a
 * head, or several heads. It makes the channels it needs, its x and its group's B and C, from the
 * ring's older slots and the new input; who writes the new slot is fixed and nobody reads it. The
 * state is the traffic: rows are on their way while others are computed, the first before all else.
 */
#include "engine/cuda/chain.cuh"
#include "engine/cuda/quant.cuh"

namespace {

enum {
    THREADS = 256,
    N_WARPS = THREADS / WARP,
    PASSES = 2,       /* channels that a thread has in flight at once */
    MAX_HEADS = 64,   /* of a block */
    BLOCK_ROWS = 256, /* of a block, where there are enough blocks */
    REGISTERS = 128,
    SHORT_REGISTERS = 88,
    MAX_K = SSMQ_MAX_CONV_KERNEL
};

struct step_call {
    cuda_step_call io;
    const void *taps, *bias;
    const float *dt_bias, *A, *D;
    int di, conv_dim, H, P, N, G, K;
    int P_shift;       /* P is 1 << P_shift; -1 if it is no power of two */
    int rows;          /* of the state, of one block */
    int lanes_per_row; /* a power of two */
    float dt_min, dt_max;
    cuda_prefetch next;
};

/* Where a block's work lies: rows [first, first + rows) of sequence b. */
struct place {
    int64_t b;
    int first, g;
};

__device__ __forceinline__ place place_of(const step_call &c) {
    const int first = (int)blockIdx.x * c.rows;
    return {blockIdx.y, first, first / (c.di / c.G)};
}

__device__ __forceinline__ int head_of(const step_call &c, int row) {
    return c.P_shift >= 0 ? row >> c.P_shift : row / c.P;
}

/* What a head of the block multiplies with. */
struct head_factors {
    float dt, decay, D;
};

/* Channel number i of a block: its rows of x, then B, then C. */
__device__ __forceinline__ int channel_of(const step_call &c, const place &at, int i) {
    if (i < c.rows) return at.first + i;
    i -= c.rows;
    return i < c.N ? c.di + at.g * c.N + i : c.di + (c.G + at.g) * c.N + i - c.N;
}

/* What one channel needs of the past. With fewer than MAX_K taps the first ones are zero. */
template <typename CT> struct channel_inputs {
    float bias, taps[MAX_K];
    CT slots[MAX_K]; /* of the ring, whose order only the position tells */
    packets_of<float, 1> scale;
    int channel;
};

/* Loads only, and none waits for another. */
template <typename CT>
__device__ __forceinline__ channel_inputs<CT> load_inputs(const step_call &c, const place &at,
                                                          int i) {
    const CT *ring = (const CT *)c.io.ring + at.b * c.K * c.conv_dim;
    const int missing = MAX_K - c.K;
    channel_inputs<CT> in;
    in.channel = channel_of(c, at, i);
    in.bias = to_float(((const CT *)c.bias)[in.channel]);
    in.scale = column_scales<1>(c.io.zxbcdt, c.di + in.channel);
#pragma unroll
    for (int k = 0; k < MAX_K; k++) {
        const CT *tap = (const CT *)c.taps + (k - missing) * c.conv_dim + in.channel;
        in.taps[k] = k >= missing ? to_float(*tap) : 0.0f;
        in.slots[k] = k < c.K ? ring[k * c.conv_dim + in.channel] : from_float<CT>(0.0f);
    }
    return in;
}

/* The input `back` tokens ago; zero before the sequence. The new one goes to slot `slot`. */
template <typename CT>
__device__ __forceinline__ float earlier_input(const channel_inputs<CT> &in, int K, int slot,
                                               int position, int back) {
    const int from = slot >= back ? slot - back : slot - back + K;
    CT x = in.slots[0];
#pragma unroll
    for (int k = 1; k < MAX_K; k++) x = from == k ? in.slots[k] : x;
    return back < K && position >= back ? to_float(x) : 0.0f;
}

template <typename CT>
__device__ __forceinline__ float convolve(const channel_inputs<CT> &in, int K, int slot,
                                          int position, float now) {
    float sum = in.bias;
#pragma unroll
    for (int k = 0; k < MAX_K - 1; k++) {
        sum += in.taps[k] * earlier_input(in, K, slot, position, MAX_K - 1 - k);
    }
    sum += in.taps[MAX_K - 1] * now;
    return to_float(from_float<CT>(type_silu<CT>(sum)));
}

/* The head that thread h of a block looks after, and what is known of it beforehand. */
struct head_inputs {
    float dt_bias, A, D;
    packets_of<float, 1> scale;
    int h;
    bool is_there;
};

__device__ __forceinline__ head_inputs load_head(const step_call &c, const place &at) {
    head_inputs in = {};
    in.h = at.first / c.P + (int)threadIdx.x;
    in.is_there = in.h <= (at.first + c.rows - 1) / c.P;
    if (!in.is_there) return in;
    in.dt_bias = c.dt_bias[in.h];
    in.A = c.A[in.h];
    in.D = c.D[in.h];
    in.scale = column_scales<1>(c.io.zxbcdt, c.di + c.conv_dim + in.h);
    return in;
}

__device__ __forceinline__ head_factors factors_of(const step_call &c, const head_inputs &in,
                                                   float raw) {
    const float v = softplus(raw + in.dt_bias);
    const float dt = v < c.dt_min ? c.dt_min : (v > c.dt_max ? c.dt_max : v);
    const head_factors f = {dt, expf(dt * in.A), in.D};
    return f;
}

/* Number `channel` of x, B, C and dt as the product left it. */
template <typename CT>
__device__ __forceinline__ CT raw_input(const step_call &c, const place &at, int channel, float row,
                                        const packets_of<float, 1> &scale) {
    vec_of<CT, 1> raw;
    load_product<CT, 1>(c.io.zxbcdt, at.b, c.di + channel, row, scale, raw);
    return from_float<CT>(raw.v[0]);
}

/* Channels into shared memory: x [rows], B [N], C [N], rounded as xbc is in a segment; and the
 * factors of the block's heads. Only what comes from the product before waits for it. */
template <typename CT>
__device__ __forceinline__ void fill_shared(const step_call &c, const place &at, float *shared,
                                            head_factors *factors) {
    const int64_t counted = *c.io.position;
    const head_inputs head = load_head(c, at);
    const bool is_first = at.first % (c.di / c.G) == 0;
    const int n = c.rows + 2 * c.N;
    float row = 1.0f;
    for (int i0 = 0; i0 < n; i0 += PASSES * THREADS) {
        channel_inputs<CT> in[PASSES];
        CT now[PASSES];
#pragma unroll
        for (int j = 0; j < PASSES; j++) {
            const int i = i0 + j * THREADS + threadIdx.x;
            if (i < n) in[j] = load_inputs<CT>(c, at, i);
        }
        if (i0 == 0) {
            wait_for_predecessor();
            row = row_scale(c.io.zxbcdt, at.b);
        }
#pragma unroll
        for (int j = 0; j < PASSES; j++) {
            if (i0 + j * THREADS + (int)threadIdx.x < n)
                now[j] = raw_input<CT>(c, at, in[j].channel, row, in[j].scale);
        }
        if (i0 == 0 && head.is_there) {
            const CT raw = raw_input<CT>(c, at, c.conv_dim + head.h, row, head.scale);
            factors[threadIdx.x] = factors_of(c, head, to_float(raw));
        }
        const int slot = (int)(counted % c.K), position = counted < MAX_K ? (int)counted : MAX_K;
        CT *ring = (CT *)c.io.ring + (at.b * c.K + slot) * c.conv_dim;
#pragma unroll
        for (int j = 0; j < PASSES; j++) {
            const int i = i0 + j * THREADS + threadIdx.x;
            if (i >= n) continue;
            shared[i] = convolve<CT>(in[j], c.K, slot, position, to_float(now[j]));
            if (i < c.rows || is_first) ring[in[j].channel] = now[j];
        }
    }
}

/* Sum over the lanes_per_row neighbours of a lane. */
__device__ __forceinline__ float row_sum(float x, int lanes_per_row) {
    for (int step = lanes_per_row / 2; step > 0; step /= 2) x += __shfl_xor_sync(~0u, x, step);
    return x;
}

/* Rows that a warp has in flight at once, as stored: to convert them where they are loaded would be
 * to wait for them there. */
template <typename ST, int vec> struct row_set {
    static constexpr int n = 2 * sizeof(ST);
    packet<ST, vec> rows[n];
};

/* What a lane keeps through all its rows: base + row0 + j * step for the j of a set. */
template <typename CT, typename ST, int vec> struct lane_work {
    ST *state; /* its vec numbers of row 0 of the block */
    CT *y;     /* of row 0 */
    const float *x;
    const head_factors *factors;
    float B[vec], C[vec];
    int row0, step;
    int offset; /* of row 0 in its head */
};

template <typename CT, typename ST, int vec>
__device__ __forceinline__ void load_rows(const step_call &c, const lane_work<CT, ST, vec> &work,
                                          int base, row_set<ST, vec> &set) {
#pragma unroll
    for (int j = 0; j < row_set<ST, vec>::n; j++) {
        const int row = base + work.row0 + j * work.step;
        if (row < c.rows) set.rows[j] = load_packet<ST, vec>(work.state + (int64_t)row * c.N);
    }
}

template <typename CT, typename ST, int vec>
__device__ __forceinline__ void step_rows(const step_call &c, const lane_work<CT, ST, vec> &work,
                                          int base, row_set<ST, vec> &set) {
#pragma unroll
    for (int j = 0; j < row_set<ST, vec>::n; j++) {
        /* All lanes of a warp stay for the sums of those that have a row. */
        if (base + j * work.step >= c.rows) break;
        const int row = base + work.row0 + j * work.step;
        const bool is_there = row < c.rows;
        const head_factors f = work.factors[is_there ? head_of(c, work.offset + row) : 0];
        const float x = is_there ? work.x[row] : 0.0f, dt_x = f.dt * x;
        float sum = 0.0f;
        for (int k = 0; k < vec; k++) {
            const float S = f.decay * to_float(set.rows[j].v[k]) + dt_x * work.B[k];
            set.rows[j].v[k] = from_float<ST>(S);
            sum += S * work.C[k];
        }
        sum = row_sum(sum, c.lanes_per_row);
        if (!is_there) continue;
        store_packet<ST, vec>(work.state + (int64_t)row * c.N, set.rows[j]);
        if (threadIdx.x % c.lanes_per_row == 0) work.y[row] = from_float<CT>(sum + f.D * x);
    }
}

/* Grid (blocks of rows, B). lanes_per_row lanes hold a row of N = lanes_per_row * vec states.
 * is_short: a block's rows are one set of each warp's. Then two blocks find room beside one of
 * gemv.cu, and begin while that ends. */
template <typename CT, typename ST, int vec, bool is_short>
__global__ void __maxnreg__(is_short ? SHORT_REGISTERS : REGISTERS) k_step(step_call c) {
    extern __shared__ float shared[];
    __shared__ head_factors factors[MAX_HEADS];
    const place at = place_of(c);
    const int rows_per_warp = WARP / c.lanes_per_row, lane = threadIdx.x % WARP;
    const int n = lane % c.lanes_per_row * vec;
    lane_work<CT, ST, vec> work;
    work.state = (ST *)c.io.state + (at.b * c.di + at.first) * (int64_t)c.N + n;
    work.y = (CT *)c.io.y + at.b * c.di + at.first;
    work.x = shared;
    work.factors = factors;
    work.row0 = threadIdx.x / WARP * rows_per_warp + lane / c.lanes_per_row;
    work.step = N_WARPS * rows_per_warp;
    work.offset = at.first % c.P;
    const int pass = row_set<ST, vec>::n * work.step;
    row_set<ST, vec> even;
    load_rows(c, work, 0, even);
    release_successor();
    prefetch_share(c.next, blockIdx.y * gridDim.x + blockIdx.x, gridDim.x * gridDim.y);
    fill_shared<CT>(c, at, shared, factors);
    __syncthreads();
    for (int k = 0; k < vec; k++) {
        work.B[k] = shared[c.rows + n + k];
        work.C[k] = shared[c.rows + c.N + n + k];
    }
    if constexpr (is_short) {
        step_rows(c, work, 0, even);
    } else {
        row_set<ST, vec> odd;
        for (int base = 0; base < c.rows; base += 2 * pass) {
            load_rows(c, work, base + pass, odd);
            step_rows(c, work, base, even);
            if (base + pass >= c.rows) break;
            load_rows(c, work, base + 2 * pass, even);
            step_rows(c, work, base + pass, odd);
        }
    }
}

/* N that no power of two of lanes divides: a warp a row, a number at a time. */
template <typename CT, typename ST>
__global__ void __launch_bounds__(THREADS) k_step_any(step_call c) {
    extern __shared__ float shared[];
    __shared__ head_factors factors[MAX_HEADS];
    const place at = place_of(c);
    fill_shared<CT>(c, at, shared, factors);
    __syncthreads();
    const float *B = shared + c.rows, *C = B + c.N;
    ST *state = (ST *)c.io.state + (at.b * c.di + at.first) * (int64_t)c.N;
    CT *y = (CT *)c.io.y + at.b * c.di + at.first;
    for (int row = threadIdx.x / WARP; row < c.rows; row += N_WARPS) {
        const head_factors f = factors[head_of(c, at.first % c.P + row)];
        float sum = 0.0f;
        for (int n = threadIdx.x % WARP; n < c.N; n += WARP) {
            const int64_t i = (int64_t)row * c.N + n;
            const float S = f.decay * to_float(state[i]) + f.dt * shared[row] * B[n];
            state[i] = from_float<ST>(S);
            sum += S * C[n];
        }
        sum = warp_sum(sum);
        if (threadIdx.x % WARP == 0) y[row] = from_float<CT>(sum + f.D * shared[row]);
    }
}

/* Rows of a block: they divide the rows of a group, and they are as many as leave a block for
 * every multiprocessor, down to one pass of a block. */
int block_rows_of(const cuda_pass *p, int rows_per_pass) {
    const int group_rows = (int)(p->shape->di / p->shape->G), P = (int)p->shape->P;
    const int64_t groups = p->B * p->shape->G;
    int rows = P;
    while (rows * 2 <= BLOCK_ROWS && rows / P * 2 <= MAX_HEADS && group_rows % (rows * 2) == 0 &&
           groups * (group_rows / (rows * 2)) >= 4 * p->n_sm) {
        rows *= 2;
    }
    while (rows <= P && rows % 2 == 0 && rows / 2 >= rows_per_pass &&
           groups * (group_rows / rows) < p->n_sm) {
        rows /= 2;
    }
    return rows;
}

template <typename CT, typename ST>
ssmq_status launch_step(const cuda_pass *p, const cuda_step_call *io, ssmq_err *err) {
    const ssmq_shape *s = p->shape;
    constexpr int vec = 16 / sizeof(ST);
    const int64_t lanes = s->N / vec;
    const bool is_even = s->N % vec == 0 && lanes <= WARP && (lanes & (lanes - 1)) == 0;
    step_call c = {};
    c.io = *io;
    c.taps = p->layer->conv;
    c.bias = p->layer->conv_bias;
    c.dt_bias = p->layer->dt_bias;
    c.A = p->layer->A;
    c.D = p->layer->D;
    c.di = (int)s->di;
    c.conv_dim = (int)s->conv_dim;
    c.H = (int)s->H;
    c.P = (int)s->P;
    c.P_shift = -1;
    for (int i = 0; i < 16; i++) {
        if (c.P == 1 << i) c.P_shift = i;
    }
    c.N = (int)s->N;
    c.G = (int)s->G;
    c.K = (int)s->K;
    c.rows = block_rows_of(p, is_even ? N_WARPS * WARP / (int)lanes : N_WARPS);
    c.lanes_per_row = (int)lanes;
    c.dt_min = s->dt_min;
    c.dt_max = s->dt_max;
    c.next = p->next;
    const dim3 grid((unsigned)(c.di / c.rows), (unsigned)p->B);
    const size_t shared_bytes = (size_t)(c.rows + 2 * c.N) * sizeof(float);
    const launch_shape shape = {grid, dim3(THREADS), shared_bytes};
    const int rows_per_set = is_even ? row_set<ST, vec>::n * N_WARPS * (WARP / (int)lanes) : 0;
    if (c.rows <= rows_per_set) {
        return launch_chained(k_step<CT, ST, vec, true>, shape, p, err, c);
    }
    if (is_even) return launch_chained(k_step<CT, ST, vec, false>, shape, p, err, c);
    return launch_chained(k_step_any<CT, ST>, shape, p, err, c);
}

} // namespace

ssmq_status cuda_step(const cuda_pass *p, const cuda_step_call *call, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    DISPATCH(p->dtype, CT,
             DISPATCH(p->state_dtype, ST, status = launch_step<CT, ST>(p, call, err)));
    return status;
}
