/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/prefill.c - a context in segments: ids up, one graph, and for the rows that are asked
 * for the head in tiles, so that no [T, V] buffer exists. Without scoring the host only waits when
 * it runs out of fault words. */
#include <string.h>

#include "engine/cuda/check.h"
#include "engine/cuda/cuda_engine.h"

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

/* Segment under way: tokens [first, first + T) of the call. */
typedef struct segment {
    const ssmq_prefill *call;
    int64_t first, T;
} segment;

static ssmq_status copy_up(cuda_engine *e, void *to, const void *from, size_t n_bytes,
                           ssmq_err *err) {
    CUDA_TRY(cudaMemcpyAsync(to, from, n_bytes, cudaMemcpyHostToDevice, e->stream), err);
    return SSMQ_OK;
}

static ssmq_status run_layers(cuda_engine *e, const segment *s, ssmq_err *err) {
    const int64_t B = e->extent.n_sequences;
    const size_t n_bytes = (size_t)s->T * sizeof(int32_t);
    /* The copy before must have left the staging buffer. */
    CUDA_TRY(cudaEventSynchronize(e->staged), err);
    for (int64_t b = 0; b < B; b++) {
        memcpy(e->staging.tokens + b * s->T, s->call->tokens + b * s->call->n_tokens + s->first,
               n_bytes);
    }
    SSMQ_TRY(copy_up(e, e->buffers.tokens, e->staging.tokens, (size_t)B * n_bytes, err));
    CUDA_TRY(cudaEventRecord(e->staged, e->stream), err);
    SSMQ_TRY(cuda_graph_run(e, s->T, err));
    if (e->is_reused) ssmq_reuse_end_segment(e->reuse, s->T);
    e->peaks.computed_layer_tokens += (e->shape.L - e->first_layer) * B * s->T;
    e->peaks.reused_layer_tokens += e->first_layer * B * s->T;
    return cuda_stages_collect(e, err);
}

/* Where the call has the i-th listed row of the segment, in tokens. */
static int64_t place_of(const cuda_engine *e, const segment *s, int64_t i) {
    const int64_t row = e->staging.listed[i];
    return row / s->T * s->call->n_tokens + s->first + row % s->T;
}

/* Logits of the listed rows [first, first + n), a head tile, to their places in the call: one copy
 * for each run of rows that follow each other there. */
static ssmq_status fetch_tile(cuda_engine *e, const segment *s, int64_t first, int64_t n,
                              ssmq_err *err) {
    const int64_t V = e->shape.V;
    const size_t width = (size_t)V * sizeof(float);
    const size_t pitch = (size_t)e->layout.V_ld * sizeof(float);
    for (int64_t i = 0, n_run = 0; i < n; i += n_run) {
        const int64_t at = place_of(e, s, first + i);
        n_run = 1;
        while (i + n_run < n && place_of(e, s, first + i + n_run) == at + n_run) n_run++;
        CUDA_TRY(cudaMemcpy2DAsync(s->call->all_logits + at * V, width,
                                   e->buffers.logits + i * e->layout.V_ld, pitch, width,
                                   (size_t)n_run, cudaMemcpyDeviceToHost, e->stream),
                 err);
    }
    return SSMQ_OK;
}

/* Tiles of the head for n rows of a segment that are listed in staging. */
static ssmq_status run_head(cuda_engine *e, const segment *s, int64_t n, bool has_nll,
                            ssmq_err *err) {
    SSMQ_TRY(copy_up(e, e->buffers.listed, e->staging.listed, (size_t)n * sizeof(int64_t), err));
    if (has_nll) {
        SSMQ_TRY(
            copy_up(e, e->buffers.targets, e->staging.targets, (size_t)n * sizeof(int32_t), err));
    }
    SSMQ_TRY(cuda_stage_begin(e, err));
    for (int64_t first = 0; first < n; first += e->layout.head_rows) {
        const int64_t n_tile = smaller(n - first, e->layout.head_rows);
        SSMQ_TRY(cuda_forward_head(e, first, n_tile, has_nll, err));
        if (has_nll && s->call->all_logits != NULL) {
            SSMQ_TRY(fetch_tile(e, s, first, n_tile, err));
        }
    }
    SSMQ_TRY(cuda_stage_end(e, SSMQ_STAGE_HEAD, err));
    return cuda_stages_collect(e, err);
}

static ssmq_status score(cuda_engine *e, const segment *s, ssmq_err *err) {
    const ssmq_prefill *call = s->call;
    int64_t n = 0;
    for (int64_t row = 0; row < e->extent.n_sequences * s->T; row++) {
        const int64_t at = row / s->T * call->n_tokens + s->first + row % s->T;
        call->nll[at] = 0.0f;
        if (call->targets[at] < 0) continue;
        e->staging.targets[n] = call->targets[at];
        e->staging.listed[n++] = row;
    }
    if (n == 0) return SSMQ_OK;
    SSMQ_TRY(run_head(e, s, n, true, err));
    CUDA_TRY(cudaMemcpyAsync(e->staging.nll, e->buffers.nll, (size_t)n * sizeof(float),
                             cudaMemcpyDeviceToHost, e->stream),
             err);
    CUDA_TRY(cudaStreamSynchronize(e->stream), err);
    for (int64_t i = 0; i < n; i++) call->nll[place_of(e, s, i)] = e->staging.nll[i];
    return SSMQ_OK;
}

/* Logits of the last token of each sequence, left on the device. */
static ssmq_status run_last(cuda_engine *e, const segment *s, ssmq_err *err) {
    const int64_t B = e->extent.n_sequences;
    for (int64_t b = 0; b < B; b++) e->staging.listed[b] = b * s->T + s->T - 1;
    return run_head(e, s, B, false, err);
}

/* The fault word as it stands after segment i, into its slot; looks at all slots when they are
 * used up, and after the last segment. */
static ssmq_status keep_fault(cuda_engine *e, const segment *s, int64_t i, ssmq_err *err) {
    const int64_t slot = i % CUDA_FAULT_SLOTS;
    const int64_t step_tokens = e->layout.segment_tokens;
    const bool is_last = s->first + s->T == s->call->n_tokens;
    CUDA_TRY(cudaMemcpyAsync(&e->staging.fault[slot], e->buffers.fault, sizeof *e->buffers.fault,
                             cudaMemcpyDeviceToHost, e->stream),
             err);
    if (is_last) CUDA_TRY(cudaEventRecord(e->call_end, e->stream), err);
    if (!is_last && slot + 1 < CUDA_FAULT_SLOTS) return SSMQ_OK;
    CUDA_TRY(cudaStreamSynchronize(e->stream), err);
    /* A shorter segment is the last one, and only its own rows can be counted by its length. */
    cuda_fault_words words = {.n = is_last ? slot : slot + 1,
                              .first = e->position + (i - slot) * step_tokens,
                              .step_tokens = step_tokens,
                              .T = step_tokens};
    SSMQ_TRY(cuda_check_faults(e, &words, err));
    if (!is_last) return SSMQ_OK;
    e->staging.fault[0] = e->staging.fault[slot];
    words = (cuda_fault_words){.n = 1, .first = e->position + s->first, .T = s->T};
    return cuda_check_faults(e, &words, err);
}

static ssmq_status run_segments(cuda_engine *e, const ssmq_prefill *call, ssmq_err *err) {
    segment s = {.call = call};
    for (int64_t i = 0; s.first < call->n_tokens; i++, s.first += s.T) {
        s.T = smaller(call->n_tokens - s.first, e->layout.segment_tokens);
        SSMQ_TRY(run_layers(e, &s, err));
        if (call->targets != NULL) SSMQ_TRY(score(e, &s, err));
        if (call->logits != NULL && s.first + s.T == call->n_tokens) {
            SSMQ_TRY(run_last(e, &s, err));
        }
        SSMQ_TRY(keep_fault(e, &s, i, err));
    }
    return SSMQ_OK;
}

ssmq_status cuda_fetch_logits(cuda_engine *e, float *logits, ssmq_err *err) {
    const size_t width = (size_t)e->shape.V * sizeof(float);
    CUDA_TRY(cudaMemcpy2DAsync(logits, width, e->buffers.logits,
                               (size_t)e->layout.V_ld * sizeof(float), width,
                               (size_t)e->extent.n_sequences, cudaMemcpyDeviceToHost, e->stream),
             err);
    CUDA_TRY(cudaStreamSynchronize(e->stream), err);
    return SSMQ_OK;
}

ssmq_status cuda_prefill(cuda_engine *e, const ssmq_prefill *call, ssmq_err *err) {
    CUDA_TRY(cudaEventRecord(e->call_begin, e->stream), err);
    SSMQ_TRY(run_segments(e, call, err));
    if (call->logits != NULL) SSMQ_TRY(cuda_fetch_logits(e, call->logits, err));
    e->position += call->n_tokens;
    return SSMQ_OK;
}
