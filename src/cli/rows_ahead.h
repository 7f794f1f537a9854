/* SPDX-License-Identifier: Apache-2.0 */
/* cli/rows_ahead.h - finished trials of a run, read and parsed by a thread of its own some rows
 * ahead of whoever takes them. */
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
    int lines_fd; /* receives each record as a line of JSON */
    const char *lines_path;
} ssmq_rows_ahead_setup;

/* What setup points to is borrowed until the close.  Owns: *out, ssmq_rows_ahead_close().
 * Fails: NOMEM, CONFIG. */
SSMQ_MUST_USE ssmq_status ssmq_rows_ahead_open(ssmq_rows_ahead **out,
                                               const ssmq_rows_ahead_setup *setup, ssmq_err *err);
void ssmq_rows_ahead_close(ssmq_rows_ahead *rows); /* NULL is a no-op */
/* The next row, from 0 to n - 1. With the last one all lines have been written.
 * Owns: samples, ssmq_samples_free().  Fails: IO, NOMEM, CONFIG (damaged). */
SSMQ_MUST_USE ssmq_status ssmq_rows_ahead_next(ssmq_rows_ahead *rows, ssmq_record *record,
                                               ssmq_samples *samples, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
