/* SPDX-License-Identifier: Apache-2.0 */
/* journal/: torn tails at every byte, every bit flipped, full disks, second writers, and what a
 * replay makes of several ranks' files. */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/mem.h"
#include "journal/journal.h"
#include "unit/random_record.h"

static char folder[64];

static void path_of(char path[SSMQ_PATH_BYTES], const char *name) {
    (void)snprintf(path, SSMQ_PATH_BYTES, "%s/%s", folder, name);
}

static int make_folder(void **state) {
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/ssmq-journal-XXXXXX");
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state) {
    static const char *const names[] = {
        "journal.0.jsonl", "journal.1.jsonl",  "journal.10.jsonl",
        "journal.2.jsonl", "journal.0.torn",   "journal.x.jsonl",
        "journal..jsonl",  "journal.0.jsonl~", "journal.0.jsonl.bak"};
    (void)state;
    char path[SSMQ_PATH_BYTES];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        path_of(path, names[i]);
        (void)unlink(path);
    }
    return rmdir(folder);
}

static void write_file(const char *name, const char *bytes, size_t n_bytes) {
    char path[SSMQ_PATH_BYTES];
    path_of(path, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, n_bytes), n_bytes);
    assert_int_equal(close(fd), 0);
}

/* Owns: the bytes, ssmq_free(). */
static char *read_file(const char *name, size_t *n_bytes) {
    char path[SSMQ_PATH_BYTES];
    char *bytes = NULL;
    ssmq_err err = {0};
    path_of(path, name);
    assert_int_equal(ssmq_file_read(&bytes, n_bytes, path, 1 << 28, &err), SSMQ_OK);
    return bytes;
}

static ssmq_record record_of(const char *trial_id, const char *status, int64_t attempt) {
    ssmq_record record;
    ssmq_record_init(&record);
    ssmq_field_set(record.trial_id, sizeof record.trial_id, trial_id);
    ssmq_field_set(record.status, sizeof record.status, status);
    record.attempt = attempt;
    record.runtime_s = 1.2345;
    record.ppl = 32.0;
    return record;
}

static ssmq_journal *open_rank(int rank) {
    ssmq_journal *journal = NULL;
    ssmq_err err = {0};
    if (ssmq_journal_open(&journal, folder, rank, &err) != SSMQ_OK) fail_msg("%s", err.text);
    return journal;
}

static void add(ssmq_journal *journal, const char *trial_id, const char *status, int64_t attempt) {
    ssmq_err err = {0};
    ssmq_record record = record_of(trial_id, status, attempt);
    ssmq_samples samples = {0};
    double values[3] = {1.5, 2.5, (double)attempt};
    assert_int_equal(ssmq_samples_add(&samples, "prefill_ms", values, 3, &err), SSMQ_OK);
    if (ssmq_journal_finished(journal, &record, &samples, &err) != SSMQ_OK) {
        fail_msg("%s", err.text);
    }
    ssmq_samples_free(&samples);
}

static void start(ssmq_journal *journal, const char *trial_id, int64_t attempt) {
    ssmq_err err = {0};
    if (ssmq_journal_started(journal, trial_id, attempt, &err) != SSMQ_OK) fail_msg("%s", err.text);
}

static ssmq_replay replay_all(void) {
    ssmq_replay replay;
    ssmq_err err = {0};
    if (ssmq_replay_init(&replay, folder, &err) != SSMQ_OK) fail_msg("%s", err.text);
    return replay;
}

static void line_form(void **state) {
    (void)state;
    ssmq_journal *journal = open_rank(0);
    start(journal, "abc", 1);
    add(journal, "abc", "ok", 1);
    ssmq_journal_close(journal);
    size_t n_bytes = 0;
    char *bytes = read_file("journal.0.jsonl", &n_bytes);
    static const char head[] = "{\"v\":1,\"event\":\"started\",\"trial_id\":\"abc\",\"attempt\":1";
    char crc[64];
    (void)snprintf(crc, sizeof crc, ",\"crc\":\"%08x\"}\n",
                   (unsigned)ssmq_crc32c(0, head, sizeof head - 1));
    assert_memory_equal(bytes, head, sizeof head - 1);
    assert_memory_equal(bytes + sizeof head - 1, crc, 19);
    static const char next[] = "{\"v\":1,\"event\":\"finished\",\"trial_id\":\"abc\",\"attempt\":1,"
                               "\"status\":\"ok\",\"duration_ms\":1235,\"record\":{\"run_id\": ";
    assert_memory_equal(bytes + sizeof head - 1 + 19, next, sizeof next - 1);
    ssmq_free(bytes);
}

/* Cut anywhere in its last line, a journal keeps the others and goes on. */
static void torn_tails(void **state) {
    (void)state;
    ssmq_journal *journal = open_rank(0);
    size_t kept = 0;
    size_t n_bytes = 0;
    add(journal, "first", "ok", 1);
    ssmq_free(read_file("journal.0.jsonl", &kept));
    add(journal, "second", "oom", 1);
    ssmq_journal_close(journal);
    char *bytes = read_file("journal.0.jsonl", &n_bytes);
    size_t torn_bytes = 0;
    for (size_t cut = kept; cut < n_bytes; cut++) {
        write_file("journal.0.jsonl", bytes, cut);
        ssmq_replay replay = replay_all();
        assert_int_equal(replay.n_entries, 1);
        assert_int_equal(replay.n_bad_lines, cut > kept);
        assert_null(ssmq_replay_find(&replay, "second"));
        ssmq_replay_free(&replay);
        size_t left = 0;
        ssmq_journal_close(open_rank(0));
        char *after = read_file("journal.0.jsonl", &left);
        assert_int_equal(left, kept);
        assert_memory_equal(after, bytes, kept);
        ssmq_free(after);
        if (cut == kept) continue;
        char *torn = read_file("journal.0.torn", &left);
        assert_int_equal(left, torn_bytes + cut - kept);
        assert_memory_equal(torn + torn_bytes, bytes + kept, cut - kept);
        torn_bytes = left;
        ssmq_free(torn);
    }
    journal = open_rank(0);
    add(journal, "third", "ok", 1);
    ssmq_journal_close(journal);
    ssmq_replay replay = replay_all();
    assert_int_equal(replay.n_entries, 2);
    assert_int_equal(replay.n_bad_lines, 0);
    ssmq_replay_free(&replay);
    ssmq_free(bytes);
}

/* One wrong bit anywhere in a line, and nothing is concluded from it; its neighbours stay. */
static void bit_flips(void **state) {
    (void)state;
    ssmq_journal *journal = open_rank(0);
    size_t begin = 0;
    size_t end = 0;
    size_t n_bytes = 0;
    add(journal, "first", "ok", 1);
    ssmq_free(read_file("journal.0.jsonl", &begin));
    add(journal, "second", "ok", 1);
    ssmq_free(read_file("journal.0.jsonl", &end));
    add(journal, "third", "ok", 1);
    ssmq_journal_close(journal);
    char *bytes = read_file("journal.0.jsonl", &n_bytes);
    for (size_t i = begin; i < end; i++) {
        bytes[i] = (char)(bytes[i] ^ 1 << i % 8);
        write_file("journal.0.jsonl", bytes, n_bytes);
        bytes[i] = (char)(bytes[i] ^ 1 << i % 8);
        ssmq_replay replay = replay_all();
        /* Without its line feed the damaged line takes the next with it. */
        size_t expected = i == end - 1 ? 1 : 2;
        assert_int_equal(replay.n_entries, expected);
        assert_true(replay.n_bad_lines >= 1);
        assert_null(ssmq_replay_find(&replay, "second"));
        assert_non_null(ssmq_replay_find(&replay, "first"));
        ssmq_replay_free(&replay);
    }
    ssmq_free(bytes);
}

static void get_reads_back(void **state) {
    (void)state;
    ssmq_rng rng = ssmq_rng_from_seed(5);
    ssmq_journal *journal = open_rank(2);
    ssmq_err err = {0};
    ssmq_record records[20];
    ssmq_samples none = {0};
    for (size_t i = 0; i < 20; i++) {
        char id[16];
        random_record(&records[i], &rng);
        (void)snprintf(id, sizeof id, "t%zu", i);
        ssmq_field_set(records[i].trial_id, sizeof records[i].trial_id, id);
        ssmq_field_set(records[i].status, sizeof records[i].status, i % 2 == 0 ? "ok" : "timeout");
        records[i].attempt = 1;
        assert_int_equal(ssmq_journal_finished(journal, &records[i], &none, &err), SSMQ_OK);
    }
    ssmq_journal_close(journal);
    ssmq_replay replay = replay_all();
    ssmq_replay_reader *reader = NULL;
    assert_int_equal(replay.n_entries, 20);
    assert_int_equal(ssmq_replay_reader_open(&reader, &replay, folder, &err), SSMQ_OK);
    for (size_t i = 0; i < 20; i++) {
        const ssmq_str *json = NULL;
        ssmq_record record;
        ssmq_samples samples;
        const ssmq_journal_entry *entry = ssmq_replay_find(&replay, records[i].trial_id);
        assert_non_null(entry);
        assert_int_equal(entry->status, i % 2 == 0 ? SSMQ_OK : SSMQ_TIMEOUT);
        assert_int_equal(ssmq_replay_reader_get(reader, entry, &record, &samples, &json, &err),
                         SSMQ_OK);
        assert_memory_equal(&record, &records[i], sizeof record);
        assert_int_equal(samples.n_series, 0);
        ssmq_str expected;
        ssmq_str_init(&expected, 1 << 20);
        ssmq_record_add_json(&record, &expected);
        assert_string_equal(ssmq_str_get(json), ssmq_str_get(&expected));
        ssmq_str_free(&expected);
    }
    /* Damage after the replay is noticed when the line is read again. */
    const ssmq_journal_entry *entry = ssmq_replay_find(&replay, "t3");
    size_t n_bytes = 0;
    char *bytes = read_file("journal.2.jsonl", &n_bytes);
    bytes[entry->offset + 300] ^= 4;
    write_file("journal.2.jsonl", bytes, n_bytes);
    ssmq_free(bytes);
    ssmq_record record;
    ssmq_samples samples;
    char text[SSMQ_PATH_BYTES + 128];
    assert_int_equal(ssmq_replay_reader_get(reader, entry, &record, &samples, NULL, &err),
                     SSMQ_CONFIG);
    (void)snprintf(text, sizeof text, "%s/journal.2.jsonl: the line at byte %lld is damaged",
                   folder, (long long)entry->offset);
    assert_string_equal(err.text, text);
    ssmq_replay_reader_close(reader);
    ssmq_replay_free(&replay);
}

static void replay_merges_ranks(void **state) {
    (void)state;
    ssmq_journal *ranks[3] = {open_rank(0), open_rank(2), open_rank(10)};
    start(ranks[2], "b", 1);
    add(ranks[2], "b", "oom", 1);
    start(ranks[0], "b", 2);
    add(ranks[0], "b", "ok", 2);
    add(ranks[0], "a", "timeout", 1);
    add(ranks[1], "a", "ok", 1);
    add(ranks[2], "a", "oom", 1);
    start(ranks[1], "crash", 1);
    start(ranks[0], "crash", 2);
    for (int i = 0; i < 3; i++) ssmq_journal_close(ranks[i]);
    write_file("journal.x.jsonl", "x\n", 2);
    write_file("journal..jsonl", "x\n", 2);
    write_file("journal.0.jsonl.bak", "x\n", 2);
    ssmq_replay replay = replay_all();
    assert_int_equal(replay.n_files, 3);
    assert_string_equal(replay.files[0], "journal.0.jsonl");
    assert_string_equal(replay.files[1], "journal.2.jsonl");
    assert_string_equal(replay.files[2], "journal.10.jsonl");
    assert_int_equal(replay.n_bad_lines, 0);
    assert_int_equal(replay.n_entries, 3);
    const ssmq_journal_entry *a = ssmq_replay_find(&replay, "a");
    const ssmq_journal_entry *b = ssmq_replay_find(&replay, "b");
    const ssmq_journal_entry *crash = ssmq_replay_find(&replay, "crash");
    assert_string_equal(a->trial_id, "a");
    assert_int_equal(a->status, SSMQ_NOMEM);
    assert_int_equal(a->file_idx, 2);
    assert_int_equal(a->duration_ms, 1235);
    assert_int_equal(b->status, SSMQ_OK);
    assert_int_equal(b->attempts, 2);
    assert_int_equal(b->file_idx, 0);
    assert_string_equal(crash->trial_id, "crash");
    assert_int_equal(crash->status, SSMQ_N_STATUSES);
    assert_int_equal(crash->attempts, 2);
    assert_int_equal(crash->file_idx, 0); /* of the second attempt */
    assert_int_equal(crash->duration_ms, -1);
    assert_null(ssmq_replay_find(&replay, "c"));
    ssmq_replay_free(&replay);
}

/* A limit on the file's size stands for a full disk. */
static void full_disk(void **state) {
    (void)state;
    struct rlimit old;
    struct rlimit tight;
    size_t n_bytes = 0;
    ssmq_err err = {0};
    ssmq_journal *journal = open_rank(0);
    add(journal, "first", "ok", 1);
    char *before = read_file("journal.0.jsonl", &n_bytes);
    (void)signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    tight = old;
    tight.rlim_cur = n_bytes + 1000;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &tight), 0);
    ssmq_record record = record_of("second", "ok", 1);
    ssmq_status status = ssmq_journal_finished(journal, &record, NULL, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(status, SSMQ_IO);
    char text[SSMQ_PATH_BYTES + 128];
    (void)snprintf(text, sizeof text, "%s/journal.0.jsonl: cannot write: File too large", folder);
    assert_string_equal(err.text, text);
    size_t left = 0;
    char *after = read_file("journal.0.jsonl", &left);
    assert_int_equal(left, n_bytes);
    assert_memory_equal(after, before, n_bytes);
    ssmq_free(before);
    ssmq_free(after);
    /* With space again, the same journal goes on. */
    add(journal, "second", "ok", 1);
    ssmq_journal_close(journal);
    ssmq_replay replay = replay_all();
    assert_int_equal(replay.n_entries, 2);
    assert_int_equal(replay.n_bad_lines, 0);
    ssmq_replay_free(&replay);
}

static void second_writer(void **state) {
    (void)state;
    ssmq_err err = {0};
    char text[SSMQ_PATH_BYTES + 128];
    ssmq_journal *journal = open_rank(0);
    (void)fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        ssmq_journal *other = NULL;
        ssmq_status status = ssmq_journal_open(&other, folder, 0, &err);
        (void)snprintf(text, sizeof text,
                       "%s/journal.0.jsonl: another process is writing this journal", folder);
        _exit(status == SSMQ_IO && other == NULL && strcmp(err.text, text) == 0 ? 0 : 1);
    }
    int result = 0;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_int_equal(result, 0);
    /* Where there are no locks: the file changed under this writer, or is gone. */
    char path[SSMQ_PATH_BYTES];
    path_of(path, "journal.0.jsonl");
    int fd = open(path, O_WRONLY | O_APPEND);
    assert_int_equal(write(fd, "x", 1), 1);
    assert_int_equal(ssmq_journal_started(journal, "a", 1, &err), SSMQ_IO);
    (void)snprintf(text, sizeof text, "%s: another process changed this journal", path);
    assert_string_equal(err.text, text);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(close(fd), 0);
    start(journal, "a", 1);
    assert_int_equal(unlink(path), 0);
    ssmq_err_clear(&err);
    assert_int_equal(ssmq_journal_started(journal, "b", 1, &err), SSMQ_IO);
    (void)snprintf(text, sizeof text, "%s: was deleted while the run was writing it", path);
    assert_string_equal(err.text, text);
    ssmq_journal_close(journal);
}

static void refuses(void **state) {
    (void)state;
    ssmq_err err = {0};
    ssmq_journal *journal = open_rank(0);
    ssmq_record record = record_of("a", "fine", 1);
    assert_int_equal(ssmq_journal_finished(journal, &record, NULL, &err), SSMQ_INTERNAL);
    assert_string_equal(err.text, "journal: trial a has no status: 'fine'");
    ssmq_err_clear(&err);
    assert_int_equal(ssmq_journal_started(journal, "a\"b", 1, &err), SSMQ_INTERNAL);
    assert_string_equal(err.text, "journal: not a trial id: 'a\"b'");
    ssmq_journal_close(journal);
    /* A valid line of another version. */
    static const char head[] = "{\"v\":2,\"event\":\"moved\"";
    char line[128];
    char text[SSMQ_PATH_BYTES + 128];
    (void)snprintf(line, sizeof line, "%s,\"crc\":\"%08x\"}\n", head,
                   (unsigned)ssmq_crc32c(0, head, sizeof head - 1));
    write_file("journal.0.jsonl", line, strlen(line));
    (void)snprintf(text, sizeof text,
                   "%s/journal.0.jsonl: written in version 2, this program has 1", folder);
    ssmq_err_clear(&err);
    assert_int_equal(ssmq_journal_open(&journal, folder, 0, &err), SSMQ_CONFIG);
    assert_null(journal);
    assert_string_equal(err.text, text);
    ssmq_replay replay;
    ssmq_err_clear(&err);
    assert_int_equal(ssmq_replay_init(&replay, folder, &err), SSMQ_CONFIG);
    assert_string_equal(err.text, text);
    ssmq_err_clear(&err);
    assert_int_equal(ssmq_replay_init(&replay, "no/such/folder", &err), SSMQ_IO);
    assert_string_equal(err.text, "no/such/folder: No such file or directory");
    assert_int_equal(ssmq_journal_open(&journal, "no/such/folder", 0, NULL), SSMQ_IO);
    ssmq_journal_close(NULL);
}

/* Lines of one trial, repeated to 20,000 finished trials; how fast, e2e_scale asks. */
static void replay_of_many(void **state) {
    (void)state;
    enum { N = 20000 };
    char path[SSMQ_PATH_BYTES];
    ssmq_str all;
    ssmq_str_init(&all, 1 << 28);
    ssmq_journal *journal = open_rank(1);
    size_t n_bytes = 0;
    add(journal, "00000", "ok", 1);
    ssmq_journal_close(journal);
    char *line = read_file("journal.1.jsonl", &n_bytes);
    for (int i = 0; i < N; i++) {
        char id[8];
        char crc[16];
        (void)snprintf(id, sizeof id, "%05d", i);
        char *place = strstr(line, "00000");
        for (size_t k = 0; k < 5; k++) place[k] = id[k];
        (void)snprintf(crc, sizeof crc, "%08x", (unsigned)ssmq_crc32c(0, line, n_bytes - 19));
        for (size_t k = 0; k < 8; k++) line[n_bytes - 11 + k] = crc[k];
        ssmq_str_add(&all, line, n_bytes);
        for (size_t k = 0; k < 5; k++) place[k] = '0';
    }
    path_of(path, "journal.1.jsonl");
    write_file("journal.1.jsonl", ssmq_str_get(&all), all.n_bytes);
    ssmq_replay replay = replay_all();
    assert_int_equal(replay.n_entries, N);
    assert_int_equal(replay.n_bad_lines, 0);
    ssmq_replay_free(&replay);
    ssmq_free(line);
    ssmq_str_free(&all);
}

int main(void) {
    ssmq_log_setup(SSMQ_LOG_ERROR, 0, 1);
#define CASE(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        CASE(line_form),           CASE(torn_tails), CASE(bit_flips),     CASE(get_reads_back),
        CASE(replay_merges_ranks), CASE(full_disk),  CASE(second_writer), CASE(refuses),
        CASE(replay_of_many),
    };
#undef CASE
    return cmocka_run_group_tests(tests, NULL, NULL);
}
