/* SPDX-License-Identifier: Apache-2.0 */
#include "journal/line.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/mem.h"

/* The end of a line: ,"crc":"xxxxxxxx"} and a line feed. */
static const char crc_head[] = ",\"crc\":\"";
static const char crc_tail[] = "\"}\n";
enum { CRC_DIGITS = 8, END_BYTES = sizeof crc_head - 1 + CRC_DIGITS + sizeof crc_tail - 1 };

/* Twice the longest line without samples, so that nearly every file is read in whole blocks. */
enum { BLOCK_BYTES = 1 << 20 };

static bool is_id_character(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' ||
           c == '_' || c == '-';
}

bool journal_id_is_valid(const char *trial_id) {
    size_t length = 0;
    while (length < JOURNAL_ID_BYTES && is_id_character(trial_id[length])) length++;
    return length > 0 && length < JOURNAL_ID_BYTES && trial_id[length] == '\0';
}

static ssmq_status begin_line(ssmq_str *out, const char *event, const char *trial_id,
                              int64_t attempt, ssmq_err *err) {
    if (!journal_id_is_valid(trial_id)) {
        return SSMQ_FAIL(err, INTERNAL, "journal: not a trial id: '%.80s'", trial_id);
    }
    if (attempt < 0) {
        return SSMQ_FAIL(err, INTERNAL, "journal: attempt %" PRId64 " of trial %s", attempt,
                         trial_id);
    }
    ssmq_str_clear(out);
    ssmq_str_addf(out, "{\"v\":%d,\"event\":\"%s\",\"trial_id\":\"%s\",\"attempt\":%" PRId64,
                  SSMQ_SCHEMA_VERSION, event, trial_id, attempt);
    return SSMQ_OK;
}

static ssmq_status end_line(ssmq_str *out, ssmq_err *err) {
    uint32_t crc = ssmq_crc32c(0, ssmq_str_get(out), out->n_bytes);
    ssmq_str_addf(out, "%s%08" PRIx32 "%s", crc_head, crc, crc_tail);
    return ssmq_str_check(out, "line of the journal", err);
}

ssmq_status journal_line_started(ssmq_str *out, const char *trial_id, int64_t attempt,
                                 ssmq_err *err) {
    SSMQ_TRY(begin_line(out, "started", trial_id, attempt, err));
    return end_line(out, err);
}

ssmq_status journal_line_crashed(ssmq_str *out, const char *trial_id, int64_t attempt,
                                 ssmq_err *err) {
    SSMQ_TRY(begin_line(out, "crashed", trial_id, attempt, err));
    return end_line(out, err);
}

ssmq_status journal_line_finished(ssmq_str *out, const ssmq_record *record,
                                  const ssmq_samples *samples, ssmq_err *err) {
    static const ssmq_samples no_samples;
    ssmq_status outcome = SSMQ_OK;
    /* An attempt nobody counted is the first. */
    int64_t attempt = record->attempt < 0 ? 1 : record->attempt;
    double duration_ms = record->runtime_s * 1e3;
    bool is_known = duration_ms >= 0.0 && duration_ms < 1e15;
    SSMQ_TRY(begin_line(out, "finished", record->trial_id, attempt, err));
    if (!ssmq_status_from_name(record->status, &outcome)) {
        return SSMQ_FAIL(err, INTERNAL, "journal: trial %s has no status: '%.16s'",
                         record->trial_id, record->status);
    }
    ssmq_str_addf(out, ",\"status\":\"%s\",\"duration_ms\":%" PRId64 ",\"record\":",
                  ssmq_status_name(outcome), is_known ? (int64_t)llround(duration_ms) : -1);
    ssmq_record_add_json(record, out);
    ssmq_str_add(out, ",\"samples\":", 11);
    ssmq_samples_add_json(samples != NULL ? samples : &no_samples, out);
    return end_line(out, err);
}

static bool crc_is_right(const char *line, size_t n_bytes) {
    if (n_bytes <= END_BYTES) return false;
    const char *end = line + n_bytes - END_BYTES;
    const char *digits = end + sizeof crc_head - 1;
    if (memcmp(end, crc_head, sizeof crc_head - 1) != 0) return false;
    if (memcmp(digits + CRC_DIGITS, crc_tail, sizeof crc_tail - 1) != 0) return false;
    uint32_t written = 0;
    for (int i = 0; i < CRC_DIGITS; i++) {
        char c = digits[i];
        if ((c < '0' || c > '9') && (c < 'a' || c > 'f')) return false;
        written = written << 4 | (uint32_t)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    return written == ssmq_crc32c(0, line, n_bytes - END_BYTES);
}

/* The rest of a line's head under reading. */
typedef struct cursor {
    const char *p;
    const char *end;
} cursor;

static bool skip(cursor *at, const char *literal) {
    size_t length = strlen(literal);
    if ((size_t)(at->end - at->p) < length || memcmp(at->p, literal, length) != 0) return false;
    at->p += length;
    return true;
}

/* Decimal digits, with a sign if one is there; at most 18 of them. */
static bool read_i64(cursor *at, int64_t *out) {
    bool is_negative = skip(at, "-");
    const char *first = at->p;
    int64_t value = 0;
    while (at->p < at->end && *at->p >= '0' && *at->p <= '9' && at->p - first < 18) {
        value = value * 10 + (*at->p++ - '0');
    }
    *out = is_negative ? -value : value;
    return at->p > first;
}

/* Id characters up to a quote, which is skipped as well. */
static bool read_word(cursor *at, char *out, size_t out_bytes) {
    size_t length = 0;
    memset(out, 0, out_bytes);
    while (at->p < at->end && is_id_character(*at->p) && length + 1 < out_bytes) {
        out[length++] = *at->p++;
    }
    return length > 0 && skip(at, "\"");
}

bool journal_line_parse(journal_line *out, const char *line, size_t n_bytes) {
    memset(out, 0, sizeof *out);
    if (!crc_is_right(line, n_bytes)) return false;
    cursor at = {line, line + n_bytes - END_BYTES};
    char word[16];
    out->body_end = n_bytes - END_BYTES;
    if (!skip(&at, "{\"v\":") || !read_i64(&at, &out->version) || !skip(&at, ",")) return false;
    if (out->version != SSMQ_SCHEMA_VERSION) return true;
    if (!skip(&at, "\"event\":\"") || !read_word(&at, word, sizeof word)) return false;
    out->is_finished = strcmp(word, "finished") == 0;
    out->is_crashed = strcmp(word, "crashed") == 0;
    bool is_known = out->is_finished || out->is_crashed || strcmp(word, "started") == 0;
    if (!is_known) return false;
    if (!skip(&at, ",\"trial_id\":\"")) return false;
    if (!read_word(&at, out->trial_id, sizeof out->trial_id)) return false;
    if (!skip(&at, ",\"attempt\":") || !read_i64(&at, &out->attempt)) return false;
    if (!out->is_finished) {
        out->status = SSMQ_N_STATUSES;
        out->duration_ms = -1;
        return at.p == at.end;
    }
    if (!skip(&at, ",\"status\":\"") || !read_word(&at, word, sizeof word)) return false;
    if (!ssmq_status_from_name(word, &out->status)) return false;
    if (!skip(&at, ",\"duration_ms\":") || !read_i64(&at, &out->duration_ms)) return false;
    if (!skip(&at, ",\"record\":{")) return false;
    out->record_begin = (size_t)(at.p - line) - 1;
    return true;
}

ssmq_status journal_open(int *fd, const char *path, ssmq_err *err) {
    struct stat info;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0) return SSMQ_FAIL(err, IO, "%s: %s", path, strerror(errno));
    if (fstat(*fd, &info) == 0 && S_ISREG(info.st_mode)) return SSMQ_OK;
    (void)close(*fd);
    return SSMQ_FAIL(err, IO, "%s: not a regular file", path);
}

void journal_reader_init(journal_reader *reader, int fd, const char *path) {
    memset(reader, 0, sizeof *reader);
    reader->fd = fd;
    reader->path = path;
}

void journal_reader_free(journal_reader *reader) {
    ssmq_free(reader->buffer);
    memset(reader, 0, sizeof *reader);
    reader->fd = -1;
}

/* More of the file behind what is in the buffer. */
static ssmq_status fill(journal_reader *reader, ssmq_err *err) {
    size_t kept = reader->end - reader->begin;
    if (reader->begin > 0 && kept > 0) {
        memmove(reader->buffer, reader->buffer + reader->begin, kept);
    }
    reader->begin = 0;
    reader->end = kept;
    size_t wanted = kept < BLOCK_BYTES / 2 ? BLOCK_BYTES : 2 * kept;
    SSMQ_TRY(ssmq_grow(&reader->buffer, &reader->capacity, wanted, 1, SIZE_MAX / 2, err));
    ssize_t part = 0;
    do {
        part = pread(reader->fd, reader->buffer + kept, reader->capacity - kept,
                     (off_t)(reader->offset + (int64_t)kept));
    } while (part < 0 && errno == EINTR);
    if (part < 0) {
        return SSMQ_FAIL(err, IO, "%s: cannot read: %s", reader->path, strerror(errno));
    }
    reader->is_at_end = part == 0;
    reader->end += (size_t)part;
    return SSMQ_OK;
}

ssmq_status journal_reader_next(journal_reader *reader, const char **line, size_t *n_bytes,
                                int64_t *offset, ssmq_err *err) {
    size_t length = 0;
    *line = NULL;
    while (length == 0) {
        size_t held = reader->end - reader->begin;
        const char *from = reader->buffer + reader->begin + reader->searched;
        const char *feed =
            held > reader->searched ? memchr(from, '\n', held - reader->searched) : NULL;
        if (feed != NULL) {
            length = (size_t)(feed - (reader->buffer + reader->begin)) + 1;
        } else if (reader->is_at_end) {
            length = held;
            break;
        } else {
            reader->searched = held;
            SSMQ_TRY(fill(reader, err));
        }
    }
    if (length == 0) return SSMQ_OK;
    *line = reader->buffer + reader->begin;
    *n_bytes = length;
    *offset = reader->offset;
    reader->begin += length;
    reader->offset += (int64_t)length;
    reader->searched = 0;
    return SSMQ_OK;
}
