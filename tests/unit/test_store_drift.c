/* SPDX-License-Identifier: Apache-2.0 */
/* /drift of a results file: every array at its place with its axes, nothing of it in /samples, and
 * series that do not fit each other. The file is read here by plain HDF5 calls. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <hdf5.h>

#include "base/str.h"
#include "store/store.h"

enum { S = 3, B = 2, L = 2, H = 4, BINS = 2, N = S * B * L * H };

static char path[64];

/* Lengths of the series, and how many axes their arrays have. */
static const struct {
    const char *name;
    size_t n;
    int rank;
} series[] = {
    {"drift_error", N, 4},
    {"drift_cosine", N, 4},
    {"drift_norm_ratio", N, 4},
    {"drift_injected_error", N, 4},
    {"drift_floor", N, 4},
    {"drift_conv_error", S *B *L, 3},
    {"drift_conv_injected_error", S *B *L, 3},
    {"drift_conv_floor", S *B *L, 3},
    {"drift_n_nonfinite", S *B *L, 3},
    {"drift_n_saturated", S *B *L, 3},
    {"drift_kl", S *B, 2},
    {"drift_injected_kl", S *B, 2},
    {"drift_kl_floor", S *B, 2},
    {"drift_same_top", S *B, 2},
    {"drift_half_life", L *H, 2},
    {"drift_error_rms", S, 1},
    {"drift_injected_error_rms", S, 1},
    {"drift_floor_rms", S, 1},
    {"drift_layer_error", S *L, 2},
    {"drift_layer_injected_error", S *L, 2},
    {"drift_layer_floor", S *L, 2},
    {"drift_layer_exponent", L, 1},
    {"drift_layer_exponent_ci_low", L, 1},
    {"drift_layer_exponent_ci_high", L, 1},
    {"drift_bin_heads", BINS, 1},
    {"drift_bin_error", S *BINS, 2},
    {"drift_bin_floor", S *BINS, 2},
    {"drift_step", S, 0},
    {"drift_bin_half_life", BINS, 0},
};
enum { N_SERIES = sizeof series / sizeof series[0] };

/* Row 0 has no drift; row 1 has, with a series too short where `context` points at its name. */
static ssmq_status row_of(void *context, size_t i, ssmq_record *record, ssmq_samples *samples,
                          ssmq_err *err) {
    const char *damaged = context;
    double values[N];
    ssmq_field_set(record->status, sizeof record->status, "ok");
    ssmq_field_set(record->task, sizeof record->task, i == 0 ? "ppl" : "drift");
    ssmq_field_set(record->precision, sizeof record->precision, "w8a8");
    ssmq_field_set(record->baseline, sizeof record->baseline, "bf16");
    if (i == 0) return SSMQ_OK;
    for (size_t k = 0; k < N_SERIES; k++) {
        const bool is_short = damaged != NULL && strcmp(damaged, series[k].name) == 0;
        for (size_t at = 0; at < series[k].n; at++) values[at] = (double)(100 * k + at);
        SSMQ_TRY(ssmq_samples_add(samples, series[k].name, values, series[k].n - is_short, err));
    }
    return SSMQ_OK;
}

static void arrays_are_in_their_places(void **state) {
    (void)state;
    const ssmq_store_rows rows = {.n_rows = 2, .get = row_of, .n_planned = 2};
    ssmq_err err = {0};
    if (ssmq_store_write(path, &rows, NULL, 0, &err) != SSMQ_OK) fail_msg("%s", err.text);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    for (size_t k = 0; k < N_SERIES; k++) {
        char name[96];
        double values[N];
        (void)snprintf(name, sizeof name, "/drift/1/%s", series[k].name);
        if (series[k].rank == 0) {
            assert_true(H5Lexists(file, name, H5P_DEFAULT) == 0);
            continue;
        }
        hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT);
        hid_t space = H5Dget_space(dataset);
        assert_int_equal(H5Sget_simple_extent_ndims(space), series[k].rank);
        assert_int_equal(H5Sget_simple_extent_npoints(space), (int64_t)series[k].n);
        assert_true(H5Aexists(dataset, "DIMENSION_LIST") > 0 && H5Aexists(dataset, "units") > 0);
        assert_true(H5Dread(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values) >=
                    0);
        for (size_t at = 0; at < series[k].n; at++) {
            assert_true(values[at] == (double)(100 * k + at));
        }
        (void)H5Sclose(space);
        (void)H5Dclose(dataset);
    }
    hsize_t dims[4];
    hid_t dataset = H5Dopen2(file, "/drift/1/drift_error", H5P_DEFAULT);
    hid_t space = H5Dget_space(dataset);
    assert_int_equal(H5Sget_simple_extent_dims(space, dims, NULL), 4);
    assert_true(dims[0] == S && dims[1] == B && dims[2] == L && dims[3] == H);
    int64_t steps[S];
    hid_t step = H5Dopen2(file, "/drift/1/step", H5P_DEFAULT);
    assert_true(H5Dread(step, H5T_NATIVE_INT64, H5S_ALL, H5S_ALL, H5P_DEFAULT, steps) >= 0);
    assert_int_equal(steps[1], 100 * 27 + 1);
    assert_true(H5Lexists(file, "/drift/0", H5P_DEFAULT) == 0);
    assert_true(H5Lexists(file, "/samples/drift_error", H5P_DEFAULT) == 0);
    (void)H5Dclose(step);
    (void)H5Sclose(space);
    (void)H5Dclose(dataset);
    (void)H5Fclose(file);
}

static void no_group_without_drift(void **state) {
    (void)state;
    const ssmq_store_rows rows = {.n_rows = 1, .get = row_of, .n_planned = 1};
    ssmq_err err = {0};
    assert_int_equal(ssmq_store_write(path, &rows, NULL, 0, &err), SSMQ_OK);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(H5Lexists(file, "/drift", H5P_DEFAULT) == 0);
    (void)H5Fclose(file);
}

static void series_must_fit(void **state) {
    static char names[][32] = {"drift_error", "drift_conv_floor", "drift_bin_floor", "drift_kl"};
    (void)state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        const ssmq_store_rows rows = {
            .n_rows = 2, .get = row_of, .context = names[i], .n_planned = 2};
        ssmq_err err = {0};
        assert_int_equal(ssmq_store_write(path, &rows, NULL, 0, &err), SSMQ_INTERNAL);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arrays_are_in_their_places),
        cmocka_unit_test(no_group_without_drift),
        cmocka_unit_test(series_must_fit),
    };
    char folder[] = "/tmp/ssmq-store-drift-XXXXXX";
    if (mkdtemp(folder) == NULL) return 1;
    (void)snprintf(path, sizeof path, "%s/results.h5", folder);
    const int status = cmocka_run_group_tests(tests, NULL, NULL);
    (void)unlink(path);
    return rmdir(folder) == 0 ? status : 1;
}
