/* SPDX-License-Identifier: Apache-2.0 */
/* Records and samples out of exactly the text that this program writes for them: every member of
 * the table, in its order, texts of plain ASCII. Ten times as fast as a JSON reader, which takes
 * over whenever the text is any other: this reader says "no", never "wrong". */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "record/record.h"

enum { NUMBER_BYTES = 32 };

typedef struct cursor {
    const char *p;
    const char *end;
} cursor;

static bool skip(cursor *at, const char *literal, size_t n_bytes) {
    if ((size_t)(at->end - at->p) < n_bytes || memcmp(at->p, literal, n_bytes) != 0) return false;
    at->p += n_bytes;
    return true;
}

#define SKIP(at, literal) skip(at, literal, sizeof(literal) - 1)

/* Eight bytes at once: true if none of them is a control character, a backslash or outside ASCII.
 * (Mycroft's test for a zero byte, of the word less each character.) */
static bool is_plain_word(const char *p) {
    static const uint64_t ones = 0x0101010101010101u;
    static const uint64_t tops = 0x8080808080808080u;
    uint64_t word;
    memcpy(&word, p, sizeof word);
    const uint64_t slash = word ^ (ones * '\\');
    const uint64_t del = word ^ (ones * 0x7F);
    return ((word | (word - ones * 0x20) | ((slash - ones) & ~slash) | ((del - ones) & ~del)) &
            tops) == 0;
}

static bool is_plain(const char *p, size_t n_bytes) {
    for (; n_bytes >= 8; n_bytes -= 8, p += 8) {
        if (!is_plain_word(p)) return false;
    }
    for (; n_bytes > 0; n_bytes--, p++) {
        const unsigned char c = (unsigned char)*p;
        if (c < 0x20 || c >= 0x7F || c == '\\') return false;
    }
    return true;
}

/* A text without escapes into a field that it fits into. */
static bool read_text(cursor *at, char *field, size_t field_bytes) {
    if (!SKIP(at, "\"")) return false;
    const char *quote = memchr(at->p, '"', (size_t)(at->end - at->p));
    if (quote == NULL) return false;
    const size_t n_bytes = (size_t)(quote - at->p);
    if (n_bytes >= field_bytes || !is_plain(at->p, n_bytes)) return false;
    memcpy(field, at->p, n_bytes);
    at->p = quote + 1;
    return true;
}

static bool read_i64(cursor *at, int64_t *out) {
    const bool is_negative = SKIP(at, "-");
    const char *begin = at->p;
    int64_t value = 0;
    while (at->p < at->end && *at->p >= '0' && *at->p <= '9' && at->p - begin < 18) {
        value = value * 10 + (*at->p++ - '0');
    }
    *out = is_negative ? -value : value;
    /* What follows a number is a comma or a bracket; anything else is for the JSON reader. */
    return at->p > begin && (*begin != '0' || at->p == begin + 1) && at->p < at->end &&
           (*at->p == ',' || *at->p == '}');
}

/* Length of a number as JSON has it; 0 if there is none. */
static size_t number_bytes(const cursor *at) {
    const char *p = at->p;
    const char *digits = p + (p < at->end && *p == '-');
    p = digits;
    while (p < at->end && *p >= '0' && *p <= '9') p++;
    if (p == digits || (*digits == '0' && p > digits + 1)) return 0;
    if (p < at->end && *p == '.') {
        const char *fraction = ++p;
        while (p < at->end && *p >= '0' && *p <= '9') p++;
        if (p == fraction) return 0;
    }
    if (p < at->end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < at->end && (*p == '+' || *p == '-')) p++;
        const char *exponent = p;
        while (p < at->end && *p >= '0' && *p <= '9') p++;
        if (p == exponent) return 0;
    }
    return (size_t)(p - at->p);
}

static bool read_f64(cursor *at, double *out) {
    char text[NUMBER_BYTES];
    const size_t n_bytes = number_bytes(at);
    if (n_bytes == 0 || n_bytes >= sizeof text) return false;
    memcpy(text, at->p, n_bytes);
    text[n_bytes] = '\0';
    *out = strtod(text, NULL);
    at->p += n_bytes;
    return isfinite(*out);
}

static bool read_value(cursor *at, const ssmq_field *field, ssmq_record *out) {
    char *place = (char *)out + field->offset;
    if (field->type == SSMQ_FIELD_STR) return read_text(at, place, field->bytes);
    if (SKIP(at, "null")) return true;
    if (field->type == SSMQ_FIELD_I64) {
        int64_t value = 0;
        if (!read_i64(at, &value)) return false;
        memcpy(place, &value, sizeof value);
        return true;
    }
    double value = 0.0;
    if (!read_f64(at, &value)) return false;
    memcpy(place, &value, sizeof value);
    return true;
}

size_t ssmq_record_from_text(ssmq_record *out, const char *text, size_t n_bytes) {
    cursor at = {text, text + n_bytes};
    ssmq_record_init(out);
    for (size_t i = 0; i < ssmq_record_n_fields(); i++) {
        const ssmq_field *field = ssmq_record_field(i);
        if (i == 0 ? !SKIP(&at, "{\"") : !SKIP(&at, ", \"")) return 0;
        if (!skip(&at, field->name, field->name_bytes) || !SKIP(&at, "\": ")) return 0;
        if (!read_value(&at, field, out)) return 0;
    }
    return SKIP(&at, "}") ? (size_t)(at.p - text) : 0;
}

/* Values of one series behind its bracket into a growing buffer. */
static bool read_values(cursor *at, double **values, size_t *capacity, size_t *n) {
    *n = 0;
    if (SKIP(at, "]")) return true;
    do {
        if (ssmq_grow(values, capacity, *n + 1, sizeof **values, SSMQ_MAX_SERIES_VALUES, NULL) !=
            SSMQ_OK) {
            return false;
        }
        (*values)[*n] = NAN;
        if (!SKIP(at, "null") && !read_f64(at, &(*values)[*n])) return false;
        (*n)++;
    } while (SKIP(at, ", "));
    return SKIP(at, "]");
}

static bool read_series(cursor *at, ssmq_samples *out, double **values, size_t *capacity) {
    char name[sizeof out->series[0].name] = "";
    size_t n = 0;
    return read_text(at, name, sizeof name) && SKIP(at, ": [") &&
           read_values(at, values, capacity, &n) &&
           ssmq_samples_add(out, name, *values, n, NULL) == SSMQ_OK;
}

size_t ssmq_samples_from_text(ssmq_samples *out, const char *text, size_t n_bytes) {
    cursor at = {text, text + n_bytes};
    double *values = NULL;
    size_t capacity = 0;
    bool is_read = SKIP(&at, "{");
    memset(out, 0, sizeof *out);
    if (is_read && !SKIP(&at, "}")) {
        do {
            is_read = read_series(&at, out, &values, &capacity);
        } while (is_read && SKIP(&at, ", "));
        is_read = is_read && SKIP(&at, "}");
    }
    ssmq_free(values);
    if (is_read) return (size_t)(at.p - text);
    ssmq_samples_free(out);
    return 0;
}
