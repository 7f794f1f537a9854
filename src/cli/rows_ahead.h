/* SPDX-License-Identifier: Apache-2.0 */
/* cli/rows_ahead.h - finished trials of a run, read and parsed by a thread of its own some rows
 * ahead of whoever takes them; it also writes them to a file as lines of JSON. */
#ifndef SSMQ_CLI_ROWS_AHEAD_H
#define SSMQ_CLI_ROWS_AHEAD_H

#include "journal/journal.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_rows_ahead ssmq_rows_ahead;

typedef struct ssmq_rows_ahead_setup {
    const ssmq_replay *replay;
    const char *run_dir;
    const ssmq_journal_entry *const *entries; /* [n] finished ones, in the order of the rows */
    size_t n;
    int lines_fd;           /* receives each record as a line */
    const char *lines_path; /* of lines_fd */
    const char *final_path; /* what it is renamed to when all lines are there */
} ssmq_rows_ahead_setup;

/* What setup points to is borrowed until the close.  Owns: *out, ssmq_rows_ahead_close().
 * Fails: NOMEM, CONFIG. */
SSMQ_MUST_USE ssmq_status ssmq_rows_ahead_open(ssmq_rows_ahead **out,
                                               const ssmq_rows_ahead_setup *setup, ssmq_err *err);
void ssmq_rows_ahead_close(ssmq_rows_ahead *rows); /* NULL is a no-op */
/* The next row, from 0 to n - 1.
 * Owns: samples, ssmq_samples_free().  Fails: IO, NOMEM, CONFIG (damaged). */
SSMQ_MUST_USE ssmq_status ssmq_rows_ahead_next(ssmq_rows_ahead *rows, ssmq_record *record,
                                               ssmq_samples *samples, ssmq_err *err);
/* Returns when all lines are durably under final_path.  Fails: IO; what rows failed with. */
SSMQ_MUST_USE ssmq_status ssmq_rows_ahead_finish(ssmq_rows_ahead *rows, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
