/* SPDX-License-Identifier: Apache-2.0 */
/* cli/run_rows.h - the finished trials of a run, read from its journals or its HDF5 file. Reading
 * changes nothing and works while a sweep is writing. */
#ifndef SSMQ_CLI_RUN_ROWS_H
#define SSMQ_CLI_RUN_ROWS_H

#include <stddef.h>

#include "base/file.h"
#include "base/status.h"
#include "journal/journal.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_run_rows {
    char run_dir[SSMQ_PATH_BYTES];
    ssmq_replay replay;
    ssmq_replay_reader *reader;
    const ssmq_journal_entry **finished; /* [n] in the order of the plan */
    size_t n;
    size_t n_planned;
    size_t n_begun; /* begun and not finished: running, or lost with their process */
} ssmq_run_rows;

/* The path of a run folder's plan.csv.  Fails: CONFIG (no run folder). */
SSMQ_MUST_USE ssmq_status ssmq_run_plan_path(char out[SSMQ_PATH_BYTES], const char *run_dir,
                                             ssmq_err *err);
/* Owns: *out, ssmq_run_rows_close().  Fails: CONFIG (not a run folder), IO, NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_run_rows_open(ssmq_run_rows *out, const char *run_dir,
                                             ssmq_err *err);
void ssmq_run_rows_close(ssmq_run_rows *rows);
/* Fails: IO, CONFIG (damaged). */
SSMQ_MUST_USE ssmq_status ssmq_run_rows_get(const ssmq_run_rows *rows, size_t i,
                                            ssmq_record *record, ssmq_err *err);

/* Calls row() for each finished trial of a run folder (journals, order of the plan) or of a
 * results file (its order).  Fails: CONFIG (neither of the two), IO, NOMEM, or what row() returns.
 */
SSMQ_MUST_USE ssmq_status ssmq_run_each(const char *path,
                                        ssmq_status (*row)(void *context, const ssmq_record *record,
                                                           ssmq_err *err),
                                        void *context, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
