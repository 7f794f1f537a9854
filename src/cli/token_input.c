/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/token_input.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"

enum { PART_BYTES = 1 << 16, SHOWN_BYTES = 32 };
static const size_t max_input_bytes = (size_t)1 << 30;
static const size_t max_input_ids = (size_t)1 << 30;

static bool is_stdin(const char *path) {
    return path == NULL || strcmp(path, "-") == 0;
}

const char *ssmq_input_name(const char *path) {
    return is_stdin(path) ? "standard input" : path;
}

static ssmq_status read_all(int fd, ssmq_str *out, const char *name, ssmq_err *err) {
    char part[PART_BYTES];
    for (;;) {
        ssize_t n_read = read(fd, part, sizeof part);
        if (n_read < 0 && errno == EINTR) continue;
        if (n_read < 0) {
            int reason = errno;
            if (reason == EISDIR) {
                return SSMQ_FAIL(err, CONFIG, "%s: %s", name, strerror(reason));
            }
            return SSMQ_FAIL(err, IO, "%s: cannot read: %s", name, strerror(reason));
        }
        if (n_read == 0) return ssmq_str_check(out, name, err);
        ssmq_str_add(out, part, (size_t)n_read);
        SSMQ_TRY(ssmq_str_check(out, name, err));
    }
}

ssmq_status ssmq_input_read(char **out, size_t *n_bytes, const char *path, ssmq_err *err) {
    const char *name = ssmq_input_name(path);
    ssmq_str text;
    *out = NULL;
    *n_bytes = 0;
    int fd = is_stdin(path) ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return SSMQ_FAIL(err, CONFIG, "%s: %s", name, strerror(errno));
    ssmq_str_init(&text, max_input_bytes);
    ssmq_status status = read_all(fd, &text, name, err);
    if (!is_stdin(path)) (void)close(fd);
    if (status == SSMQ_OK) {
        /* The buffer of an empty input does not exist yet. */
        ssmq_str_add(&text, "", 0);
        status = ssmq_str_check(&text, name, err);
    }
    if (status != SSMQ_OK) {
        ssmq_str_free(&text);
        return status;
    }
    *out = text.text;
    *n_bytes = text.n_bytes;
    return SSMQ_OK;
}

ssmq_status ssmq_input_encode(const char *text, size_t n_bytes, const char *name,
                              const ssmq_tokenizer *tokenizer, ssmq_ids *ids, ssmq_err *err) {
    size_t n_valid = ssmq_utf8_valid_prefix(text, n_bytes);
    if (n_valid < n_bytes) {
        return SSMQ_FAIL(err, CONFIG, "%s: not UTF-8 at byte %zu", name, n_valid);
    }
    return ssmq_tokenizer_encode(tokenizer, text, n_bytes, ids, err);
}

static bool is_space(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\v' || c == '\f';
}

/* The word as a message may show it: cut short, control characters and stray bytes replaced. */
static void show_word(char shown[SHOWN_BYTES], const char *word, size_t n_bytes) {
    size_t n = n_bytes < SHOWN_BYTES - 1 ? n_bytes : SHOWN_BYTES - 1;
    for (size_t i = 0; i < n; i++) {
        shown[i] = word[i];
        if (word[i] < 0x20 || word[i] == 0x7F) shown[i] = '?';
    }
    shown[n] = '\0';
}

static bool parse_id(const char *word, size_t n_bytes, int64_t id_bound, int32_t *out) {
    int64_t value = 0;
    for (size_t i = 0; i < n_bytes; i++) {
        if (word[i] < '0' || word[i] > '9') return false;
        value = 10 * value + (word[i] - '0');
        if (value >= id_bound || value > INT32_MAX) return false;
    }
    *out = (int32_t)value;
    return true;
}

ssmq_status ssmq_input_parse_ids(const char *text, size_t n_bytes, const char *name,
                                 int64_t id_bound, ssmq_ids *ids, ssmq_err *err) {
    size_t line = 1;
    for (size_t i = 0; i < n_bytes;) {
        if (is_space(text[i])) {
            line += text[i] == '\n';
            i++;
            continue;
        }
        size_t end = i;
        while (end < n_bytes && !is_space(text[end])) end++;
        SSMQ_TRY(
            ssmq_grow(&ids->ids, &ids->capacity, ids->n + 1, sizeof *ids->ids, max_input_ids, err));
        if (!parse_id(text + i, end - i, id_bound, &ids->ids[ids->n])) {
            char shown[SHOWN_BYTES];
            show_word(shown, text + i, end - i);
            return SSMQ_FAIL(err, CONFIG, "%s:%zu: '%s' is not a token id from 0 to %lld", name,
                             line, shown, (long long)id_bound - 1);
        }
        ids->n++;
        i = end;
    }
    return SSMQ_OK;
}
