/* SPDX-License-Identifier: Apache-2.0 */
/* The journal of a run, and the writer of one rank's file.
 *
 * FILES
 *   A run folder holds one file for each rank that ever wrote in it:
 *     journal.<rank>.jsonl   the journal; <rank> is 1 to 9 decimal digits
 *     journal.<rank>.torn    what was cut off the end of that journal, never read again
 *   Everything else in the folder (results.h5, metrics.jsonl, plots) can be built again from the
 *   journals. Files of other names, such as journal.0.jsonl.bak, are not journals.
 *
 * LINES
 *   A journal is a sequence of lines. A line is one JSON object (RFC 8259, UTF-8) without line
 *   feeds inside, ended by one line feed (0x0A). Members come in the order below with no white
 *   space before "record", so that a reader that only wants to know what is done reads the head of
 *   the line and no JSON.
 *
 *   member         in        value
 *   "v"            all       integer: version of this format and of the field table
 *                            (SSMQ_SCHEMA_VERSION)
 *   "event"        all       "started": the rank begins the trial; "finished": its outcome;
 *                            "crashed": the trial raised a fatal signal, written by its handler
 *   "trial_id"     all       1 to 71 characters out of A-Z a-z 0-9 . _ -
 *   "attempt"      all       integer: 1 for the first try of this trial
 *   "status"       finished  name of an outcome: "ok", "oom", ... (base/status.h)
 *   "duration_ms"  finished  integer: wall time of the trial, -1 unknown
 *   "record"       finished  object: every field of record/record_fields.h; null for -1 and NaN
 *   "samples"      finished  object: arrays of numbers or null, by name of the series
 *   "crc"          all       8 lower-case hexadecimal digits, see below
 *
 *   {"v":1,"event":"started","trial_id":"6f2c...","attempt":1,"crc":"0b5d9a3c"}
 *   {"v":1,"event":"finished","trial_id":"6f2c...","attempt":1,"status":"ok","duration_ms":4210,
 *    "record":{"run_id": ...},"samples":{"nll_window": [3.4, ...]},"crc":"c1d20f77"}
 *   (the second is one line in the file)
 *
 * CHECKSUM
 *   CRC-32C (Castagnoli polynomial, reflected, initial value and final inversion all ones; RFC
 *   3720, appendix B.4) of the bytes of the line from its '{' up to, not including, the comma in
 *   front of "crc". The last 19 bytes of a line, counting the line feed, are therefore
 *       ,"crc":"xxxxxxxx"}\n
 *
 * VALIDITY
 *   A line is valid if and only if
 *     1. it ends with a line feed, and its last 19 bytes have the form above;
 *     2. the checksum is that of the bytes before it;
 *     3. "v" is the first member;
 *     4. if "v" is the reader's version: the members up to "duration_ms" are as in the table.
 *   Nothing is concluded from an invalid line. A valid line of another version stops the reader: it
 *   cannot know what such a line says.
 *
 * WRITING
 *   One process writes a file, by appending. A line is one write(2), followed by fdatasync(2);
 *   only then does the trial count as begun or finished. Before the engine is touched there is a
 *   "started" line, so that a trial that kills its process leaves a trace.
 *   If the write fails, what arrived of it is cut off with ftruncate(2), and the line may be tried
 *   again. If that or the sync fails, the state of the file on the disk is unknown (after a failed
 *   fsync the kernel may have dropped the data), and this writer refuses all further lines.
 *
 * OPENING
 *   The file is read from its start. Everything after the last valid line is the invalid tail: the
 *   rest of a write that a crash or a full disk cut short. It is appended to journal.<rank>.torn
 *   and synced, then cut off and synced. Invalid lines with a valid one after them stay where they
 *   are; readers pass over and count them.
 *
 * READING (replay.c)
 *   All journals of a folder are read, ranks in ascending order. What counts for a trial is its
 *   last finished line in order of (attempt, file, offset). A trial with started lines and no
 *   finished one was in flight when its process ended; its crashed lines, if any, say that it was
 *   the reason. A process killed from outside (job limit, memory limit) leaves none.
 *
 * WHAT THIS RELIES ON
 *   Appends by one writer to a file of its own, ftruncate, fdatasync, and fsync of the folder after
 *   the file is created. Not on mmap, nor on appends by several hosts to one file (not atomic on
 *   NFS), nor on rename. Locks are a second line of defence against a second writer: flock(2) is
 *   taken if the file system has it (it need not, on Lustre or NFS), and before each line the
 *   file must have the length and be at the name that this writer left it with. */
#include "journal/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "journal/line.h"

struct ssmq_journal {
    int fd;
    bool is_broken;  /* an earlier failure left the file in an unknown state */
    int64_t n_bytes; /* of whole lines */
    ssmq_str line;
    ssmq_str crash_line; /* empty while no trial is in flight */
    char path[SSMQ_PATH_BYTES];
};

enum { FILE_MODE = 0666, COPY_BYTES = 1 << 16, CRASH_LINE_BYTES = 512 };

/* Nothing but another writer's lock is a reason to stop. */
static ssmq_status lock_file(int fd, const char *path, ssmq_err *err) {
    if (flock(fd, LOCK_EX | LOCK_NB) == 0) return SSMQ_OK;
    if (errno == EWOULDBLOCK) {
        return SSMQ_FAIL(err, IO, "%s: another process is writing this journal", path);
    }
    return SSMQ_OK;
}

/* End of the last valid line, and of the file. */
static ssmq_status find_valid_end(int fd, const char *path, int64_t *valid_end, int64_t *end,
                                  ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    journal_reader reader;
    const char *text = NULL;
    size_t n_bytes = 0;
    int64_t offset = 0;
    *valid_end = 0;
    *end = 0;
    journal_reader_init(&reader, fd, path);
    for (;;) {
        journal_line line;
        SSMQ_TRY_OR(journal_reader_next(&reader, &text, &n_bytes, &offset, err), free_reader);
        if (text == NULL) break;
        *end = offset + (int64_t)n_bytes;
        if (!journal_line_parse(&line, text, n_bytes)) continue;
        if (line.version != SSMQ_SCHEMA_VERSION) {
            status = SSMQ_FAIL(err, CONFIG, "%s: written in version %lld, this program has %d",
                               path, (long long)line.version, SSMQ_SCHEMA_VERSION);
            break;
        }
        *valid_end = *end;
    }
free_reader:
    journal_reader_free(&reader);
    return status;
}

/* Bytes [begin, end) of fd to the end of torn_path, durably. */
static ssmq_status copy_tail(int fd, const char *path, const char *torn_path, int64_t begin,
                             int64_t end, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    char buffer[COPY_BYTES];
    int torn_fd = open(torn_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, FILE_MODE);
    if (torn_fd < 0) return SSMQ_FAIL(err, IO, "%s: %s", torn_path, strerror(errno));
    while (begin < end) {
        size_t wanted =
            end - begin < (int64_t)sizeof buffer ? (size_t)(end - begin) : sizeof buffer;
        ssize_t part = pread(fd, buffer, wanted, (off_t)begin);
        if (part < 0 && errno == EINTR) continue;
        if (part <= 0) {
            status = SSMQ_FAIL(err, IO, "%s: cannot read: %s", path,
                               part < 0 ? strerror(errno) : "got shorter");
            goto close_torn;
        }
        SSMQ_TRY_OR(ssmq_fd_write(torn_fd, buffer, (size_t)part, torn_path, err), close_torn);
        begin += part;
    }
    if (fsync(torn_fd) != 0) {
        status = SSMQ_FAIL(err, IO, "%s: cannot sync: %s", torn_path, strerror(errno));
    }
close_torn:
    if (close(torn_fd) != 0 && status == SSMQ_OK) {
        status = SSMQ_FAIL(err, IO, "%s: cannot close: %s", torn_path, strerror(errno));
    }
    return status;
}

static ssmq_status cut_invalid_tail(ssmq_journal *journal, const char *run_dir, int rank,
                                    ssmq_err *err) {
    int64_t end = 0;
    char name[64];
    char torn_path[SSMQ_PATH_BYTES];
    SSMQ_TRY(find_valid_end(journal->fd, journal->path, &journal->n_bytes, &end, err));
    if (end == journal->n_bytes) return SSMQ_OK;
    (void)snprintf(name, sizeof name, "journal.%d.torn", rank);
    SSMQ_TRY(ssmq_path_join(torn_path, run_dir, name, err));
    SSMQ_TRY(copy_tail(journal->fd, journal->path, torn_path, journal->n_bytes, end, err));
    if (ftruncate(journal->fd, (off_t)journal->n_bytes) != 0 || fdatasync(journal->fd) != 0) {
        return SSMQ_FAIL(err, IO, "%s: cannot cut off its invalid tail: %s", journal->path,
                         strerror(errno));
    }
    ssmq_log(SSMQ_LOG_WARN, "%s: moved %lld bytes of an interrupted write to %s", journal->path,
             (long long)(end - journal->n_bytes), torn_path);
    return SSMQ_OK;
}

ssmq_status ssmq_journal_open(ssmq_journal **out, const char *run_dir, int rank, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    ssmq_journal *journal = NULL;
    struct stat info;
    char name[64];
    *out = NULL;
    SSMQ_TRY(ssmq_calloc(&journal, 1, sizeof *journal, err));
    journal->fd = -1;
    ssmq_str_init(&journal->line, JOURNAL_MAX_LINE_BYTES);
    ssmq_str_init(&journal->crash_line, CRASH_LINE_BYTES);
    (void)snprintf(name, sizeof name, "journal.%d.jsonl", rank);
    SSMQ_TRY_OR(ssmq_path_join(journal->path, run_dir, name, err), close_journal);
    journal->fd =
        open(journal->path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, FILE_MODE);
    if (journal->fd < 0 || fstat(journal->fd, &info) != 0) {
        status = SSMQ_FAIL(err, IO, "%s: cannot open: %s", journal->path, strerror(errno));
        goto close_journal;
    }
    if (!S_ISREG(info.st_mode)) {
        status = SSMQ_FAIL(err, IO, "%s: not a regular file", journal->path);
        goto close_journal;
    }
    SSMQ_TRY_OR(lock_file(journal->fd, journal->path, err), close_journal);
    SSMQ_TRY_OR(cut_invalid_tail(journal, run_dir, rank, err), close_journal);
    SSMQ_TRY_OR(ssmq_folder_sync(journal->path, err), close_journal);
    *out = journal;
    return SSMQ_OK;
close_journal:
    ssmq_journal_close(journal);
    return status;
}

void ssmq_journal_close(ssmq_journal *journal) {
    if (journal == NULL) return;
    if (journal->fd >= 0) (void)close(journal->fd);
    ssmq_str_free(&journal->line);
    ssmq_str_free(&journal->crash_line);
    ssmq_free(journal);
}

/* The file must be as this writer left it. */
static ssmq_status check_alone(const ssmq_journal *journal, ssmq_err *err) {
    struct stat info;
    if (journal->is_broken) {
        return SSMQ_FAIL(err, IO, "%s: an earlier write failed, its state is unknown",
                         journal->path);
    }
    if (fstat(journal->fd, &info) != 0) {
        return SSMQ_FAIL(err, IO, "%s: %s", journal->path, strerror(errno));
    }
    if (info.st_nlink == 0) {
        return SSMQ_FAIL(err, IO, "%s: was deleted while the run was writing it", journal->path);
    }
    if ((int64_t)info.st_size != journal->n_bytes) {
        return SSMQ_FAIL(err, IO, "%s: another process changed this journal", journal->path);
    }
    return SSMQ_OK;
}

static ssmq_status append_line(ssmq_journal *journal, ssmq_err *err) {
    SSMQ_TRY(check_alone(journal, err));
    const ssmq_str *line = &journal->line;
    ssmq_status status = ssmq_fd_write(journal->fd, line->text, line->n_bytes, journal->path, err);
    if (status != SSMQ_OK) {
        journal->is_broken = ftruncate(journal->fd, (off_t)journal->n_bytes) != 0;
        return status;
    }
    if (fdatasync(journal->fd) != 0) {
        int reason = errno;
        journal->is_broken = true;
        /* Best effort: a line that was not acknowledged should not be read back later. */
        if (ftruncate(journal->fd, (off_t)journal->n_bytes) != 0) reason = errno;
        return SSMQ_FAIL(err, IO, "%s: cannot sync: %s", journal->path, strerror(reason));
    }
    journal->n_bytes += (int64_t)line->n_bytes;
    return SSMQ_OK;
}

ssmq_status ssmq_journal_started(ssmq_journal *journal, const char *trial_id, int64_t attempt,
                                 ssmq_err *err) {
    SSMQ_TRY(journal_line_started(&journal->line, trial_id, attempt, err));
    SSMQ_TRY(append_line(journal, err));
    return journal_line_crashed(&journal->crash_line, trial_id, attempt, err);
}

ssmq_status ssmq_journal_finished(ssmq_journal *journal, const ssmq_record *record,
                                  const ssmq_samples *samples, ssmq_err *err) {
    SSMQ_TRY(journal_line_finished(&journal->line, record, samples, err));
    SSMQ_TRY(append_line(journal, err));
    ssmq_str_clear(&journal->crash_line);
    return SSMQ_OK;
}

void ssmq_journal_note_crash(const ssmq_journal *journal) {
    const ssmq_str *line = &journal->crash_line;
    if (line->n_bytes == 0 || journal->is_broken) return;
    ssize_t written = write(journal->fd, line->text, line->n_bytes);
    if (written > 0) (void)fdatasync(journal->fd);
}
