/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/ssd.cu - the state space model over a segment: in chunks on tensor cores where the
 * shape allows it (ssd_states*.cu, ssd_scan.cu), token by token otherwise. */
#include "engine/cuda/ssd.cuh"

namespace {

enum {
    N_WARPS = 8,
    THREADS = N_WARPS * WARP,
    LANE_STATES = 8, /* states of a lane: N up to 256 */
    TOKENS = 16      /* staged in shared memory at once */
};

/* Grid (P / rows of a block, H, B); a warp has one row p of the state, spread over its lanes. */
template <typename CT, typename ST>
__global__ void __launch_bounds__(THREADS) k_ssd_recurrent(ssd_call c, const float *A, int P) {
    __shared__ float B[TOKENS][LANE_STATES * WARP], C[TOKENS][LANE_STATES * WARP];
    __shared__ float dts[TOKENS], xs[TOKENS][N_WARPS];
    const int h = blockIdx.y, g = h / (c.H / c.G), lane = threadIdx.x % WARP;
    const int warp = threadIdx.x / WARP, p = blockIdx.x * N_WARPS + warp;
    const int64_t b = blockIdx.z;
    ST *state = (ST *)c.io.state + ((b * c.H + h) * P + p) * (int64_t)c.N;
    float S[LANE_STATES];
    wait_for_predecessor();
    release_successor();
    for (int k = 0; k < LANE_STATES; k++) {
        const int n = k * WARP + lane;
        S[k] = p < P && n < c.N ? to_float(state[n]) : 0.0f;
    }
    const float rate = A[h], D = c.D[h];
    for (int64_t first = 0; first < c.T; first += TOKENS) {
        const int n_tokens = (int)(c.T - first < TOKENS ? c.T - first : TOKENS);
        const CT *rows = (const CT *)c.io.xbc + (b * c.T + first) * c.conv_dim;
        __syncthreads();
        for (int i = threadIdx.x; i < n_tokens * c.N; i += THREADS) {
            const CT *row = rows + i / c.N * c.conv_dim + c.di + g * c.N + i % c.N;
            B[i / c.N][i % c.N] = to_float(row[0]);
            C[i / c.N][i % c.N] = to_float(row[c.G * c.N]);
        }
        for (int t = threadIdx.x; t < n_tokens; t += THREADS) {
            dts[t] = c.io.dt[(b * c.H + h) * c.T_pad + first + t];
        }
        for (int t = lane; t < n_tokens && p < P; t += WARP) {
            xs[t][warp] = to_float(rows[t * c.conv_dim + h * P + p]);
        }
        __syncthreads();
        for (int t = 0; t < n_tokens && p < P; t++) {
            const float dt = dts[t], x = xs[t][warp], decay = expf(dt * rate);
            float sum = 0.0f;
            for (int k = 0; k < LANE_STATES; k++) {
                const int n = k * WARP + lane;
                if (n >= c.N) break;
                S[k] = decay * S[k] + dt * x * B[t][n];
                sum += S[k] * C[t][n];
            }
            sum = warp_sum(sum);
            CT *y = (CT *)c.io.y + (b * c.T + first + t) * c.di + h * P + p;
            if (lane == 0) *y = from_float<CT>(sum + D * x);
        }
    }
    for (int k = 0; k < LANE_STATES && p < P; k++) {
        const int n = k * WARP + lane;
        if (n < c.N) state[n] = from_float<ST>(S[k]);
    }
}

template <typename CT, typename ST>
ssmq_status launch_recurrent(const cuda_pass *p, const ssd_call &c, ssmq_err *err) {
    const int P = (int)p->shape->P;
    const dim3 grid((unsigned)((P + N_WARPS - 1) / N_WARPS), (unsigned)c.H, (unsigned)p->B);
    return launch_chained(k_ssd_recurrent<CT, ST>, {grid, dim3(THREADS), 0}, p, err, c,
                          (const float *)p->layer->A, P);
}

} // namespace

bool cuda_ssd_is_chunked(const ssmq_shape *shape, ssmq_dtype dtype) {
    return dtype != SSMQ_F32 && shape->P == SSD_P && (shape->N == 64 || shape->N == 128);
}

static bool is_chunked_here(const cuda_pass *p) {
    return cuda_ssd_is_chunked(p->shape, p->dtype) && p->shared_bytes >= SSD_SHARED_BYTES;
}

/* Not in fp16: without the norm, gated numbers may leave its range. */
bool cuda_gate_is_deferred(const cuda_pass *p) {
    return p->dtype == SSMQ_BF16 && p->shape->G == 1 && !p->shape->has_bias && is_chunked_here(p);
}

ssmq_status cuda_ssd(const cuda_pass *p, const cuda_ssd_call *call, ssmq_err *err) {
    const ssmq_shape *s = p->shape;
    const int64_t n_chunks = (p->T + CUDA_CHUNK_TOKENS - 1) / CUDA_CHUNK_TOKENS;
    ssd_call c = {};
    c.io = *call;
    c.D = p->layer->D;
    c.T = p->T;
    c.T_pad = n_chunks * CUDA_CHUNK_TOKENS;
    c.R_ld = p->R_ld;
    c.di = s->di;
    c.conv_dim = s->conv_dim;
    c.H = (int)s->H;
    c.G = (int)s->G;
    c.N = (int)s->N;
    c.n_chunks = (int)n_chunks;
    ssmq_status status = SSMQ_OK;
    if (!is_chunked_here(p)) {
        DISPATCH(p->dtype, CT,
                 DISPATCH(p->state_dtype, ST, status = launch_recurrent<CT, ST>(p, c, err)));
        return status;
    }
    SSMQ_TRY(ssd_states_has_wgmma(p, c) ? ssd_states_wgmma(p, c, err) : ssd_states(p, c, err));
    return ssd_scan(p, c, err);
}
