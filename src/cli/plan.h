/* SPDX-License-Identifier: Apache-2.0 */
/* cli/plan.h - the grid as CSV: what `ssmq plan` prints and a run folder keeps as plan.csv. */
#ifndef SSMQ_CLI_PLAN_H
#define SSMQ_CLI_PLAN_H

#include "base/hash.h"
#include "base/status.h"
#include "base/str.h"
#include "cli/inputs.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SSMQ_MAX_PLAN_BYTES = 1 << 30 };

/* Appends a header and a line for each trial: trial_idx, trial_id, task, protocol, prompt_template,
 * precision, scope, context_length, stride, batch_size, gen_len, seed, cost_s, load_cost_s,
 * weight_bytes, state_bytes, activation_bytes, workspace_bytes, device_bytes (the sum of the four),
 * skip, trial_key. The bytes stay empty for an engine that does not know its sizes beforehand.
 * Fails: NOMEM, CONFIG (over SSMQ_MAX_PLAN_BYTES). */
SSMQ_MUST_USE ssmq_status ssmq_plan_write(const ssmq_grid *grid, const ssmq_loaded *loaded,
                                          ssmq_str *out, ssmq_err *err);

/* Bytes that a trial takes on the device of its engine; false where they are not known beforehand,
 * or the trial is skipped. */
bool ssmq_plan_sizes(const ssmq_trial *trial, const ssmq_loaded *loaded, ssmq_engine_stats *out);

/* Trial ids of a plan.csv in its order.  Owns: *ids, ssmq_free().  Fails: CONFIG, IO, NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_plan_read(const char *path, char (**ids)[SSMQ_SHA256_HEX_BYTES],
                                         size_t *n, ssmq_err *err);

/* A line of a plan.csv as whoever watches the run needs it. */
typedef struct ssmq_plan_row {
    const char *id;
    const char *key;
    double cost_s; /* 0 if the plan does not say */
} ssmq_plan_row;
typedef struct ssmq_plan_rows {
    ssmq_plan_row *rows; /* [n] */
    size_t n;
    char *text; /* memory behind ids and keys */
} ssmq_plan_rows;

/* Owns: *out, ssmq_plan_rows_free() in every case.  Fails: CONFIG, IO, NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_plan_rows_read(ssmq_plan_rows *out, const char *path, ssmq_err *err);
void ssmq_plan_rows_free(ssmq_plan_rows *plan);

#ifdef __cplusplus
}
#endif
#endif
