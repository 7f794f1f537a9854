/* SPDX-License-Identifier: Apache-2.0 */
/* trial/task.h - what trial.c hands to the code of each task, and what the tasks share. */
#ifndef SSMQ_TRIAL_TASK_H
#define SSMQ_TRIAL_TASK_H

#include "trial/trial.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A trial whose weights are loaded. */
typedef struct trial_run {
    const ssmq_trial *trial;
    const ssmq_trial_inputs *inputs;
    ssmq_engine *engine;
    ssmq_engine *baseline; /* with the baseline's weights; NULL unless the task has one */
    int n_threads;         /* host threads; 0: as many as cores */
    int64_t deadline_ns;   /* ssmq_now_ns() after which to give up; 0: never */
} trial_run;

/* Each runs its task and fills its results into record and samples. On failure the caller forgets
 * whatever they hold.  Fails: CONFIG (the trial is impossible), NUMERIC, TIMEOUT, NOMEM, or what
 * the engine returns. */
SSMQ_MUST_USE ssmq_status trial_run_ppl(const trial_run *run, ssmq_record *record,
                                        ssmq_samples *samples, ssmq_err *err);
SSMQ_MUST_USE ssmq_status trial_run_passkey(const trial_run *run, ssmq_record *record,
                                            ssmq_samples *samples, ssmq_err *err);
SSMQ_MUST_USE ssmq_status trial_run_profile(const trial_run *run, ssmq_record *record,
                                            ssmq_samples *samples, ssmq_err *err);

SSMQ_MUST_USE ssmq_status trial_run_fidelity(const trial_run *run, ssmq_record *record,
                                             ssmq_samples *samples, ssmq_err *err);
SSMQ_MUST_USE ssmq_status trial_run_drift(const trial_run *run, ssmq_record *record,
                                          ssmq_samples *samples, ssmq_err *err);

/* Adds what an engine knows only with the trial's weights loaded. */
void trial_describe_loaded(const ssmq_trial *trial, ssmq_engine *engine, ssmq_record *record);

/* Adds what depends on how the task used the engine. */
void trial_describe_done(ssmq_engine *engine, ssmq_record *record);

/* Tokens of one prefill call: long contexts go to the engine in pieces of this, so that its
 * workspace and the time between two looks at the deadline stay bounded. */
enum { TRIAL_SEGMENT_TOKENS = 2048 };

/* Fails: TIMEOUT if the deadline has passed. */
SSMQ_MUST_USE ssmq_status trial_check_deadline(int64_t deadline_ns, ssmq_err *err);

/* ssmq_samples_add() of at most the first SSMQ_MAX_SERIES_VALUES values. */
SSMQ_MUST_USE ssmq_status trial_add_series(ssmq_samples *samples, const char *name,
                                           const double *values, size_t n, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
