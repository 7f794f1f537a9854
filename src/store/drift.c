/* SPDX-License-Identifier: Apache-2.0 */
/* /drift: the series of a drift trial as arrays over step, sequence, layer and head. Their sizes
 * follow from the lengths of four series, and every other must fit them. */
#include <stdio.h>
#include <string.h>

#include <hdf5.h>

#include "base/mem.h"
#include "store/parts.h"

typedef enum drift_axis {
    AXIS_STEP,
    AXIS_SEQUENCE,
    AXIS_LAYER,
    AXIS_HEAD,
    AXIS_BIN,
    AXIS_IMPULSE, /* of trials that had one */
    N_AXES,
    AXIS_NONE
} drift_axis;

enum { MOST_AXES = 4 };

typedef struct series_axes {
    const char *name;
    drift_axis axes[MOST_AXES + 1]; /* AXIS_NONE-ended */
} series_axes;

#define HEADS                                                                                      \
    { AXIS_STEP, AXIS_SEQUENCE, AXIS_LAYER, AXIS_HEAD, AXIS_NONE }
#define LAYERS                                                                                     \
    { AXIS_STEP, AXIS_SEQUENCE, AXIS_LAYER, AXIS_NONE }
static const series_axes rows[] = {
    {"drift_error", HEADS},
    {"drift_cosine", HEADS},
    {"drift_norm_ratio", HEADS},
    {"drift_injected_error", HEADS},
    {"drift_floor", HEADS},
    {"drift_conv_error", LAYERS},
    {"drift_conv_injected_error", LAYERS},
    {"drift_conv_floor", LAYERS},
    {"drift_n_nonfinite", LAYERS},
    {"drift_n_saturated", LAYERS},
    {"drift_kl", {AXIS_STEP, AXIS_SEQUENCE, AXIS_NONE}},
    {"drift_injected_kl", {AXIS_STEP, AXIS_SEQUENCE, AXIS_NONE}},
    {"drift_kl_floor", {AXIS_STEP, AXIS_SEQUENCE, AXIS_NONE}},
    {"drift_same_top", {AXIS_STEP, AXIS_SEQUENCE, AXIS_NONE}},
    {"drift_half_life", {AXIS_LAYER, AXIS_HEAD, AXIS_NONE}},
    {"drift_error_rms", {AXIS_STEP, AXIS_NONE}},
    {"drift_injected_error_rms", {AXIS_STEP, AXIS_NONE}},
    {"drift_floor_rms", {AXIS_STEP, AXIS_NONE}},
    {"drift_layer_error", {AXIS_STEP, AXIS_LAYER, AXIS_NONE}},
    {"drift_layer_injected_error", {AXIS_STEP, AXIS_LAYER, AXIS_NONE}},
    {"drift_layer_floor", {AXIS_STEP, AXIS_LAYER, AXIS_NONE}},
    {"drift_layer_exponent", {AXIS_LAYER, AXIS_NONE}},
    {"drift_layer_exponent_ci_low", {AXIS_LAYER, AXIS_NONE}},
    {"drift_layer_exponent_ci_high", {AXIS_LAYER, AXIS_NONE}},
    {"drift_bin_heads", {AXIS_BIN, AXIS_NONE}},
    {"drift_bin_error", {AXIS_STEP, AXIS_BIN, AXIS_NONE}},
    {"drift_bin_floor", {AXIS_STEP, AXIS_BIN, AXIS_NONE}},
    {"drift_impulse_response", {AXIS_IMPULSE, AXIS_SEQUENCE, AXIS_LAYER, AXIS_HEAD, AXIS_NONE}},
    {"drift_impulse_head_half_life", {AXIS_LAYER, AXIS_HEAD, AXIS_NONE}},
};
/* Series whose values are coordinates; the other axes count from 0. */
static const char *const coordinates[N_AXES] = {[AXIS_STEP] = "drift_step",
                                                [AXIS_BIN] = "drift_bin_half_life",
                                                [AXIS_IMPULSE] = "drift_impulse_step"};
static const char *const axis_names[N_AXES] = {"step", "sequence", "layer",
                                               "head", "bin",      "impulse_step"};

/* One trial's group. */
typedef struct trial_group {
    const h5_file *file;
    const ssmq_samples *samples;
    hid_t group;
    hsize_t dims[N_AXES];
    hid_t scales[N_AXES];
} trial_group;

bool drifts_own(const char *series) {
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(rows[i].name, series) == 0) return true;
    }
    return strcmp(series, coordinates[AXIS_STEP]) == 0 ||
           strcmp(series, coordinates[AXIS_BIN]) == 0 ||
           strcmp(series, coordinates[AXIS_IMPULSE]) == 0;
}

static size_t length_of(const trial_group *t, const char *name) {
    const ssmq_series *series = ssmq_samples_get(t->samples, name);
    return series != NULL ? series->n : 0;
}

static ssmq_status find_dims(trial_group *t, ssmq_err *err) {
    const size_t n_layers = length_of(t, "drift_layer_exponent");
    const size_t n_steps = length_of(t, "drift_step");
    SSMQ_CHECK(n_layers > 0 && n_steps > 0, err);
    t->dims[AXIS_STEP] = n_steps;
    t->dims[AXIS_SEQUENCE] = length_of(t, "drift_kl") / n_steps;
    t->dims[AXIS_LAYER] = n_layers;
    t->dims[AXIS_HEAD] = length_of(t, "drift_half_life") / n_layers;
    t->dims[AXIS_BIN] = length_of(t, "drift_bin_half_life");
    t->dims[AXIS_IMPULSE] = length_of(t, "drift_impulse_step");
    return SSMQ_OK;
}

static ssmq_status write_scale(trial_group *t, drift_axis axis, ssmq_err *err) {
    const hsize_t n = t->dims[axis];
    const ssmq_series *series =
        coordinates[axis] != NULL ? ssmq_samples_get(t->samples, coordinates[axis]) : NULL;
    const char *unit = series != NULL ? ssmq_series_unit(coordinates[axis]) : "1";
    const char *doc = series != NULL ? ssmq_series_doc(coordinates[axis]) : "counted from 0";
    const h5_spec spec = {.name = axis_names[axis],
                          .type = H5T_STD_I64LE,
                          .rank = 1,
                          .dims = {n},
                          .unit = unit,
                          .long_name = doc};
    int64_t *values = NULL;
    SSMQ_TRY(ssmq_calloc(&values, (size_t)n, sizeof *values, err));
    for (hsize_t i = 0; i < n; i++) {
        values[i] = series != NULL ? (int64_t)series->values[i] : (int64_t)i;
    }
    const ssmq_status status =
        h5_coordinate(&t->scales[axis], t->file, t->group, &spec, values, err);
    ssmq_free(values);
    return status;
}

static ssmq_status write_series(const trial_group *t, const series_axes *row, ssmq_err *err) {
    const ssmq_series *series = ssmq_samples_get(t->samples, row->name);
    ssmq_status status = SSMQ_OK;
    h5_spec spec = {.name = row->name,
                    .type = H5T_IEEE_F64LE,
                    .unit = ssmq_series_unit(row->name),
                    .long_name = ssmq_series_doc(row->name)};
    hid_t dataset = -1;
    hsize_t n = 1;
    for (; row->axes[spec.rank] != AXIS_NONE; spec.rank++) {
        spec.dims[spec.rank] = t->dims[row->axes[spec.rank]];
        n *= spec.dims[spec.rank];
    }
    SSMQ_CHECK(series != NULL && series->n == n, err);
    SSMQ_TRY(h5_create(&dataset, t->file, t->group, &spec, err));
    for (int i = 0; i < spec.rank && status == SSMQ_OK; i++) {
        status = h5_attach(t->file, dataset, t->scales[row->axes[i]], i, err);
    }
    if (status == SSMQ_OK) {
        status = h5_write(t->file, dataset, H5T_NATIVE_DOUBLE, series->values, err);
    }
    (void)H5Dclose(dataset);
    return status;
}

static ssmq_status write_group(trial_group *t, const ssmq_record *record, ssmq_err *err) {
    const char *const attributes[][2] = {
        {"trial_id", record->trial_id},     {"precision", record->precision},
        {"scope", record->scope},           {"baseline", record->baseline},
        {"drift_path", record->drift_path},
    };
    SSMQ_TRY(find_dims(t, err));
    for (size_t i = 0; i < sizeof attributes / sizeof attributes[0]; i++) {
        SSMQ_TRY(h5_set_text(t->file, t->group, attributes[i][0], attributes[i][1], err));
    }
    const bool has_impulse = t->dims[AXIS_IMPULSE] > 0;
    for (int axis = 0; axis < N_AXES; axis++) {
        if (axis == AXIS_IMPULSE && !has_impulse) continue;
        SSMQ_TRY(write_scale(t, (drift_axis)axis, err));
    }
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const bool is_impulse =
            strncmp(rows[i].name, "drift_impulse", strlen("drift_impulse")) == 0;
        if (is_impulse && !has_impulse) continue;
        SSMQ_TRY(write_series(t, &rows[i], err));
    }
    return SSMQ_OK;
}

ssmq_status drifts_add(drifts *d, size_t row, const ssmq_record *record,
                       const ssmq_samples *samples, ssmq_err *err) {
    enum { NAME_BYTES = 24 };
    char name[NAME_BYTES];
    if (ssmq_samples_get(samples, coordinates[AXIS_STEP]) == NULL) return SSMQ_OK;
    if (d->group < 0) SSMQ_TRY(h5_group(&d->group, d->file, d->file->id, "drift", err));
    (void)snprintf(name, sizeof name, "%zu", row);
    trial_group t = {.file = d->file, .samples = samples, .scales = {-1, -1, -1, -1, -1, -1}};
    SSMQ_TRY(h5_group(&t.group, d->file, d->group, name, err));
    const ssmq_status status = write_group(&t, record, err);
    for (int axis = 0; axis < N_AXES; axis++) {
        if (t.scales[axis] >= 0) (void)H5Dclose(t.scales[axis]);
    }
    (void)H5Gclose(t.group);
    return status;
}

void drifts_close(drifts *d) {
    if (d->group >= 0) (void)H5Gclose(d->group);
    d->group = -1;
}
