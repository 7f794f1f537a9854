/* SPDX-License-Identifier: Apache-2.0 */
/* trial/trial.h - runs one trial of the grid on an engine and fills its record: the same code for
 * every engine, precision and program. */
#ifndef SSMQ_TRIAL_TRIAL_H
#define SSMQ_TRIAL_TRIAL_H

#include "base/status.h"
#include "engine/engine.h"
#include "grid/grid.h"
#include "model/tokenizer.h"
#include "record/record.h"
#include "trial/text_counts.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What the trials of a run share on one rank. Everything is borrowed and outlives the trials. */
typedef struct ssmq_trial_inputs {
    const ssmq_config *config;
    const ssmq_model *model;
    const ssmq_tokenizer *tokenizer; /* NULL for random models: ids are drawn at random */
    const int32_t *text_ids;         /* of ppl.text; NULL if no trial needs it */
    int64_t n_text_ids;
    ssmq_text_counts text_counts; /* of the text that text_ids are; n_words 0: not known */
    const int32_t *filler_ids;    /* of passkey.filler_text; NULL likewise */
    int64_t n_filler_ids;
    const ssmq_inputs *inputs; /* hashes */
} ssmq_trial_inputs;

/* A rank's engine and what is loaded on it, so that equal weights are not loaded twice. */
typedef struct ssmq_worker {
    ssmq_engine *engine;
    bool is_loaded;
    ssmq_spec loaded; /* valid if is_loaded */
    bool is_retired;  /* the device is lost: touch it no more */
    /* Second handle, with the baseline's weights: opened with these options by the first trial
     * of a task that has a baseline, closed by the next trial of one that has none. */
    ssmq_engine_options options;
    ssmq_engine *baseline;
} ssmq_worker;

/* Closes the baseline's handle; the engine stays the caller's. */
void ssmq_worker_end(ssmq_worker *worker);

/* Runs the trial. Always leaves a complete record: on any failure its status and reason say so and
 * its results are null. Skipped trials (trial->skip) are recorded, not run; so are those that turn
 * out to be impossible here (a prompt shorter than its fixed parts, a text shorter than a window).
 * sweep.max_trial_s counts from the end of loading and is looked at between calls of the engine.
 * Owns: samples, ssmq_samples_free().
 * Fails: POISONED if the device is lost and the rank must retire; nothing else. */
SSMQ_MUST_USE ssmq_status ssmq_trial_run(const ssmq_trial *trial, const ssmq_trial_inputs *inputs,
                                         ssmq_worker *worker, ssmq_record *record,
                                         ssmq_samples *samples, ssmq_err *err);

/* Fills what a record says before a trial runs: identity, settings, provenance that the trial,
 * the inputs and the engine (may be NULL) know; every other field becomes null. The caller adds
 * run_id, attempt, rank, host, git_commit. */
void ssmq_trial_describe(const ssmq_trial *trial, const ssmq_trial_inputs *inputs,
                         ssmq_engine *engine, ssmq_record *record);

/* The largest extent that a trial asks of its engine; false if it can run nothing (a text shorter
 * than a window). Passkey prompts that turn out to be impossible are not found out. */
bool ssmq_trial_extent(const ssmq_trial *trial, const ssmq_trial_inputs *inputs,
                       ssmq_engine_extent *out);

#ifdef __cplusplus
}
#endif
#endif
