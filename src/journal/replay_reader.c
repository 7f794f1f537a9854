/* SPDX-License-Identifier: Apache-2.0 */
/* Records out of journals, one line at a time. A line's checksum is looked at again, as the file
 * may have changed since it was replayed. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "journal/journal.h"
#include "journal/line.h"
#include "json/json.h"

/* Trials of neighbouring places in a plan lie in the files of all ranks that ran at the time. */
enum { N_SLOTS = 256 };

typedef struct open_file {
    int fd; /* -1: none */
    int32_t file_idx;
} open_file;

struct ssmq_replay_reader {
    const ssmq_replay *replay;
    char run_dir[SSMQ_PATH_BYTES];
    open_file slots[N_SLOTS]; /* of files by their index modulo N_SLOTS */
    char *line;
    size_t capacity;
    ssmq_str json;
};

ssmq_status ssmq_replay_reader_open(ssmq_replay_reader **out, const ssmq_replay *replay,
                                    const char *run_dir, ssmq_err *err) {
    *out = NULL;
    if (strlen(run_dir) >= SSMQ_PATH_BYTES) {
        return SSMQ_FAIL(err, CONFIG, "%.200s...: path is too long", run_dir);
    }
    SSMQ_TRY(ssmq_calloc(out, 1, sizeof **out, err));
    (*out)->replay = replay;
    ssmq_field_set((*out)->run_dir, sizeof(*out)->run_dir, run_dir);
    for (int i = 0; i < N_SLOTS; i++) (*out)->slots[i].fd = -1;
    ssmq_str_init(&(*out)->json, JOURNAL_MAX_LINE_BYTES);
    return SSMQ_OK;
}

void ssmq_replay_reader_close(ssmq_replay_reader *reader) {
    if (reader == NULL) return;
    for (int i = 0; i < N_SLOTS; i++) {
        if (reader->slots[i].fd >= 0) (void)close(reader->slots[i].fd);
    }
    ssmq_free(reader->line);
    ssmq_str_free(&reader->json);
    ssmq_free(reader);
}

static ssmq_status find_file(int *fd, ssmq_replay_reader *reader, const char *path,
                             int32_t file_idx, ssmq_err *err) {
    open_file *slot = &reader->slots[file_idx % N_SLOTS];
    if (slot->fd >= 0 && slot->file_idx != file_idx) {
        (void)close(slot->fd);
        slot->fd = -1;
    }
    if (slot->fd < 0) SSMQ_TRY(journal_open(&slot->fd, path, err));
    slot->file_idx = file_idx;
    *fd = slot->fd;
    return SSMQ_OK;
}

/* The entry's line into reader->line, checked. */
static ssmq_status read_line(journal_line *head, ssmq_replay_reader *reader, const char *path,
                             const ssmq_journal_entry *entry, ssmq_err *err) {
    const size_t n_bytes = (size_t)entry->n_bytes;
    int fd = -1;
    SSMQ_TRY(find_file(&fd, reader, path, entry->file_idx, err));
    SSMQ_TRY(ssmq_grow(&reader->line, &reader->capacity, n_bytes, 1, SIZE_MAX / 2, err));
    for (size_t done = 0; done < n_bytes;) {
        ssize_t part =
            pread(fd, reader->line + done, n_bytes - done, (off_t)(entry->offset + (int64_t)done));
        if (part < 0 && errno == EINTR) continue;
        if (part <= 0) {
            return SSMQ_FAIL(err, IO, "%s: cannot read: %s", path,
                             part < 0 ? strerror(errno) : "got shorter");
        }
        done += (size_t)part;
    }
    if (!journal_line_parse(head, reader->line, n_bytes) || !head->is_finished ||
        strcmp(head->trial_id, entry->trial_id) != 0) {
        return SSMQ_FAIL(err, CONFIG, "%s: the line at byte %lld is damaged", path,
                         (long long)entry->offset);
    }
    return SSMQ_OK;
}

/* False if the line has another form than this program gives it; it may be valid all the same. */
static bool read_own_form(ssmq_replay_reader *reader, const journal_line *head, ssmq_record *record,
                          ssmq_samples *samples) {
    static const char between[] = ",\"samples\":";
    const char *at = reader->line + head->record_begin;
    const char *end = reader->line + head->body_end;
    const size_t n_record = ssmq_record_from_text(record, at, (size_t)(end - at));
    ssmq_str_clear(&reader->json);
    ssmq_str_add(&reader->json, at, n_record);
    at += n_record;
    if (n_record == 0 || (size_t)(end - at) < sizeof between - 1 ||
        memcmp(at, between, sizeof between - 1) != 0) {
        return false;
    }
    at += sizeof between - 1;
    const size_t n_samples = ssmq_samples_from_text(samples, at, (size_t)(end - at));
    if (n_samples > 0 && at + n_samples == end) return true;
    ssmq_samples_free(samples);
    return false;
}

static ssmq_status read_json(ssmq_replay_reader *reader, const ssmq_journal_entry *entry,
                             const char *path, ssmq_record *record, ssmq_samples *samples,
                             ssmq_err *err) {
    char name[SSMQ_PATH_BYTES + 32];
    ssmq_status status = SSMQ_OK;
    ssmq_json *document = NULL;
    const ssmq_json *member = NULL;
    (void)snprintf(name, sizeof name, "%s at byte %lld", path, (long long)entry->offset);
    SSMQ_TRY(ssmq_json_parse(&document, reader->line, (size_t)entry->n_bytes, name, err));
    (void)ssmq_json_get(document, "record", &member);
    SSMQ_TRY_OR(ssmq_record_from_json(record, member, err), free_document);
    if (ssmq_json_get(document, "samples", &member)) {
        SSMQ_TRY_OR(ssmq_samples_from_json(samples, member, err), free_document);
    }
    ssmq_str_clear(&reader->json);
    ssmq_record_add_json(record, &reader->json);
free_document:
    ssmq_json_free(document);
    return status;
}

ssmq_status ssmq_replay_reader_get(ssmq_replay_reader *reader, const ssmq_journal_entry *entry,
                                   ssmq_record *record, ssmq_samples *samples,
                                   const ssmq_str **record_json, ssmq_err *err) {
    char path[SSMQ_PATH_BYTES];
    journal_line head = {0};
    memset(samples, 0, sizeof *samples);
    SSMQ_CHECK(entry->status != SSMQ_N_STATUSES, err);
    SSMQ_CHECK((size_t)entry->file_idx < reader->replay->n_files, err);
    SSMQ_TRY(ssmq_path_join(path, reader->run_dir, reader->replay->files[entry->file_idx], err));
    SSMQ_TRY(read_line(&head, reader, path, entry, err));
    if (!read_own_form(reader, &head, record, samples)) {
        SSMQ_TRY(read_json(reader, entry, path, record, samples, err));
    }
    ssmq_status status = ssmq_str_check(&reader->json, path, err);
    if (status == SSMQ_OK && strcmp(record->trial_id, entry->trial_id) != 0) {
        status = SSMQ_FAIL(err, CONFIG, "%s at byte %lld: record and line name different trials",
                           path, (long long)entry->offset);
    }
    if (status != SSMQ_OK) ssmq_samples_free(samples);
    if (record_json != NULL) *record_json = &reader->json;
    return status;
}
