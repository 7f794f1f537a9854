/* SPDX-License-Identifier: Apache-2.0 */
/* store/store.h - a run's journals as one HDF5 file, always whole: written beside and renamed.
 * The layout is described at the top of store.c. */
#ifndef SSMQ_STORE_STORE_H
#define SSMQ_STORE_STORE_H

#include "base/status.h"
#include "record/record.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Texts that explain a run, in the order of names in /provenance. */
typedef struct ssmq_fact {
    char name[48];
    const char *text;
} ssmq_fact;

/* Rows come one at a time, so that memory does not grow with the run. */
typedef struct ssmq_store_rows {
    size_t n_rows;
    /* Row i in the order of the file; asked for once each, in that order. samples belong to the
     * caller. */
    ssmq_status (*get)(void *context, size_t i, ssmq_record *record, ssmq_samples *samples,
                       ssmq_err *err);
    void *context;
    size_t n_planned; /* trials of the whole grid */
} ssmq_store_rows;

/* Writes path from the rows. Equal rows and facts give equal bytes.
 * Fails: IO (an old file stays as it was), NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_store_write(const char *path, const ssmq_store_rows *rows,
                                           const ssmq_fact *facts, size_t n_facts, ssmq_err *err);

/* Calls row() for each record of /table/trials.  Fails: CONFIG (no such file or layout), IO. */
SSMQ_MUST_USE ssmq_status ssmq_store_read(
    const char *path, ssmq_status (*row)(void *context, const ssmq_record *record, ssmq_err *err),
    void *context, ssmq_err *err);

/* Version of the HDF5 library in use, e.g. "1.10.8". */
const char *ssmq_store_hdf5_version(void);

#ifdef __cplusplus
}
#endif
#endif
