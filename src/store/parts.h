/* SPDX-License-Identifier: Apache-2.0 */
/* store/parts.h - the parts of a results file, each fed one row after another and closed by one
 * call at the end: /table, /samples, /drift, and the cube at the root. Internal to store/. */
#ifndef SSMQ_STORE_PARTS_H
#define SSMQ_STORE_PARTS_H

#include "record/record.h"
#include "store/h5.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ssmq_record as a compound type, the same in memory and in the file.  Owns: H5Tclose(). */
hid_t table_type(void);

/* /table: rows are collected and written by slabs. */
typedef struct table {
    const h5_file *file;
    hid_t group, trials, type;
    ssmq_record *rows; /* [n_rows] not yet written */
    size_t n_rows;
    hsize_t n_written;
} table;

/* Owns: out, table_close() in every case. */
SSMQ_MUST_USE ssmq_status table_open(table *out, const h5_file *file, size_t n_rows, ssmq_err *err);
SSMQ_MUST_USE ssmq_status table_add(table *t, const ssmq_record *record, ssmq_err *err);
/* Writes what is left and the description of the fields. */
SSMQ_MUST_USE ssmq_status table_finish(table *t, ssmq_err *err);
void table_close(table *t);

/* /samples: one group a series. */
typedef struct ragged_series {
    const char *name;
    hid_t group, values, sample; /* -1 until a trial has the series */
    double *value_buffer;
    int32_t *sample_buffer;
    size_t n_buffered;
    hsize_t n_written;
    int32_t *trial; /* [n_trials] row of /table/trials */
    size_t trial_capacity;
    int32_t *row_size; /* [n_trials] */
    size_t size_capacity;
    size_t n_trials;
} ragged_series;
typedef struct ragged {
    const h5_file *file;
    hid_t group;
    ragged_series series[SSMQ_MAX_SERIES];
} ragged;

/* Owns: out, ragged_close() in every case. */
SSMQ_MUST_USE ssmq_status ragged_open(ragged *out, const h5_file *file, ssmq_err *err);
SSMQ_MUST_USE ssmq_status ragged_add(ragged *r, size_t row, const ssmq_samples *samples,
                                     ssmq_err *err);
SSMQ_MUST_USE ssmq_status ragged_finish(ragged *r, ssmq_err *err);
void ragged_close(ragged *r);

/* /drift: one group a trial, named by its row of /table/trials; none without such trials. */
typedef struct drifts {
    const h5_file *file;
    hid_t group; /* -1 until a trial has drift */
} drifts;

/* Whether a series goes there instead of to /samples. */
bool drifts_own(const char *series);
/* Does nothing for a trial without drift.  Fails: INTERNAL (series that do not fit each other), IO,
 * NOMEM. */
SSMQ_MUST_USE ssmq_status drifts_add(drifts *d, size_t row, const ssmq_record *record,
                                     const ssmq_samples *samples, ssmq_err *err);
void drifts_close(drifts *d);

/* The cube: about 150 bytes a row are kept until the axes are known. */
typedef struct cube cube;
/* Owns: *out, cube_close(). */
SSMQ_MUST_USE ssmq_status cube_open(cube **out, ssmq_err *err);
SSMQ_MUST_USE ssmq_status cube_add(cube *c, const ssmq_record *record, ssmq_err *err);
SSMQ_MUST_USE ssmq_status cube_finish(cube *c, const h5_file *file, ssmq_err *err);
void cube_close(cube *c);

#ifdef __cplusplus
}
#endif
#endif
