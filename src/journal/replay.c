/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the journals of a run folder: one pass over each file that checks every line's checksum and
 * keeps its head and place, a sort, and a fold to one entry a trial. Records are read later, one at
 * a time. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "journal/journal.h"
#include "journal/line.h"

enum { MAX_FILES = 1000000, MAX_EVENTS = 1 << 28, MAX_RANK_DIGITS = 9 };

static const char name_head[] = "journal.";
static const char name_tail[] = ".jsonl";

/* Number of digits between head and tail of a journal's name; 0 if it is no journal. */
static size_t rank_digits(const char *name) {
    if (strncmp(name, name_head, sizeof name_head - 1) != 0) return 0;
    const char *digits = name + sizeof name_head - 1;
    size_t n = strspn(digits, "0123456789");
    return n <= MAX_RANK_DIGITS && strcmp(digits + n, name_tail) == 0 ? n : 0;
}

/* Numeric order of ranks. */
static int compare_names(const void *a, const void *b) {
    size_t a_digits = rank_digits(a);
    size_t b_digits = rank_digits(b);
    if (a_digits != b_digits) return a_digits < b_digits ? -1 : 1;
    return strcmp(a, b);
}

static ssmq_status list_files(ssmq_replay *replay, const char *run_dir, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    size_t capacity = 0;
    DIR *folder = opendir(run_dir);
    if (folder == NULL) return SSMQ_FAIL(err, IO, "%s: %s", run_dir, strerror(errno));
    for (;;) {
        errno = 0;
        const struct dirent *item = readdir(folder);
        if (item == NULL) break;
        if (rank_digits(item->d_name) == 0) continue;
        SSMQ_TRY_OR(ssmq_grow(&replay->files, &capacity, replay->n_files + 1, sizeof *replay->files,
                              MAX_FILES, err),
                    close_folder);
        ssmq_field_set(replay->files[replay->n_files++], sizeof *replay->files, item->d_name);
    }
    if (errno != 0) status = SSMQ_FAIL(err, IO, "%s: %s", run_dir, strerror(errno));
close_folder:
    (void)closedir(folder);
    if (replay->n_files > 0) {
        qsort(replay->files, replay->n_files, sizeof *replay->files, compare_names);
    }
    return status;
}

static ssmq_status read_file(ssmq_replay *replay, size_t *capacity, const char *run_dir,
                             size_t file_idx, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    char path[SSMQ_PATH_BYTES];
    int fd = -1;
    journal_reader reader;
    SSMQ_TRY(ssmq_path_join(path, run_dir, replay->files[file_idx], err));
    SSMQ_TRY(journal_open(&fd, path, err));
    journal_reader_init(&reader, fd, path);
    for (;;) {
        const char *text = NULL;
        size_t n_bytes = 0;
        int64_t offset = 0;
        journal_line line;
        SSMQ_TRY_OR(journal_reader_next(&reader, &text, &n_bytes, &offset, err), close_file);
        if (text == NULL) break;
        if (!journal_line_parse(&line, text, n_bytes)) {
            replay->n_bad_lines++;
            continue;
        }
        if (line.version != SSMQ_SCHEMA_VERSION) {
            status = SSMQ_FAIL(err, CONFIG, "%s: written in version %lld, this program has %d",
                               path, (long long)line.version, SSMQ_SCHEMA_VERSION);
            goto close_file;
        }
        SSMQ_TRY_OR(ssmq_grow(&replay->entries, capacity, replay->n_entries + 1,
                              sizeof *replay->entries, MAX_EVENTS, err),
                    close_file);
        ssmq_journal_entry *entry = &replay->entries[replay->n_entries++];
        memset(entry, 0, sizeof *entry);
        ssmq_field_set(entry->trial_id, sizeof entry->trial_id, line.trial_id);
        entry->status = line.status;
        entry->attempts = line.attempt;
        entry->n_crashes = line.is_crashed;
        entry->duration_ms = line.duration_ms;
        entry->file_idx = (int32_t)file_idx;
        entry->offset = offset;
        entry->n_bytes = (int64_t)n_bytes;
    }
close_file:
    journal_reader_free(&reader);
    (void)close(fd);
    return status;
}

static int compare_i64(int64_t a, int64_t b) {
    return (a > b) - (a < b);
}

/* Order of (trial, attempt, file, offset). */
static int compare_events(const void *a, const void *b) {
    const ssmq_journal_entry *left = a;
    const ssmq_journal_entry *right = b;
    int order = strcmp(left->trial_id, right->trial_id);
    if (order == 0) order = compare_i64(left->attempts, right->attempts);
    if (order == 0) order = compare_i64(left->file_idx, right->file_idx);
    if (order == 0) order = compare_i64(left->offset, right->offset);
    return order;
}

/* One entry out of the sorted events [first, end) of one trial. */
static ssmq_journal_entry fold_events(const ssmq_journal_entry *first,
                                      const ssmq_journal_entry *end) {
    ssmq_journal_entry out = *first;
    int64_t n_started = 0;
    int64_t n_crashes = 0;
    int64_t last_attempt = 0;
    for (const ssmq_journal_entry *event = first; event < end; event++) {
        bool is_finished = event->status != SSMQ_N_STATUSES;
        n_crashes += event->n_crashes;
        n_started += !is_finished && event->n_crashes == 0;
        if (event->attempts > last_attempt) last_attempt = event->attempts;
        if (is_finished) out = *event;
    }
    /* A damaged started line leaves the attempt's number as the better witness. */
    out.attempts = n_started > last_attempt ? n_started : last_attempt;
    out.n_crashes = n_crashes;
    return out;
}

static void fold(ssmq_replay *replay) {
    ssmq_journal_entry *events = replay->entries;
    size_t n_kept = 0;
    for (size_t i = 0; i < replay->n_entries;) {
        size_t next = i + 1;
        while (next < replay->n_entries && strcmp(events[next].trial_id, events[i].trial_id) == 0) {
            next++;
        }
        events[n_kept++] = fold_events(events + i, events + next);
        i = next;
    }
    replay->n_entries = n_kept;
}

ssmq_status ssmq_replay_init(ssmq_replay *out, const char *run_dir, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    size_t capacity = 0;
    memset(out, 0, sizeof *out);
    SSMQ_TRY_OR(list_files(out, run_dir, err), free_replay);
    for (size_t i = 0; i < out->n_files; i++) {
        SSMQ_TRY_OR(read_file(out, &capacity, run_dir, i, err), free_replay);
    }
    if (out->n_entries > 0) {
        qsort(out->entries, out->n_entries, sizeof *out->entries, compare_events);
    }
    fold(out);
    return SSMQ_OK;
free_replay:
    ssmq_replay_free(out);
    return status;
}

void ssmq_replay_free(ssmq_replay *replay) {
    ssmq_free(replay->entries);
    ssmq_free(replay->files);
    memset(replay, 0, sizeof *replay);
}

const ssmq_journal_entry *ssmq_replay_find(const ssmq_replay *replay, const char *trial_id) {
    size_t low = 0;
    size_t high = replay->n_entries;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(replay->entries[middle].trial_id, trial_id);
        if (order == 0) return &replay->entries[middle];
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return NULL;
}
