/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/head.cu - what is read off logits: negative log likelihoods of a segment's rows, and
 * argmax, NLL and next token of a decode step. Logits are fp32, sums of exponentials fp64, added in
 * an order that V alone fixes. */
#include "engine/cuda/chain.cuh"
#include "engine/cuda/device.cuh"
#include "engine/cuda/head.h"

namespace {

enum { THREADS = 512, N_WARPS = THREADS / WARP, SPLITS = 8 };

/* What part of a row says: its largest logit, that one's lowest id, the sum of exp(logit - max). */
struct summary {
    float largest;
    int32_t id;
    double sum;
    int32_t is_finite;
    int32_t unused;
};

/* A tie goes to the lower id, wherever it comes from. */
__device__ __forceinline__ summary merge(const summary &a, const summary &b) {
    const bool b_wins = b.largest > a.largest || (b.largest == a.largest && b.id < a.id);
    const summary &top = b_wins ? b : a;
    const summary &low = b_wins ? a : b;
    summary out = top;
    /* An empty part has sum 0 and largest -inf: no term, and not NaN from inf - inf. */
    if (low.sum > 0.0) out.sum += low.sum * exp((double)low.largest - (double)top.largest);
    out.is_finite = a.is_finite & b.is_finite;
    return out;
}

__device__ __forceinline__ summary from_lane(const summary &s, int mask) {
    summary out;
    out.largest = __shfl_xor_sync(~0u, s.largest, mask);
    out.id = __shfl_xor_sync(~0u, s.id, mask);
    out.sum = __shfl_xor_sync(~0u, s.sum, mask);
    out.is_finite = __shfl_xor_sync(~0u, s.is_finite, mask);
    out.unused = 0;
    return out;
}

/* Logits [begin, end) of a row; the result is whole in thread 0. */
__device__ summary summarize(const float *logits, int64_t begin, int64_t end) {
    __shared__ summary of_warp[N_WARPS];
    summary s = {-INFINITY, INT32_MAX, 0.0, 1, 0};
    for (int64_t i = begin + threadIdx.x; i < end; i += THREADS) {
        const float x = logits[i];
        s.is_finite &= fabsf(x) < INFINITY;
        if (x > s.largest) {
            s.largest = x;
            s.id = (int32_t)i;
        }
    }
    /* The largest of the block first, so that one pass of exponentials is enough. */
    float largest = s.largest;
    for (int step = WARP / 2; step > 0; step /= 2) {
        largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, step));
    }
    __shared__ float largest_of_warp[N_WARPS];
    if (threadIdx.x % WARP == 0) largest_of_warp[threadIdx.x / WARP] = largest;
    __syncthreads();
    for (int i = 0; i < N_WARPS; i++) largest = fmaxf(largest, largest_of_warp[i]);
    double sum = 0.0;
    for (int64_t i = begin + threadIdx.x; i < end; i += THREADS) {
        sum += (double)expf(logits[i] - largest);
    }
    /* Ids before sums: from here on every part is measured against the same largest. */
    if (s.largest != largest) s.id = INT32_MAX;
    s.largest = largest;
    s.sum = sum;
    for (int step = 1; step < WARP; step *= 2) s = merge(s, from_lane(s, step));
    if (threadIdx.x % WARP == 0) of_warp[threadIdx.x / WARP] = s;
    __syncthreads();
    for (int i = 1; threadIdx.x == 0 && i < N_WARPS; i++) s = merge(s, of_warp[i]);
    return s;
}

__device__ __forceinline__ float nll_of(const summary &s, float target) {
    return (float)(log(s.sum) + (double)s.largest - (double)target);
}

__device__ __forceinline__ void report(const summary &s, int64_t row, int64_t L,
                                       unsigned long long *fault) {
    if (s.is_finite) return;
    atomicMin(fault, (unsigned long long)(L + 1) << 40 | (unsigned long long)row);
}

__global__ void __launch_bounds__(THREADS) k_nll(cuda_nll_call call) {
    const int64_t row = blockIdx.x;
    const float *logits = call.logits + row * call.ld;
    const summary s = summarize(logits, 0, call.V);
    if (threadIdx.x != 0) return;
    report(s, call.listed[row], call.L, call.fault);
    if (call.nll != NULL) call.nll[row] = nll_of(s, logits[call.targets[row]]);
}

/* Partial results of a row, and how many of its blocks have written theirs; of the first row also
 * how many rows are done. */
struct row_parts {
    summary parts[SPLITS];
    unsigned n_done, n_rows;
    unsigned unused[2];
};

__device__ void end_row(const cuda_sample_call &call, int64_t b, const row_parts *parts) {
    summary s = parts->parts[0];
    for (int i = 1; i < SPLITS; i++) s = merge(s, parts->parts[i]);
    report(s, b, call.L, call.fault);
    const int64_t at = call.control->step * call.B + b;
    call.argmax[at] = s.id;
    if (call.control->has_forced) {
        const int32_t token = call.forced[at];
        call.nll[at] = nll_of(s, call.logits[b * call.ld + token]);
        call.tokens[b] = token;
    } else {
        /* Rows that are not finite have no argmax, and the next step must not read past V. */
        call.tokens[b] = s.id < call.V ? s.id : 0;
    }
}

/* Every row has its token. */
__device__ void end_step(const cuda_sample_call &call) {
    call.step_fault[call.control->step] = *call.fault;
    call.control->step += 1;
    *call.position += 1;
}

__global__ void __launch_bounds__(THREADS) k_sample(cuda_sample_call call) {
    release_successor();
    wait_for_predecessor();
    const int64_t b = blockIdx.y;
    row_parts *parts = (row_parts *)call.partial + b;
    const int64_t width = (call.V + SPLITS - 1) / SPLITS;
    const int64_t begin = blockIdx.x * width;
    const int64_t end = begin + width < call.V ? begin + width : call.V;
    const summary s = summarize(call.logits + b * call.ld, begin, end);
    if (threadIdx.x != 0) return;
    parts->parts[blockIdx.x] = s;
    __threadfence();
    if (atomicAdd(&parts->n_done, 1u) != SPLITS - 1) return;
    __threadfence();
    parts->n_done = 0;
    end_row(call, b, parts);
    __threadfence();
    row_parts *first = (row_parts *)call.partial;
    if (atomicAdd(&first->n_rows, 1u) != gridDim.y - 1) return;
    __threadfence();
    first->n_rows = 0;
    end_step(call);
}

__global__ void k_advance(int64_t *position, int64_t T) {
    *position += T;
}

} // namespace

ssmq_status cuda_nll(const cuda_nll_call *call, ssmq_err *err) {
    k_nll<<<(unsigned)call->n, THREADS, 0, call->stream>>>(*call);
    CUDA_LAUNCHED(err);
    return SSMQ_OK;
}

int64_t cuda_sample_partial_bytes(int64_t B) {
    return B * (int64_t)sizeof(row_parts);
}

ssmq_status cuda_sample(const cuda_pass *p, const cuda_sample_call *call, ssmq_err *err) {
    const launch_shape shape = {dim3(SPLITS, (unsigned)call->B), dim3(THREADS), 0};
    return launch_chained(k_sample, shape, p, err, *call);
}

ssmq_status cuda_advance(int64_t *position, int64_t T, cudaStream_t stream, ssmq_err *err) {
    k_advance<<<1, 1, 0, stream>>>(position, T);
    CUDA_LAUNCHED(err);
    return SSMQ_OK;
}
