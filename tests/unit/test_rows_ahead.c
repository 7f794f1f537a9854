/* SPDX-License-Identifier: Apache-2.0 */
/* Rows read ahead: all of them in order, fewer than there are, and a journal damaged meanwhile. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "cli/rows_ahead.h"

/* More than the batches hold together. */
enum { N_ROWS = 1500, N_SAMPLES = 3, MAX_BYTES = 1 << 26, DAMAGED_ROW = 700 };

static char folder[64];
static char journal_path[SSMQ_PATH_BYTES];
static char lines_path[SSMQ_PATH_BYTES];
static char final_path[SSMQ_PATH_BYTES];
static ssmq_replay replay;
static const ssmq_journal_entry *entries[N_ROWS];
static int lines_fd;

static void write_journal(void) {
    ssmq_journal *journal = NULL;
    ssmq_err err = {0};
    static const double values[N_SAMPLES] = {1.5, 2.5, 3.5};
    assert_int_equal(ssmq_journal_open(&journal, folder, 0, &err), SSMQ_OK);
    for (int i = 0; i < N_ROWS; i++) {
        ssmq_record record;
        ssmq_samples samples = {0};
        ssmq_record_init(&record);
        (void)snprintf(record.trial_id, sizeof record.trial_id, "trial-%d", i);
        ssmq_field_set(record.status, sizeof record.status, "ok");
        record.attempt = 1;
        record.ppl = i + 0.5;
        assert_int_equal(ssmq_samples_add(&samples, "nll_window", values, N_SAMPLES, &err),
                         SSMQ_OK);
        assert_int_equal(ssmq_journal_finished(journal, &record, &samples, &err), SSMQ_OK);
        ssmq_samples_free(&samples);
    }
    ssmq_journal_close(journal);
}

static int make_run(void **state) {
    ssmq_err err = {0};
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/ssmq-rows-XXXXXX");
    if (mkdtemp(folder) == NULL) return 1;
    (void)snprintf(journal_path, sizeof journal_path, "%s/journal.0.jsonl", folder);
    (void)snprintf(lines_path, sizeof lines_path, "%s/lines.tmp", folder);
    (void)snprintf(final_path, sizeof final_path, "%s/lines", folder);
    write_journal();
    if (ssmq_replay_init(&replay, folder, &err) != SSMQ_OK) return 1;
    for (int i = 0; i < N_ROWS; i++) {
        char id[32];
        (void)snprintf(id, sizeof id, "trial-%d", i);
        entries[i] = ssmq_replay_find(&replay, id);
        if (entries[i] == NULL) return 1;
    }
    return 0;
}

static int remove_run(void **state) {
    (void)state;
    ssmq_replay_free(&replay);
    (void)unlink(journal_path);
    (void)unlink(lines_path);
    (void)unlink(final_path);
    return rmdir(folder);
}

static ssmq_rows_ahead *open_rows(size_t n) {
    (void)unlink(final_path);
    lines_fd = open(lines_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(lines_fd >= 0);
    const ssmq_rows_ahead_setup setup = {.replay = &replay,
                                         .run_dir = folder,
                                         .entries = entries,
                                         .n = n,
                                         .lines_fd = lines_fd,
                                         .lines_path = lines_path,
                                         .final_path = final_path};
    ssmq_rows_ahead *rows = NULL;
    ssmq_err err = {0};
    assert_int_equal(ssmq_rows_ahead_open(&rows, &setup, &err), SSMQ_OK);
    return rows;
}

static void close_rows(ssmq_rows_ahead *rows) {
    ssmq_rows_ahead_close(rows);
    (void)close(lines_fd);
}

static void takes_all(void **state) {
    (void)state;
    ssmq_rows_ahead *rows = open_rows(N_ROWS);
    ssmq_record record;
    ssmq_samples samples;
    ssmq_err err = {0};
    ssmq_str expected;
    char *lines = NULL;
    size_t n_bytes = 0;
    ssmq_str_init(&expected, MAX_BYTES);
    for (int i = 0; i < N_ROWS; i++) {
        assert_int_equal(ssmq_rows_ahead_next(rows, &record, &samples, &err), SSMQ_OK);
        assert_true(record.ppl == i + 0.5);
        assert_int_equal(samples.n_series, 1);
        assert_int_equal(samples.series[0].n, N_SAMPLES);
        ssmq_samples_free(&samples);
        ssmq_record_add_json(&record, &expected);
        ssmq_str_add(&expected, "\n", 1);
    }
    assert_int_equal(ssmq_rows_ahead_next(rows, &record, &samples, &err), SSMQ_INTERNAL);
    ssmq_err_clear(&err);
    assert_int_equal(ssmq_rows_ahead_finish(rows, &err), SSMQ_OK);
    assert_false(ssmq_path_exists(lines_path));
    assert_int_equal(ssmq_file_read(&lines, &n_bytes, final_path, MAX_BYTES, &err), SSMQ_OK);
    assert_int_equal(n_bytes, expected.n_bytes);
    assert_memory_equal(lines, ssmq_str_get(&expected), n_bytes);
    ssmq_free(lines);
    ssmq_str_free(&expected);
    close_rows(rows);
}

/* Whoever stops early leaves neither a thread nor memory behind; the sanitizers look. */
static void stops_early(void **state) {
    (void)state;
    for (int n_taken = 0; n_taken < 200; n_taken += 66) {
        ssmq_rows_ahead *rows = open_rows(N_ROWS);
        for (int i = 0; i < n_taken; i++) {
            ssmq_record record;
            ssmq_samples samples;
            ssmq_err err = {0};
            assert_int_equal(ssmq_rows_ahead_next(rows, &record, &samples, &err), SSMQ_OK);
            ssmq_samples_free(&samples);
        }
        close_rows(rows);
        assert_false(ssmq_path_exists(final_path));
    }
    ssmq_err err = {0};
    ssmq_rows_ahead *none = open_rows(0);
    assert_int_equal(ssmq_rows_ahead_finish(none, &err), SSMQ_OK);
    assert_true(ssmq_path_exists(final_path));
    close_rows(none);
    ssmq_rows_ahead_close(NULL);
}

static void damage(int64_t offset) {
    char byte = 0;
    int fd = open(journal_path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, &byte, 1, offset), 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
    (void)close(fd);
}

/* The failure comes where the row would, or up to a batch before it, and again if asked again. */
static void reports_damage(void **state) {
    (void)state;
    ssmq_record record;
    ssmq_samples samples;
    ssmq_err err = {0};
    char text[SSMQ_PATH_BYTES + 128];
    int n_taken = 0;
    ssmq_status status = SSMQ_OK;
    damage(entries[DAMAGED_ROW]->offset + 300);
    ssmq_rows_ahead *rows = open_rows(N_ROWS);
    for (;; n_taken++) {
        status = ssmq_rows_ahead_next(rows, &record, &samples, &err);
        if (status != SSMQ_OK) break;
        ssmq_samples_free(&samples);
    }
    assert_int_equal(status, SSMQ_CONFIG);
    assert_in_range(n_taken, DAMAGED_ROW - 64, DAMAGED_ROW);
    (void)snprintf(text, sizeof text, "%s: the line at byte %lld is damaged", journal_path,
                   (long long)entries[DAMAGED_ROW]->offset);
    assert_string_equal(err.text, text);
    ssmq_err_clear(&err);
    assert_int_equal(ssmq_rows_ahead_next(rows, &record, &samples, &err), SSMQ_CONFIG);
    ssmq_err_clear(&err);
    assert_int_equal(ssmq_rows_ahead_finish(rows, &err), SSMQ_CONFIG);
    assert_string_equal(err.text, text);
    assert_false(ssmq_path_exists(final_path));
    close_rows(rows);
    damage(entries[DAMAGED_ROW]->offset + 300);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(takes_all),
        cmocka_unit_test(stops_early),
        cmocka_unit_test(reports_damage),
    };
    return cmocka_run_group_tests(tests, make_run, remove_run);
}
