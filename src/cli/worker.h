/* SPDX-License-Identifier: Apache-2.0 */
/* cli/worker.h - one rank's loop: take a trial, note its start, run it, note its outcome. */
#ifndef SSMQ_CLI_WORKER_H
#define SSMQ_CLI_WORKER_H

#include "base/status.h"
#include "cli/channel.h"
#include "cli/inputs.h"
#include "grid/grid.h"
#include "journal/journal.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_worker_context {
    const ssmq_loaded *loaded;
    const ssmq_grid *grid;
    ssmq_engine *engine;
    ssmq_engine_options options; /* engine's, for a second handle */
    ssmq_journal *journal;
    ssmq_channel channel;
    char run_id[128];
    int rank;
} ssmq_worker_context;

/* Runs until told to stop or until the rank must retire, which it tells the coordinator.
 * Fails: INTERNAL (no word with the coordinator), IO (journal), POISONED (device); err explains. */
SSMQ_MUST_USE ssmq_status ssmq_worker_run(ssmq_worker_context *context, ssmq_err *err);

/* The record of a trial that took its process down before: status crashed, no results.
 * Fails: IO. */
SSMQ_MUST_USE ssmq_status ssmq_worker_record_crashed(const ssmq_worker_context *context,
                                                     int64_t trial_idx, int64_t attempt,
                                                     ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
