/* SPDX-License-Identifier: Apache-2.0 */
/* journal/journal.h - the truth of a run: append-only lines of JSON with a checksum, one file and
 * one writer a rank. The format is specified at the top of journal.c; HDF5 is derived from it. */
#ifndef SSMQ_JOURNAL_JOURNAL_H
#define SSMQ_JOURNAL_JOURNAL_H

#include "base/status.h"
#include "base/str.h"
#include "record/record.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_journal ssmq_journal;

/* Opens run_dir/journal.<rank>.jsonl for appending, first moving an invalid tail to
 * journal.<rank>.torn.  Owns: *out, ssmq_journal_close().
 * Fails: IO; CONFIG (another schema version). */
SSMQ_MUST_USE ssmq_status ssmq_journal_open(ssmq_journal **out, const char *run_dir, int rank,
                                            ssmq_err *err);
void ssmq_journal_close(ssmq_journal *journal);

/* Each appends one line and returns when it is on stable storage.
 * Fails: IO (disk full, ...): the line then does not count; what was written of it is cut off. */
/* "This rank begins this trial." */
SSMQ_MUST_USE ssmq_status ssmq_journal_started(ssmq_journal *journal, const char *trial_id,
                                               int64_t attempt, ssmq_err *err);
/* "This is its outcome." */
SSMQ_MUST_USE ssmq_status ssmq_journal_finished(ssmq_journal *journal, const ssmq_record *record,
                                                const ssmq_samples *samples, ssmq_err *err);

/* "It took this process down": to be called by the handler of a fatal signal. Appends a line
 * prepared by ssmq_journal_started(), if that trial has not finished; calls nothing that a signal
 * handler may not. A process that is killed from outside says nothing, so that a trial in flight is
 * not blamed for it. */
void ssmq_journal_note_crash(const ssmq_journal *journal);

enum { SSMQ_JOURNAL_NAME_BYTES = 64 };

/* Names of the journals in run_dir, in order of their numbers.  Owns: *names, ssmq_free().
 * Fails: IO, NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_journal_list(char (**names)[SSMQ_JOURNAL_NAME_BYTES], size_t *n,
                                            const char *run_dir, ssmq_err *err);

int64_t ssmq_journal_number(const char *name); /* of a listed name */
/* Bytes of a journal and a terminating zero.  Owns: *out, ssmq_free().  Fails: IO, NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_journal_read(char **out, size_t *n_bytes, const char *run_dir,
                                            const char *name, ssmq_err *err);
/* Keeps a journal that was written elsewhere: journal `number` of `origin`, a host or another run
 * folder, under a number made of both. It replaces an earlier state of the same journal, and
 * nothing else; *is_news if it did. Atomic.  Fails: IO, NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_journal_keep_copy(const char *run_dir, const char *origin,
                                                 int64_t number, const char *bytes, size_t n_bytes,
                                                 bool *is_news, ssmq_err *err);

/* Where a finished line lies, for reading it again. */
typedef struct ssmq_journal_entry {
    char trial_id[72];
    ssmq_status status;  /* of the trial; SSMQ_N_STATUSES for one begun and not finished */
    int64_t attempts;    /* times it was begun */
    int64_t n_started;   /* started lines; fewer than attempts if one was damaged */
    int64_t attempt;     /* of the line that counts */
    int64_t n_crashes;   /* times it took its process down, as that process said itself */
    int64_t duration_ms; /* of the finished attempt, -1 unknown */
    int32_t file_idx;    /* into ssmq_replay.files, of the line that counts */
    int64_t offset;      /* of that line: finished, or the last one of a trial without */
    int64_t n_bytes;
} ssmq_journal_entry;

/* What the journals of a run folder say, whatever ranks wrote them. The last finished line of a
 * trial in order of (attempt, file, offset) counts. Entries come in any order. */
typedef struct ssmq_replay {
    ssmq_journal_entry *entries;
    size_t n_entries;
    size_t capacity;
    uint32_t *slots; /* [n_slots] hash table of ids: index + 1 of an entry, 0 free */
    size_t n_slots;  /* power of two, at least 2 * n_entries */
    char (*files)[SSMQ_JOURNAL_NAME_BYTES];
    size_t n_files;
    int64_t n_bad_lines; /* checksum or form: torn tails, damage */
} ssmq_replay;

/* Reads every journal of run_dir without changing it.  Owns: ssmq_replay_free().
 * Fails: IO; CONFIG (another schema version). */
SSMQ_MUST_USE ssmq_status ssmq_replay_init(ssmq_replay *out, const char *run_dir, ssmq_err *err);
void ssmq_replay_free(ssmq_replay *replay);
/* NULL if the journals do not name it. */
const ssmq_journal_entry *ssmq_replay_find(const ssmq_replay *replay, const char *trial_id);

/* Reads the records of finished entries in any order; some files stay open in between. */
typedef struct ssmq_replay_reader ssmq_replay_reader;
/* replay is borrowed.  Owns: *out, ssmq_replay_reader_close().  Fails: NOMEM, CONFIG. */
SSMQ_MUST_USE ssmq_status ssmq_replay_reader_open(ssmq_replay_reader **out,
                                                  const ssmq_replay *replay, const char *run_dir,
                                                  ssmq_err *err);
void ssmq_replay_reader_close(ssmq_replay_reader *reader); /* NULL is a no-op */
/* *record_json (may be NULL) is the record's text as ssmq_record_add_json() would write it, valid
 * until the next call.  Owns: samples, ssmq_samples_free().  Fails: IO, NOMEM, CONFIG (damaged). */
SSMQ_MUST_USE ssmq_status ssmq_replay_reader_get(ssmq_replay_reader *reader,
                                                 const ssmq_journal_entry *entry,
                                                 ssmq_record *record, ssmq_samples *samples,
                                                 const ssmq_str **record_json, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
