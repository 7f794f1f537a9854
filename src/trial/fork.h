/* SPDX-License-Identifier: Apache-2.0 */
/* trial/fork.h - prefill of prompts that begin alike: what they share is computed once, and every
 * prompt goes on from a copy of the state it leaves. The bits are those of whole prefills. */
#ifndef SSMQ_TRIAL_FORK_H
#define SSMQ_TRIAL_FORK_H

#include "trial/task.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Prompts are cut at whole chunks of every engine's scan, where a cut changes no bit. */
enum { TRIAL_FORK_STEP = 128 };

/* The beginning whose state the engine keeps, from batch to batch of a run. All zero at first. */
typedef struct trial_trunk {
    int32_t *ids; /* [n] and room for a prompt */
    int64_t n;    /* 0: none */
    bool is_off;  /* the device has no room for it */
} trial_trunk;
void trial_trunk_free(trial_trunk *trunk);

/* Prompts of one length: those of a batch, and any that come next, for which a trunk may pay. */
typedef struct trial_prompts {
    const int32_t *const *ids; /* [n_seen] of n_tokens each */
    int64_t B, n_seen;         /* the first B are the batch */
    int64_t n_tokens;
} trial_prompts;

/* Tokens that the first n_prompts begin with, compared one by one, in whole steps; at least one
 * token of each prompt remains. */
int64_t trial_common_tokens(const trial_prompts *prompts, int64_t n_prompts);

/* Resets the engine and prefills the batch, in calls of at most TRIAL_SEGMENT_TOKENS; logits [B, V]
 * of the last tokens. Forks where that saves work (fork.c) and sweep.reuse_mb is not 0.
 * Fails: TIMEOUT, NOMEM, or what the engine returns. */
SSMQ_MUST_USE ssmq_status trial_prefill_prompts(const trial_run *run, trial_trunk *trunk,
                                                const trial_prompts *prompts, float *logits,
                                                ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
