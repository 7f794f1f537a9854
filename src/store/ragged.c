/* SPDX-License-Identifier: Apache-2.0 */
/* /samples: series of unequal lengths as CF contiguous ragged arrays, so that one long curve does
 * not pad all the others. Values are written as they come; the short lists of trials at the end. */
#include <string.h>

#include <hdf5.h>

#include "base/mem.h"
#include "store/parts.h"

enum { BUFFER_VALUES = 1 << 16, MAX_TRIALS = 1 << 30 };

ssmq_status ragged_open(ragged *out, const h5_file *file, ssmq_err *err) {
    memset(out, 0, sizeof *out);
    out->file = file;
    for (size_t i = 0; i < ssmq_series_count(); i++) {
        out->series[i] =
            (ragged_series){.name = ssmq_series_name(i), .group = -1, .values = -1, .sample = -1};
    }
    out->group = -1;
    return h5_group(&out->group, file, file->id, "samples", err);
}

static ssmq_status begin_series(ragged *r, ragged_series *s, ssmq_err *err) {
    SSMQ_TRY(ssmq_calloc(&s->value_buffer, BUFFER_VALUES, sizeof *s->value_buffer, err));
    SSMQ_TRY(ssmq_calloc(&s->sample_buffer, BUFFER_VALUES, sizeof *s->sample_buffer, err));
    SSMQ_TRY(h5_group(&s->group, r->file, r->group, s->name, err));
    const h5_spec sample = {.name = "sample",
                            .type = H5T_STD_I32LE,
                            .rank = 1,
                            .is_growing = true,
                            .unit = "1",
                            .long_name = "place of the value in its trial's series"};
    const h5_spec values = {.name = "values",
                            .type = H5T_IEEE_F64LE,
                            .rank = 1,
                            .is_growing = true,
                            .unit = ssmq_series_unit(s->name),
                            .long_name = ssmq_series_doc(s->name)};
    SSMQ_TRY(h5_coordinate(&s->sample, r->file, s->group, &sample, NULL, err));
    return h5_create(&s->values, r->file, s->group, &values, err);
}

static ssmq_status flush_series(const ragged *r, ragged_series *s, ssmq_err *err) {
    hsize_t n = s->n_buffered;
    if (n == 0) return SSMQ_OK;
    SSMQ_TRY(h5_write_part(r->file, s->values, H5T_NATIVE_DOUBLE, s->value_buffer, s->n_written, n,
                           err));
    SSMQ_TRY(h5_write_part(r->file, s->sample, H5T_NATIVE_INT32, s->sample_buffer, s->n_written, n,
                           err));
    s->n_written += n;
    s->n_buffered = 0;
    return SSMQ_OK;
}

static ssmq_status add_series(ragged *r, ragged_series *s, size_t row, const ssmq_series *series,
                              ssmq_err *err) {
    if (s->values < 0) SSMQ_TRY(begin_series(r, s, err));
    SSMQ_TRY(ssmq_grow(&s->trial, &s->trial_capacity, s->n_trials + 1, sizeof *s->trial, MAX_TRIALS,
                       err));
    SSMQ_TRY(ssmq_grow(&s->row_size, &s->size_capacity, s->n_trials + 1, sizeof *s->row_size,
                       MAX_TRIALS, err));
    s->trial[s->n_trials] = (int32_t)row;
    s->row_size[s->n_trials] = (int32_t)series->n;
    s->n_trials++;
    for (size_t i = 0; i < series->n; i++) {
        if (s->n_buffered == BUFFER_VALUES) SSMQ_TRY(flush_series(r, s, err));
        s->value_buffer[s->n_buffered] = series->values[i];
        s->sample_buffer[s->n_buffered++] = (int32_t)i;
    }
    return SSMQ_OK;
}

ssmq_status ragged_add(ragged *r, size_t row, const ssmq_samples *samples, ssmq_err *err) {
    for (size_t i = 0; i < ssmq_series_count(); i++) {
        const ssmq_series *series = ssmq_samples_get(samples, r->series[i].name);
        if (drifts_own(r->series[i].name)) continue;
        if (series != NULL) SSMQ_TRY(add_series(r, &r->series[i], row, series, err));
    }
    return SSMQ_OK;
}

static ssmq_status finish_series(ragged *r, ragged_series *s, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    hid_t trial = -1;
    hid_t row_size = -1;
    const h5_spec trial_spec = {.name = "trial",
                                .type = H5T_NATIVE_INT32,
                                .rank = 1,
                                .dims = {s->n_trials},
                                .unit = "1",
                                .long_name = "row of /table/trials"};
    const h5_spec size_spec = {.name = "row_size",
                               .type = H5T_NATIVE_INT32,
                               .rank = 1,
                               .dims = {s->n_trials},
                               .unit = "1",
                               .long_name = "values of each trial, one trial after another"};
    SSMQ_TRY(flush_series(r, s, err));
    SSMQ_TRY(h5_attach(r->file, s->values, s->sample, 0, err));
    SSMQ_TRY_OR(h5_coordinate(&trial, r->file, s->group, &trial_spec, s->trial, err), close_all);
    SSMQ_TRY_OR(h5_create(&row_size, r->file, s->group, &size_spec, err), close_all);
    SSMQ_TRY_OR(h5_write(r->file, row_size, H5T_NATIVE_INT32, s->row_size, err), close_all);
    SSMQ_TRY_OR(h5_set_text(r->file, row_size, "sample_dimension", "sample", err), close_all);
    status = h5_attach(r->file, row_size, trial, 0, err);
close_all:
    if (row_size >= 0) (void)H5Dclose(row_size);
    if (trial >= 0) (void)H5Dclose(trial);
    return status;
}

ssmq_status ragged_finish(ragged *r, ssmq_err *err) {
    for (size_t i = 0; i < ssmq_series_count(); i++) {
        if (r->series[i].values >= 0) SSMQ_TRY(finish_series(r, &r->series[i], err));
    }
    return SSMQ_OK;
}

void ragged_close(ragged *r) {
    for (size_t i = 0; i < ssmq_series_count(); i++) {
        ragged_series *s = &r->series[i];
        if (s->values >= 0) (void)H5Dclose(s->values);
        if (s->sample >= 0) (void)H5Dclose(s->sample);
        if (s->group >= 0) (void)H5Gclose(s->group);
        ssmq_free(s->value_buffer);
        ssmq_free(s->sample_buffer);
        ssmq_free(s->trial);
        ssmq_free(s->row_size);
        *s = (ragged_series){.group = -1, .values = -1, .sample = -1};
    }
    if (r->group >= 0) (void)H5Gclose(r->group);
    r->group = -1;
}
