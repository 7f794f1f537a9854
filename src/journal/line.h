/* SPDX-License-Identifier: Apache-2.0 */
/* journal/line.h - one line of a journal: its form and how a file is read line by line. Internal to
 * journal/; the format is specified at the top of journal.c. */
#ifndef SSMQ_JOURNAL_LINE_H
#define SSMQ_JOURNAL_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "base/str.h"
#include "record/record.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A trial with every series at its longest needs 13 * 2^20 numbers of at most 26 bytes. */
enum { JOURNAL_MAX_LINE_BYTES = 512 * 1024 * 1024, JOURNAL_ID_BYTES = 72 };

/* What stands before the record. */
typedef struct journal_line {
    int64_t version;
    bool is_finished;
    bool is_crashed;
    char trial_id[JOURNAL_ID_BYTES];
    int64_t attempt;
    ssmq_status status;  /* of the trial; finished lines only */
    int64_t duration_ms; /* -1 unknown; finished lines only */
    size_t record_begin; /* place of the record's brace; finished lines only */
    size_t body_end;     /* place of the comma in front of the checksum */
} journal_line;

/* True for 1 to 71 letters, digits and ._-  */
bool journal_id_is_valid(const char *trial_id);

/* Each replaces out by a whole line with its checksum and line feed.
 * Fails: INTERNAL (trial_id or status has no valid form), NOMEM, CONFIG (too long). */
SSMQ_MUST_USE ssmq_status journal_line_started(ssmq_str *out, const char *trial_id, int64_t attempt,
                                               ssmq_err *err);
SSMQ_MUST_USE ssmq_status journal_line_crashed(ssmq_str *out, const char *trial_id, int64_t attempt,
                                               ssmq_err *err);
SSMQ_MUST_USE ssmq_status journal_line_finished(ssmq_str *out, const ssmq_record *record,
                                                const ssmq_samples *samples, ssmq_err *err);

/* Checks a line, its line feed included, and reads its head. False if the line is damaged. A valid
 * line of another version yields true with nothing but version filled. */
bool journal_line_parse(journal_line *out, const char *line, size_t n_bytes);

/* Opens a journal for reading.  Owns: *fd, close().  Fails: IO. */
SSMQ_MUST_USE ssmq_status journal_open(int *fd, const char *path, ssmq_err *err);

/* Reads the lines of an open file from its beginning, through one growing buffer. */
typedef struct journal_reader {
    int fd;           /* borrowed */
    const char *path; /* for messages */
    char *buffer;
    size_t capacity;
    size_t begin, end; /* of what is in the buffer and not yet given out */
    size_t searched;   /* bytes after begin known to hold no line feed */
    int64_t offset;    /* in the file, of begin */
    bool is_at_end;
} journal_reader;

void journal_reader_init(journal_reader *reader, int fd, const char *path);
void journal_reader_free(journal_reader *reader);
/* The next line with its line feed, valid until the next call; *line is NULL at the end of the
 * file. *offset is its place in the file. The last line may lack its line feed.
 * Fails: IO, NOMEM. */
SSMQ_MUST_USE ssmq_status journal_reader_next(journal_reader *reader, const char **line,
                                              size_t *n_bytes, int64_t *offset, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
