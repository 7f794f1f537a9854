/* SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "engine/cuda/check.h"
#include "engine/cuda/cuda_engine.h"

/* In a graph the mark becomes a node, which records anew at each launch. */
static ssmq_status mark(cuda_engine *e, ssmq_stage stage, ssmq_err *err) {
    cuda_stage_clock *clock = &e->stages;
    enum cudaStreamCaptureStatus capture;
    SSMQ_CHECK(clock->n_marks < CUDA_MAX_MARKS, err);
    CUDA_TRY(cudaStreamIsCapturing(e->stream, &capture), err);
    const unsigned flags =
        capture == cudaStreamCaptureStatusActive ? cudaEventRecordExternal : cudaEventRecordDefault;
    clock->stage_of[clock->n_marks] = stage;
    CUDA_TRY(cudaEventRecordWithFlags(clock->marks[clock->n_marks++], e->stream, flags), err);
    return SSMQ_OK;
}

ssmq_status cuda_stage_begin(cuda_engine *e, ssmq_err *err) {
    if (!e->stages.is_on) return SSMQ_OK;
    e->stages.n_marks = 0;
    return mark(e, SSMQ_STAGE_EMBED, err);
}

ssmq_status cuda_stage_end(cuda_engine *e, ssmq_stage stage, ssmq_err *err) {
    return e->stages.is_on ? mark(e, stage, err) : SSMQ_OK;
}

ssmq_status cuda_stages_collect(cuda_engine *e, ssmq_err *err) {
    cuda_stage_clock *clock = &e->stages;
    const double ns_per_ms = 1e6;
    if (!clock->is_on) return SSMQ_OK;
    CUDA_TRY(cudaStreamSynchronize(e->stream), err);
    for (int i = 1; i < clock->n_marks; i++) {
        float ms = 0.0f;
        CUDA_TRY(cudaEventElapsedTime(&ms, clock->marks[i - 1], clock->marks[i]), err);
        clock->ns[clock->stage_of[i]] += (int64_t)((double)ms * ns_per_ms);
    }
    return SSMQ_OK;
}

ssmq_status cuda_stages_set(cuda_engine *e, bool is_on, ssmq_err *err) {
    cuda_stage_clock *clock = &e->stages;
    memset(clock->ns, 0, sizeof clock->ns);
    clock->n_marks = 0;
    for (int i = 0; is_on && i < CUDA_MAX_MARKS; i++) {
        if (clock->marks[i] == NULL) CUDA_TRY(cudaEventCreate(&clock->marks[i]), err);
    }
    clock->is_on = is_on;
    return SSMQ_OK;
}

void cuda_stages_free(cuda_engine *e) {
    for (int i = 0; i < CUDA_MAX_MARKS; i++) {
        if (e->stages.marks[i] != NULL) (void)cudaEventDestroy(e->stages.marks[i]);
        e->stages.marks[i] = NULL;
    }
}
