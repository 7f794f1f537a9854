/* SPDX-License-Identifier: Apache-2.0 */
/* store/: rows come back as they went in, the cube holds each number at its place, equal content is
 * equal bytes, and a full disk leaves the old file. The file is read here by plain HDF5 calls. */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <hdf5.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "store/store.h"
#include "unit/random_record.h"

static char folder[64];
static char path[128];
static char other_path[128];

static int make_folder(void **state) {
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/ssmq-store-XXXXXX");
    if (mkdtemp(folder) == NULL) return 1;
    (void)snprintf(path, sizeof path, "%s/results.h5", folder);
    (void)snprintf(other_path, sizeof other_path, "%s/other.h5", folder);
    return 0;
}

static int remove_folder(void **state) {
    (void)state;
    (void)unlink(path);
    (void)unlink(other_path);
    /* Fails if a temporary file was left. */
    return rmdir(folder);
}

static const ssmq_fact facts[] = {{"run_id", "r1"},
                                  {"created_utc", "2026-11-23T04:28:26Z"},
                                  {"ssmq_version", "0.1.0"},
                                  {"config", "model:\n  path: \xc3\xa9\n"},
                                  {"empty", ""}};
enum { N_FACTS = sizeof facts / sizeof facts[0] };

/* Records of random content, with places in the cube for all but every seventh. */
static ssmq_status random_row(void *context, size_t i, ssmq_record *record, ssmq_samples *samples,
                              ssmq_err *err) {
    static const char *const tasks[] = {"ppl", "passkey", "profile"};
    static const char *const precisions[] = {"bf16", "w8a8", "w4a4"};
    ssmq_rng rng = ssmq_rng_from_seed(1000 + i);
    double values[9];
    (void)context;
    random_record(record, &rng);
    ssmq_field_set(record->status, sizeof record->status, i % 5 == 4 ? "oom" : "ok");
    if (i % 7 == 6) return SSMQ_OK;
    ssmq_field_set(record->task, sizeof record->task, tasks[i % 3]);
    ssmq_field_set(record->precision, sizeof record->precision, precisions[i / 3 % 3]);
    ssmq_field_set(record->scope, sizeof record->scope, i / 3 % 3 == 0 ? "none" : "all");
    ssmq_field_set(record->protocol, sizeof record->protocol, "sliding");
    ssmq_field_set(record->prompt_template_version, sizeof record->prompt_template_version,
                   i % 2 == 0 ? "demo-1" : "ruler-niah-1");
    record->seq_len = record->context_length = 4096 >> i / 9 % 4;
    record->batch_size = 1 + (int64_t)(i / 36 % 3);
    record->seed = 0;
    for (size_t k = 0; k < 9; k++) values[k] = random_f64(&rng);
    SSMQ_TRY(ssmq_samples_add(samples, "prefill_ms", values, i % 10, err));
    return i % 2 == 0 ? ssmq_samples_add(samples, "nll_window", values, 9, err) : SSMQ_OK;
}

static void write_rows(const char *to, size_t n_rows, size_t n_planned) {
    const ssmq_store_rows rows = {.n_rows = n_rows, .get = random_row, .n_planned = n_planned};
    ssmq_err err = {0};
    if (ssmq_store_write(to, &rows, facts, N_FACTS, &err) != SSMQ_OK) fail_msg("%s", err.text);
}

static ssmq_status compare_row(void *context, const ssmq_record *record, ssmq_err *err) {
    size_t *i = context;
    ssmq_record expected;
    ssmq_samples samples = {0};
    SSMQ_TRY(random_row(NULL, *i, &expected, &samples, err));
    ssmq_samples_free(&samples);
    assert_memory_equal(record, &expected, sizeof expected);
    ++*i;
    return SSMQ_OK;
}

static void rows_come_back(void **state) {
    (void)state;
    /* None, one, a part of a slab, several slabs. */
    static const size_t sizes[] = {0, 1, 130, 2500};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        size_t n = 0;
        ssmq_err err = {0};
        write_rows(path, sizes[s], sizes[s]);
        if (ssmq_store_read(path, compare_row, &n, &err) != SSMQ_OK) fail_msg("%s", err.text);
        assert_int_equal(n, sizes[s]);
    }
}

/* The clock moves on between the two. */
static void equal_content_equal_bytes(void **state) {
    (void)state;
    char *bytes[2] = {NULL, NULL};
    size_t n_bytes[2];
    ssmq_err err = {0};
    write_rows(path, 200, 300);
    ssmq_sleep_ns(1100000000);
    write_rows(other_path, 200, 300);
    assert_int_equal(ssmq_file_read(&bytes[0], &n_bytes[0], path, 1 << 28, &err), SSMQ_OK);
    assert_int_equal(ssmq_file_read(&bytes[1], &n_bytes[1], other_path, 1 << 28, &err), SSMQ_OK);
    assert_int_equal(n_bytes[0], n_bytes[1]);
    assert_memory_equal(bytes[0], bytes[1], n_bytes[0]);
    ssmq_free(bytes[0]);
    ssmq_free(bytes[1]);
}

static hid_t open_dataset(hid_t file, const char *name, int rank, hsize_t *dims) {
    hid_t dataset = H5Dopen2(file, name, H5P_DEFAULT);
    if (dataset < 0) fail_msg("no %s", name);
    hid_t space = H5Dget_space(dataset);
    assert_int_equal(H5Sget_simple_extent_ndims(space), rank);
    (void)H5Sget_simple_extent_dims(space, dims, NULL);
    (void)H5Sclose(space);
    return dataset;
}

/* Up to n numbers of a dataset. */
static void read_numbers(hid_t file, const char *name, int rank, hsize_t *dims, double *out,
                         size_t n) {
    hid_t dataset = open_dataset(file, name, rank, dims);
    size_t size = 1;
    for (int i = 0; i < rank; i++) size *= (size_t)dims[i];
    assert_true(size <= n);
    assert_true(H5Dread(dataset, H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, out) >= 0);
    (void)H5Dclose(dataset);
}

static int64_t read_attribute(hid_t file, const char *name) {
    int64_t value = -100;
    hid_t attribute = H5Aopen(file, name, H5P_DEFAULT);
    assert_true(attribute >= 0);
    assert_true(H5Aread(attribute, H5T_NATIVE_INT64, &value) >= 0);
    (void)H5Aclose(attribute);
    return value;
}

/* Each profile row of the first 36 owns a cell; the others are NaN. */
static void cube_places(void **state) {
    (void)state;
    enum { N = 36, CELLS = 1024 };
    double cells[CELLS];
    double contexts[8];
    hsize_t dims[8];
    size_t n_rows = 0;
    size_t n_filled = 0;
    write_rows(path, N, N + 1);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(file >= 0);
    read_numbers(file, "/context", 1, dims, contexts, 8);
    assert_int_equal(dims[0], 4);
    for (size_t i = 0; i < 4; i++) assert_true(contexts[i] == (double)(512 << i));
    read_numbers(file, "/prefill_ms", 5, dims, cells, CELLS);
    /* Precisions and scopes in order of first row; one batch, one seed. */
    assert_true(dims[0] == 3 && dims[1] == 2 && dims[2] == 4 && dims[3] == 1 && dims[4] == 1);
    for (size_t i = 2; i < N; i += 3) {
        ssmq_record record;
        ssmq_samples samples = {0};
        if (i % 7 == 6) continue;
        assert_int_equal(random_row(NULL, i, &record, &samples, NULL), SSMQ_OK);
        ssmq_samples_free(&samples);
        size_t precision = i / 3 % 3;
        size_t scope = precision == 0 ? 0 : 1;
        double cell = cells[(precision * 2 + scope) * 4 + (3 - i / 9 % 4)];
        assert_memory_equal(&cell, &record.prefill_ms, sizeof cell);
        n_rows += !isnan(cell);
    }
    for (size_t i = 0; i < 24; i++) n_filled += !isnan(cells[i]);
    assert_int_equal(n_filled, n_rows);
    assert_true(n_filled > 4);
    read_numbers(file, "/ppl", 5, dims, cells, CELLS);
    assert_true(dims[0] == 5 && dims[1] == 3 && dims[2] == 2 && dims[3] == 4 && dims[4] == 1);
    read_numbers(file, "/accuracy", 5, dims, cells, CELLS);
    /* Both templates, in order of first row, which has the second; each row with its own. */
    assert_true(dims[0] == 2 && dims[1] == 3 && dims[2] == 2 && dims[3] == 4 && dims[4] == 1);
    n_filled = 0;
    for (size_t i = 0; i < 48; i++) n_filled += !isnan(cells[i]);
    n_rows = 0;
    for (size_t i = 1; i < N; i += 3) {
        ssmq_record record;
        ssmq_samples samples = {0};
        if (i % 7 == 6) continue;
        assert_int_equal(random_row(NULL, i, &record, &samples, NULL), SSMQ_OK);
        ssmq_samples_free(&samples);
        const size_t template_ = 1 - i % 2, precision = i / 3 % 3, scope = precision == 0 ? 0 : 1;
        const double cell = cells[((template_ * 3 + precision) * 2 + scope) * 4 + (3 - i / 9 % 4)];
        assert_memory_equal(&cell, &record.accuracy, sizeof cell);
        n_rows += !isnan(cell);
    }
    assert_int_equal(n_filled, n_rows);
    read_numbers(file, "/profile_status", 5, dims, cells, CELLS);
    /* Row 14 (bf16 is precision 0) is an oom: 14 / 3 % 3 = 1, context 2048. */
    assert_true(cells[(1 * 2 + 1) * 4 + 2] == (double)SSMQ_NOMEM);
    assert_true(cells[1 * 4] == -1.0);
    assert_int_equal(read_attribute(file, "complete"), 0);
    assert_int_equal(read_attribute(file, "schema_version"), SSMQ_SCHEMA_VERSION);
    assert_int_equal(read_attribute(file, "n_trials_planned"), N + 1);
    assert_int_equal(read_attribute(file, "n_trials_ok"), 29);
    assert_int_equal(read_attribute(file, "n_trials_failed"), 7);
    assert_int_equal(read_attribute(file, "n_trials_skipped"), 0);
    (void)H5Fclose(file);
}

static void samples_are_ragged(void **state) {
    (void)state;
    enum { N = 60 };
    double values[N * 9];
    double places[N * 9];
    double trials[N];
    double sizes[N];
    hsize_t dims[8];
    size_t at = 0;
    size_t n_trials = 0;
    write_rows(path, N, N);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    read_numbers(file, "/samples/prefill_ms/values", 1, dims, values, N * 9);
    size_t n_values = (size_t)dims[0];
    read_numbers(file, "/samples/prefill_ms/sample", 1, dims, places, N * 9);
    read_numbers(file, "/samples/prefill_ms/trial", 1, dims, trials, N);
    read_numbers(file, "/samples/prefill_ms/row_size", 1, dims, sizes, N);
    for (size_t i = 0; i < N; i++) {
        ssmq_record record;
        ssmq_samples samples = {0};
        assert_int_equal(random_row(NULL, i, &record, &samples, NULL), SSMQ_OK);
        const ssmq_series *series = ssmq_samples_get(&samples, "prefill_ms");
        if (series != NULL) {
            assert_true(trials[n_trials] == (double)i);
            assert_true(sizes[n_trials] == (double)series->n);
            assert_memory_equal(&values[at], series->values, series->n * sizeof *values);
            for (size_t k = 0; k < series->n; k++) assert_true(places[at + k] == (double)k);
            at += series->n;
            n_trials++;
        }
        ssmq_samples_free(&samples);
    }
    assert_int_equal(at, n_values);
    assert_int_equal(n_trials, dims[0]);
    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    assert_true(H5Lexists(file, "/samples/decode_ms", H5P_DEFAULT) == 0);
    (void)H5Fclose(file);
}

/* netCDF readers refuse a root with an axis that has no scale. */
static herr_t check_scales(hid_t root, const char *name, const H5L_info_t *info, void *context) {
    (void)info;
    hid_t object = H5Oopen(root, name, H5P_DEFAULT);
    if (H5Iget_type(object) == H5I_DATASET) {
        bool is_scale = H5Aexists(object, "REFERENCE_LIST") > 0 || H5Aexists(object, "CLASS") > 0;
        bool has_scales = H5Aexists(object, "DIMENSION_LIST") > 0;
        if (!is_scale && !has_scales) print_error("%s has no dimension scales\n", name);
        *(size_t *)context += is_scale || has_scales ? 1 : 1000;
    }
    (void)H5Oclose(object);
    return 0;
}

static void axes_have_scales(void **state) {
    (void)state;
    static const char *const groups[] = {"/", "/table", "/samples/nll_window"};
    static const size_t counts[] = {7 + 5 + 9 + 9 + 14 + 18 + 12, 4, 4};
    write_rows(path, 40, 40);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    for (size_t i = 0; i < 3; i++) {
        size_t n = 0;
        hid_t group = H5Gopen2(file, groups[i], H5P_DEFAULT);
        assert_true(H5Literate(group, H5_INDEX_NAME, H5_ITER_INC, NULL, check_scales, &n) >= 0);
        assert_int_equal(n, counts[i]);
        (void)H5Gclose(group);
    }
    (void)H5Fclose(file);
}

/* Any one wrong byte in the packed rows is noticed. */
static void damage_is_noticed(void **state) {
    (void)state;
    char *bytes = NULL;
    size_t n_bytes = 0;
    size_t n_noticed = 0;
    ssmq_err err = {0};
    write_rows(path, 400, 400);
    hid_t file = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    hid_t dataset = H5Dopen2(file, "/table/trials", H5P_DEFAULT);
    hsize_t first[1];
    unsigned mask = 0;
    haddr_t address = 0;
    hsize_t size = 0;
    hid_t space = H5Dget_space(dataset);
    assert_true(H5Dget_chunk_info(dataset, space, 1, first, &mask, &address, &size) >= 0);
    (void)H5Sclose(space);
    (void)H5Dclose(dataset);
    (void)H5Fclose(file);
    assert_int_equal(ssmq_file_read(&bytes, &n_bytes, path, 1 << 28, &err), SSMQ_OK);
    for (size_t i = 0; i < 20; i++) {
        size_t at = (size_t)address + (size_t)size * i / 20;
        size_t n = 0;
        bytes[at] ^= 16;
        assert_int_equal(ssmq_file_replace(other_path, bytes, n_bytes, &err), SSMQ_OK);
        bytes[at] ^= 16;
        ssmq_err_clear(&err);
        n_noticed += ssmq_store_read(other_path, compare_row, &n, &err) == SSMQ_IO;
    }
    assert_int_equal(n_noticed, 20);
    ssmq_free(bytes);
}

static ssmq_status failing_row(void *context, size_t i, ssmq_record *record, ssmq_samples *samples,
                               ssmq_err *err) {
    if (i == 1500) return SSMQ_FAIL(err, IO, "row %zu is unreadable", i);
    return random_row(context, i, record, samples, err);
}

static void failures_keep_old_file(void **state) {
    (void)state;
    struct rlimit old;
    struct rlimit tight;
    ssmq_err err = {0};
    size_t n = 0;
    write_rows(path, 50, 50);
    const ssmq_store_rows bad_rows = {.n_rows = 2000, .get = failing_row, .n_planned = 2000};
    assert_int_equal(ssmq_store_write(path, &bad_rows, facts, N_FACTS, &err), SSMQ_IO);
    assert_string_equal(err.text, "row 1500 is unreadable");
    /* A limit on the file's size stands for a full disk. */
    const ssmq_store_rows rows = {.n_rows = 50, .get = random_row, .n_planned = 50};
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    tight = old;
    tight.rlim_cur = 10000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    ssmq_err_clear(&err);
    ssmq_status status = ssmq_store_write(path, &rows, facts, N_FACTS, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(status, SSMQ_IO);
    assert_non_null(strstr(err.text, ": cannot write: File too large"));
    static const ssmq_fact bad_fact[] = {{"../x", "text"}};
    ssmq_err_clear(&err);
    assert_int_equal(ssmq_store_write(path, &rows, bad_fact, 1, &err), SSMQ_INTERNAL);
    assert_string_equal(err.text, "provenance: not a name: '../x'");
    ssmq_err_clear(&err);
    assert_int_equal(ssmq_store_write("no/such/x.h5", &rows, facts, N_FACTS, &err), SSMQ_IO);
    assert_int_equal(ssmq_store_read(path, compare_row, &n, &err), SSMQ_OK);
    assert_int_equal(n, 50);
}

static void read_faults(void **state) {
    (void)state;
    ssmq_err err = {0};
    size_t n = 0;
    char text[256];
    assert_int_equal(ssmq_store_read(path, compare_row, &n, &err), SSMQ_CONFIG);
    (void)snprintf(text, sizeof text, "%s: no such file", path);
    assert_string_equal(err.text, text);
    ssmq_err_clear(&err);
    assert_int_equal(ssmq_file_replace(path, "not it", 6, &err), SSMQ_OK);
    assert_int_equal(ssmq_store_read(path, compare_row, &n, &err), SSMQ_CONFIG);
    (void)snprintf(text, sizeof text, "%s: not an HDF5 file", path);
    assert_string_equal(err.text, text);
    ssmq_err_clear(&err);
    (void)H5Fclose(H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT));
    assert_int_equal(ssmq_store_read(path, compare_row, &n, &err), SSMQ_CONFIG);
    (void)snprintf(text, sizeof text, "%s: not a results file of ssmq", path);
    assert_string_equal(err.text, text);
    unsigned version[3] = {0};
    assert_true(H5get_libversion(&version[0], &version[1], &version[2]) >= 0);
    (void)snprintf(text, sizeof text, "%u.%u.%u", version[0], version[1], version[2]);
    assert_string_equal(ssmq_store_hdf5_version(), text);
}

static void h5dump_reads_it(void **state) {
    (void)state;
    write_rows(path, 100, 100);
    (void)fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        int null_fd = open("/dev/null", O_WRONLY);
        (void)dup2(null_fd, STDOUT_FILENO);
        (void)execlp("h5dump", "h5dump", path, (char *)NULL);
        _exit(77);
    }
    int result = 0;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_true(WIFEXITED(result));
    if (WEXITSTATUS(result) == 77) skip();
    assert_int_equal(WEXITSTATUS(result), 0);
}

int main(void) {
#define CASE(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        CASE(rows_come_back),
        CASE(equal_content_equal_bytes),
        CASE(cube_places),
        CASE(samples_are_ragged),
        CASE(axes_have_scales),
        CASE(damage_is_noticed),
        CASE(failures_keep_old_file),
        CASE(read_faults),
        CASE(h5dump_reads_it),
    };
#undef CASE
    return cmocka_run_group_tests(tests, NULL, NULL);
}
