/* SPDX-License-Identifier: Apache-2.0 */
/* Reads the journals of a run folder: one pass over each file that checks every line's checksum and
 * folds its head and place into its trial's entry. Records are read later, one at a time. */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "journal/journal.h"
#include "journal/line.h"

enum {
    MAX_FILES = 1000000,
    MAX_ENTRIES = 1 << 28,
    FIRST_SLOTS = 1024,
    EVENTS = 128,
    MAX_THREADS = 3,
    MAX_RANK_DIGITS = 9
};

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

ssmq_status ssmq_journal_list(char (**names)[SSMQ_JOURNAL_NAME_BYTES], size_t *n,
                              const char *run_dir, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    size_t capacity = 0;
    *names = NULL;
    *n = 0;
    DIR *folder = opendir(run_dir);
    if (folder == NULL) return SSMQ_FAIL(err, IO, "%s: %s", run_dir, strerror(errno));
    for (;;) {
        errno = 0;
        const struct dirent *item = readdir(folder);
        if (item == NULL) break;
        if (rank_digits(item->d_name) == 0) continue;
        SSMQ_TRY_OR(ssmq_grow(names, &capacity, *n + 1, sizeof **names, MAX_FILES, err),
                    close_folder);
        ssmq_field_set((*names)[(*n)++], sizeof **names, item->d_name);
    }
    if (errno != 0) status = SSMQ_FAIL(err, IO, "%s: %s", run_dir, strerror(errno));
close_folder:
    (void)closedir(folder);
    if (*n > 0) qsort(*names, *n, sizeof **names, compare_names);
    if (status != SSMQ_OK) {
        ssmq_free(*names);
        *names = NULL;
        *n = 0;
    }
    return status;
}

int64_t ssmq_journal_number(const char *name) {
    return strtoll(name + sizeof name_head - 1, NULL, 10);
}

/* Slot of the entry with this id, or the free one where it belongs. */
static size_t find_slot(const ssmq_replay *replay, const char *trial_id) {
    size_t slot = ssmq_crc32c(0, trial_id, strlen(trial_id)) & (replay->n_slots - 1);
    while (replay->slots[slot] != 0 &&
           strcmp(replay->entries[replay->slots[slot] - 1].trial_id, trial_id) != 0) {
        slot = (slot + 1) & (replay->n_slots - 1);
    }
    return slot;
}

static ssmq_status grow_slots(ssmq_replay *replay, ssmq_err *err) {
    if (2 * (replay->n_entries + 1) <= replay->n_slots) return SSMQ_OK;
    const size_t n_slots = replay->n_slots > 0 ? 2 * replay->n_slots : FIRST_SLOTS;
    uint32_t *slots = NULL;
    SSMQ_TRY(ssmq_calloc(&slots, n_slots, sizeof *slots, err));
    ssmq_free(replay->slots);
    replay->slots = slots;
    replay->n_slots = n_slots;
    for (size_t i = 0; i < replay->n_entries; i++) {
        slots[find_slot(replay, replay->entries[i].trial_id)] = (uint32_t)i + 1;
    }
    return SSMQ_OK;
}

/* The entry of this id, a new one if it is the first line of it. */
static ssmq_status take_entry(ssmq_journal_entry **out, ssmq_replay *replay, const char *trial_id,
                              ssmq_err *err) {
    SSMQ_TRY(grow_slots(replay, err));
    const size_t slot = find_slot(replay, trial_id);
    if (replay->slots[slot] == 0) {
        SSMQ_TRY(ssmq_grow(&replay->entries, &replay->capacity, replay->n_entries + 1,
                           sizeof *replay->entries, MAX_ENTRIES, err));
        ssmq_journal_entry *entry = &replay->entries[replay->n_entries++];
        *entry = (ssmq_journal_entry){.status = SSMQ_N_STATUSES, .duration_ms = -1};
        ssmq_field_set(entry->trial_id, sizeof entry->trial_id, trial_id);
        replay->slots[slot] = (uint32_t)replay->n_entries;
    }
    *out = &replay->entries[replay->slots[slot] - 1];
    return SSMQ_OK;
}

/* A line's head and place, read and not yet folded. */
typedef struct event {
    journal_line line;
    int32_t file_idx;
    int64_t offset;
    size_t n_bytes;
} event;

/* Of equal attempts the line in a later place counts. */
static bool is_before(const event *e, const ssmq_journal_entry *entry) {
    if (e->line.attempt != entry->attempt) return e->line.attempt < entry->attempt;
    if (e->file_idx != entry->file_idx) return e->file_idx < entry->file_idx;
    return e->offset < entry->offset;
}

/* In whatever order lines come. */
static void fold_line(ssmq_journal_entry *entry, const event *e) {
    const journal_line *line = &e->line;
    const bool had_outcome = entry->status != SSMQ_N_STATUSES;
    entry->n_crashes += line->is_crashed;
    entry->n_started += !line->is_finished && !line->is_crashed;
    if (line->attempt > entry->attempts) entry->attempts = line->attempt;
    /* A damaged started line leaves the attempt's number as the better witness. */
    if (entry->n_started > entry->attempts) entry->attempts = entry->n_started;
    if (had_outcome && !line->is_finished) return;
    if (had_outcome == line->is_finished && is_before(e, entry)) return;
    entry->attempt = line->attempt;
    entry->status = line->status;
    entry->duration_ms = line->duration_ms;
    entry->file_idx = e->file_idx;
    entry->offset = e->offset;
    entry->n_bytes = (int64_t)e->n_bytes;
}

/* What the threads share. */
typedef struct replayer {
    ssmq_replay *replay;
    const char *run_dir;
    pthread_mutex_t mutex; /* of all but run_dir and the names of files */
    size_t next_file;
    size_t failed_file; /* the first one of those that failed; else n_files */
    ssmq_status status; /* its */
    ssmq_err err;
} replayer;

/* Lines of one file, some at a time. */
typedef struct file_events {
    replayer *shared;
    event events[EVENTS];
    size_t n;
    int64_t n_bad_lines;
} file_events;

static ssmq_status fold_events(file_events *f, ssmq_err *err) {
    ssmq_replay *replay = f->shared->replay;
    ssmq_status status = SSMQ_OK;
    (void)pthread_mutex_lock(&f->shared->mutex);
    replay->n_bad_lines += f->n_bad_lines;
    for (size_t i = 0; i < f->n && status == SSMQ_OK; i++) {
        ssmq_journal_entry *entry = NULL;
        status = take_entry(&entry, replay, f->events[i].line.trial_id, err);
        if (status == SSMQ_OK) fold_line(entry, &f->events[i]);
    }
    (void)pthread_mutex_unlock(&f->shared->mutex);
    f->n = 0;
    f->n_bad_lines = 0;
    return status;
}

static ssmq_status read_lines(file_events *f, journal_reader *reader, size_t file_idx,
                              ssmq_err *err) {
    for (;;) {
        const char *text = NULL;
        event *e = &f->events[f->n];
        *e = (event){.file_idx = (int32_t)file_idx};
        SSMQ_TRY(journal_reader_next(reader, &text, &e->n_bytes, &e->offset, err));
        if (text == NULL) return fold_events(f, err);
        if (!journal_line_parse(&e->line, text, e->n_bytes)) {
            f->n_bad_lines++;
            continue;
        }
        if (e->line.version != SSMQ_SCHEMA_VERSION) {
            return SSMQ_FAIL(err, CONFIG, "%s: written in version %lld, this program has %d",
                             reader->path, (long long)e->line.version, SSMQ_SCHEMA_VERSION);
        }
        if (++f->n == EVENTS) SSMQ_TRY(fold_events(f, err));
    }
}

static ssmq_status read_file(replayer *shared, size_t file_idx, ssmq_err *err) {
    char path[SSMQ_PATH_BYTES];
    int fd = -1;
    journal_reader reader;
    file_events f = {.shared = shared};
    SSMQ_TRY(ssmq_path_join(path, shared->run_dir, shared->replay->files[file_idx], err));
    SSMQ_TRY(journal_open(&fd, path, err));
    journal_reader_init(&reader, fd, path);
    const ssmq_status status = read_lines(&f, &reader, file_idx, err);
    journal_reader_free(&reader);
    (void)close(fd);
    return status;
}

/* Reads files that no thread has taken yet, in their order, until one of them has failed. */
static void *read_files(void *context) {
    replayer *shared = context;
    for (;;) {
        ssmq_err err = {0};
        (void)pthread_mutex_lock(&shared->mutex);
        const size_t file_idx = shared->next_file;
        const bool is_over = file_idx == shared->replay->n_files || shared->status != SSMQ_OK;
        shared->next_file += !is_over;
        (void)pthread_mutex_unlock(&shared->mutex);
        if (is_over) return NULL;
        const ssmq_status status = read_file(shared, file_idx, &err);
        if (status == SSMQ_OK) continue;
        (void)pthread_mutex_lock(&shared->mutex);
        if (file_idx < shared->failed_file) {
            shared->failed_file = file_idx;
            shared->status = status;
            shared->err = err;
        }
        (void)pthread_mutex_unlock(&shared->mutex);
    }
}

/* By this thread and others: checksums of many large files, maybe on a file system far away. */
static ssmq_status read_all(ssmq_replay *replay, const char *run_dir, ssmq_err *err) {
    replayer shared = {.replay = replay, .run_dir = run_dir, .failed_file = replay->n_files};
    pthread_t threads[MAX_THREADS];
    int n_threads = 0;
    (void)pthread_mutex_init(&shared.mutex, NULL);
    while (n_threads < MAX_THREADS && (size_t)n_threads + 1 < replay->n_files &&
           pthread_create(&threads[n_threads], NULL, read_files, &shared) == 0) {
        n_threads++;
    }
    (void)read_files(&shared);
    for (int i = 0; i < n_threads; i++) (void)pthread_join(threads[i], NULL);
    (void)pthread_mutex_destroy(&shared.mutex);
    if (shared.status != SSMQ_OK) *err = shared.err;
    return shared.status;
}

ssmq_status ssmq_replay_init(ssmq_replay *out, const char *run_dir, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    memset(out, 0, sizeof *out);
    SSMQ_TRY_OR(ssmq_journal_list(&out->files, &out->n_files, run_dir, err), free_replay);
    SSMQ_TRY_OR(read_all(out, run_dir, err), free_replay);
    return SSMQ_OK;
free_replay:
    ssmq_replay_free(out);
    return status;
}

void ssmq_replay_free(ssmq_replay *replay) {
    ssmq_free(replay->entries);
    ssmq_free(replay->slots);
    ssmq_free(replay->files);
    memset(replay, 0, sizeof *replay);
}

const ssmq_journal_entry *ssmq_replay_find(const ssmq_replay *replay, const char *trial_id) {
    if (replay->n_slots == 0) return NULL;
    const size_t slot = find_slot(replay, trial_id);
    return replay->slots[slot] > 0 ? &replay->entries[replay->slots[slot] - 1] : NULL;
}
