/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/decode.c - steps in blocks of CUDA_STEP_BLOCK: one graph launch a step, tokens chosen
 * on the device, results fetched once a block. */
#include "engine/cuda/check.h"
#include "engine/cuda/cuda_engine.h"

/* Steps [first, first + n) of the call. */
typedef struct block {
    const ssmq_decode *call;
    int64_t first, n;
} block;

static ssmq_status begin_block(cuda_engine *e, const block *k, ssmq_err *err) {
    const int64_t B = e->extent.n_sequences;
    const ssmq_decode *call = k->call;
    e->staging.control->step = 0;
    e->staging.control->has_forced = call->forced != NULL;
    CUDA_TRY(cudaMemcpyAsync(e->buffers.control, e->staging.control, sizeof *e->staging.control,
                             cudaMemcpyHostToDevice, e->stream),
             err);
    if (call->forced == NULL) return SSMQ_OK;
    for (int64_t i = 0; i < k->n * B; i++) {
        e->staging.forced[i] = call->forced[i % B * call->n_steps + k->first + i / B];
    }
    CUDA_TRY(cudaMemcpyAsync(e->buffers.forced, e->staging.forced,
                             (size_t)(k->n * B) * sizeof(int32_t), cudaMemcpyHostToDevice,
                             e->stream),
             err);
    return SSMQ_OK;
}

static ssmq_status run_block(cuda_engine *e, const block *k, ssmq_err *err) {
    const bool has_times = k->call->step_ns != NULL;
    if (has_times) CUDA_TRY(cudaEventRecord(e->step_ends[0], e->stream), err);
    for (int64_t i = 0; i < k->n; i++) {
        SSMQ_TRY(cuda_graph_run(e, 0, err));
        if (has_times) CUDA_TRY(cudaEventRecord(e->step_ends[i + 1], e->stream), err);
        SSMQ_TRY(cuda_stages_collect(e, err));
    }
    return SSMQ_OK;
}

static ssmq_status fetch(cuda_engine *e, const block *k, ssmq_err *err) {
    const size_t n = (size_t)(k->n * e->extent.n_sequences);
    CUDA_TRY(cudaMemcpyAsync(e->staging.argmax, e->buffers.argmax, n * sizeof(int32_t),
                             cudaMemcpyDeviceToHost, e->stream),
             err);
    CUDA_TRY(cudaMemcpyAsync(e->staging.step_nll, e->buffers.step_nll, n * sizeof(float),
                             cudaMemcpyDeviceToHost, e->stream),
             err);
    CUDA_TRY(cudaMemcpyAsync(e->staging.fault, e->buffers.step_fault,
                             (size_t)k->n * sizeof *e->staging.fault, cudaMemcpyDeviceToHost,
                             e->stream),
             err);
    CUDA_TRY(cudaStreamSynchronize(e->stream), err);
    return SSMQ_OK;
}

static ssmq_status end_block(cuda_engine *e, const block *k, ssmq_err *err) {
    const int64_t B = e->extent.n_sequences;
    const ssmq_decode *call = k->call;
    const double ns_per_ms = 1e6;
    const cuda_fault_words words = {
        .n = k->n, .first = e->position + k->first, .step_tokens = 1, .T = 1};
    SSMQ_TRY(fetch(e, k, err));
    SSMQ_TRY(cuda_check_faults(e, &words, err));
    for (int64_t i = 0; i < k->n * B; i++) {
        const int64_t at = i % B * call->n_steps + k->first + i / B;
        call->argmax[at] = e->staging.argmax[i];
        if (call->nll != NULL && call->forced != NULL) call->nll[at] = e->staging.step_nll[i];
    }
    for (int64_t i = 0; call->step_ns != NULL && i < k->n; i++) {
        float ms = 0.0f;
        CUDA_TRY(cudaEventElapsedTime(&ms, e->step_ends[i], e->step_ends[i + 1]), err);
        call->step_ns[k->first + i] = (int64_t)((double)ms * ns_per_ms);
    }
    return SSMQ_OK;
}

ssmq_status cuda_decode(cuda_engine *e, const ssmq_decode *call, ssmq_err *err) {
    const int64_t B = e->extent.n_sequences;
    CUDA_TRY(cudaEventRecord(e->call_begin, e->stream), err);
    CUDA_TRY(cudaMemcpyAsync(e->buffers.tokens, call->first, (size_t)B * sizeof(int32_t),
                             cudaMemcpyHostToDevice, e->stream),
             err);
    for (block k = {.call = call}; k.first < call->n_steps; k.first += k.n) {
        const int64_t left = call->n_steps - k.first;
        k.n = left < CUDA_STEP_BLOCK ? left : CUDA_STEP_BLOCK;
        SSMQ_TRY(begin_block(e, &k, err));
        SSMQ_TRY(run_block(e, &k, err));
        if (k.n == left) CUDA_TRY(cudaEventRecord(e->call_end, e->stream), err);
        SSMQ_TRY(end_block(e, &k, err));
    }
    if (call->n_steps < 1) CUDA_TRY(cudaEventRecord(e->call_end, e->stream), err);
    if (call->logits != NULL) SSMQ_TRY(cuda_fetch_logits(e, call->logits, err));
    CUDA_TRY(cudaStreamSynchronize(e->stream), err);
    e->position += call->n_steps;
    return SSMQ_OK;
}
