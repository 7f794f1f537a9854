/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/head.h - what is read off logits. Internal to this folder. */
#ifndef SSMQ_ENGINE_CUDA_HEAD_H
#define SSMQ_ENGINE_CUDA_HEAD_H

#include "engine/cuda/layout.h"

#ifdef __cplusplus
extern "C" {
#endif

/* nll[i] of logits [n, V] with leading dimension ld and targets[i]; rows are listed[i]. A row with
 * a logit that is not finite is a fault of layer L + 1. nll may be NULL: then only faults. */
typedef struct cuda_nll_call {
    const float *logits;
    int64_t n, V, ld, L;
    const int32_t *targets; /* [n], not read without nll */
    const int64_t *listed;  /* [n] */
    float *nll;             /* [n] or NULL */
    unsigned long long *fault;
    cudaStream_t stream;
} cuda_nll_call;
SSMQ_MUST_USE ssmq_status cuda_nll(const cuda_nll_call *call, ssmq_err *err);

/* Ends a decode step: argmax (lowest id of the largest) and NLL of the forced token of each of B
 * rows into their logs at control->step; the next tokens; step and *position move on by one. */
typedef struct cuda_sample_call {
    const float *logits; /* [B, ld] */
    int64_t B, V, ld, L;
    void *partial; /* cuda_sample_partial_bytes(B), zeroed once */
    const int32_t *forced;
    int32_t *argmax;
    float *nll;
    int32_t *tokens; /* [B] next */
    cuda_step_control *control;
    int64_t *position;
    unsigned long long *fault;
    unsigned long long *step_fault; /* [CUDA_STEP_BLOCK] the fault word after each step */
} cuda_sample_call;
int64_t cuda_sample_partial_bytes(int64_t B);
SSMQ_MUST_USE ssmq_status cuda_sample(const cuda_pass *p, const cuda_sample_call *call,
                                      ssmq_err *err);
/* *position += T */
SSMQ_MUST_USE ssmq_status cuda_advance(int64_t *position, int64_t T, cudaStream_t stream,
                                       ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
