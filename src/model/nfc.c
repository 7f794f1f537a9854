/* SPDX-License-Identifier: Apache-2.0 */
/* Decomposition and composition are utf8proc's. The canonical ordering between them is done here,
 * by counting, since utf8proc's takes quadratic time on a long run of combining marks. */
#include "model/nfc.h"

#include <string.h>

#include <utf8proc.h>

#include "base/mem.h"

enum {
    /* Code points that utf8proc_decompose_char() may write for one (canonical needs 4). */
    DECOMPOSED_MAX = 32,
    N_CLASSES = 256,
    HANGUL_T_BASE = 0x11A7
};
static const size_t max_points = SIZE_MAX / 8;
static const utf8proc_option_t nfc_options = UTF8PROC_STABLE | UTF8PROC_COMPOSE;

void ssmq_nfc_work_free(ssmq_nfc_work *work) {
    ssmq_free(work->points);
    ssmq_free(work->sorted);
    memset(work, 0, sizeof *work);
}

static unsigned class_of(int32_t point) {
    return (unsigned)utf8proc_get_property(point)->combining_class % N_CLASSES;
}

/* Sorts n combining marks by class, equal classes in their order. */
static ssmq_status sort_marks(ssmq_nfc_work *work, int32_t *marks, size_t n, ssmq_err *err) {
    size_t next[N_CLASSES] = {0};
    SSMQ_TRY(
        ssmq_grow(&work->sorted, &work->sorted_capacity, n, sizeof *work->sorted, max_points, err));
    for (size_t i = 0; i < n; i++) next[class_of(marks[i])]++;
    size_t first = 0;
    for (size_t c = 0; c < N_CLASSES; c++) {
        size_t count = next[c];
        next[c] = first;
        first += count;
    }
    for (size_t i = 0; i < n; i++) work->sorted[next[class_of(marks[i])]++] = marks[i];
    memcpy(marks, work->sorted, n * sizeof *marks);
    return SSMQ_OK;
}

static ssmq_status order_marks(ssmq_nfc_work *work, size_t n_points, ssmq_err *err) {
    for (size_t i = 0; i < n_points; i++) {
        if (class_of(work->points[i]) == 0) continue;
        size_t first = i;
        while (i < n_points && class_of(work->points[i]) != 0) i++;
        if (i - first > 1) SSMQ_TRY(sort_marks(work, work->points + first, i - first, err));
    }
    return SSMQ_OK;
}

static ssmq_status decompose(ssmq_nfc_work *work, const char *text, size_t n_bytes,
                             size_t *n_points, ssmq_err *err) {
    *n_points = 0;
    for (size_t i = 0; i < n_bytes;) {
        utf8proc_int32_t point = -1;
        utf8proc_ssize_t length = utf8proc_iterate((const utf8proc_uint8_t *)text + i,
                                                   (utf8proc_ssize_t)(n_bytes - i), &point);
        if (length <= 0) return SSMQ_FAIL(err, CONFIG, "text with a byte that is not UTF-8");
        i += (size_t)length;
        SSMQ_TRY(ssmq_grow(&work->points, &work->points_capacity, *n_points + DECOMPOSED_MAX,
                           sizeof *work->points, max_points, err));
        int boundary = 0;
        utf8proc_ssize_t n = utf8proc_decompose_char(point, work->points + *n_points,
                                                     DECOMPOSED_MAX, nfc_options, &boundary);
        SSMQ_CHECK(n > 0 && n <= DECOMPOSED_MAX, err);
        *n_points += (size_t)n;
    }
    return SSMQ_OK;
}

/* Composes n ordered points and appends them. */
static ssmq_status append_composed(ssmq_str *out, int32_t *points, size_t n, ssmq_err *err) {
    utf8proc_ssize_t n_composed =
        utf8proc_normalize_utf32(points, (utf8proc_ssize_t)n, nfc_options);
    SSMQ_CHECK(n_composed >= 0 && (size_t)n_composed <= n, err);
    for (utf8proc_ssize_t i = 0; i < n_composed; i++) {
        utf8proc_uint8_t bytes[4];
        utf8proc_ssize_t length = utf8proc_encode_char(points[i], bytes);
        ssmq_str_add(out, (const char *)bytes, (size_t)length);
    }
    return SSMQ_OK;
}

static ssmq_status append_segment(ssmq_nfc_work *work, ssmq_str *out, const char *text,
                                  size_t n_bytes, ssmq_err *err) {
    size_t n_points = 0;
    SSMQ_TRY(decompose(work, text, n_bytes, &n_points, err));
    SSMQ_TRY(order_marks(work, n_points, err));
    /* utf8proc 2.8 drops a U+11A7 behind a syllable of two letters, as if it were the trailing
     * consonant of index 0, which does not exist. It composes with nothing before it, so that a
     * cut there changes nothing else. */
    for (size_t first = 0; first < n_points;) {
        size_t end = first + 1;
        while (end < n_points && work->points[end] != HANGUL_T_BASE) end++;
        SSMQ_TRY(append_composed(out, work->points + first, end - first, err));
        first = end;
    }
    return SSMQ_OK;
}

static size_t span_end(const char *text, size_t n_bytes, size_t at, bool is_ascii) {
    while (at < n_bytes && ((unsigned char)text[at] < 0x80) == is_ascii) at++;
    return at;
}

/* ASCII characters stay as they are and never combine with what is before them; only the last one
 * before another character may be the base of an accent. */
ssmq_status ssmq_nfc_append(ssmq_nfc_work *work, ssmq_str *out, const char *text, size_t n_bytes,
                            ssmq_err *err) {
    size_t at = 0;
    while (at < n_bytes) {
        size_t other = span_end(text, n_bytes, at, true);
        size_t first = other > at && other < n_bytes ? other - 1 : other;
        ssmq_str_add(out, text + at, first - at);
        at = span_end(text, n_bytes, other, false);
        if (at > first) SSMQ_TRY(append_segment(work, out, text + first, at - first, err));
    }
    return SSMQ_OK;
}
