/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz/mutate.h"

#include <string.h>

/* Bytes that mean something to JSON and UTF-8. */
static const char telling_bytes[] = "{}[]:,\"\\0-.eEuNI \n\x00\x7f\xc3\xed\xff";

static const char *const telling_texts[] = {
    "-1",
    "0",
    "1",
    "255",
    "65536",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "1e308",
    "1e999",
    "0.5",
    "-0",
    "NaN",
    "Infinity",
    "-Infinity",
    "null",
    "true",
    "\"\"",
    "[]",
    "{}",
    "{\"__float__\":\"Infinity\"}",
    "99999999999999999999999999999999",
};
enum { N_TELLING_TEXTS = sizeof telling_texts / sizeof telling_texts[0] };

/* Replaces n_old bytes at `at` by n_new others, which may lie anywhere but in m; what does not fit
 * is cut. */
static void replace_span(struct mutant *m, size_t at, size_t n_old, const char *new_bytes,
                         size_t n_new) {
    size_t tail = m->n_bytes - at - n_old;
    if (n_new > m->capacity - at) n_new = m->capacity - at;
    if (tail > m->capacity - at - n_new) tail = m->capacity - at - n_new;
    memmove(m->bytes + at + n_new, m->bytes + at + n_old, tail);
    memcpy(m->bytes + at, new_bytes, n_new);
    m->n_bytes = at + n_new + tail;
}

static size_t span_at(size_t at, size_t n_bytes, ssmq_rng *rng) {
    size_t left = n_bytes - at;
    size_t limit = ssmq_rng_below(rng, 4) == 0 ? left : left < 24 ? left : 24;
    return (size_t)ssmq_rng_below(rng, limit + 1);
}

/* The number at or after a random place becomes an extreme one. */
static void replace_number(struct mutant *m, size_t at, ssmq_rng *rng) {
    while (at < m->n_bytes && (m->bytes[at] < '0' || m->bytes[at] > '9')) at++;
    size_t end = at;
    while (end < m->n_bytes && m->bytes[end] >= '0' && m->bytes[end] <= '9') end++;
    const char *text = telling_texts[ssmq_rng_below(rng, N_TELLING_TEXTS)];
    if (end > at) replace_span(m, at, end - at, text, strlen(text));
}

static void double_span(struct mutant *m, size_t at, ssmq_rng *rng) {
    char copy[256];
    size_t n = span_at(at, m->n_bytes, rng);
    if (n > sizeof copy) n = sizeof copy;
    memcpy(copy, m->bytes + at, n);
    replace_span(m, at, 0, copy, n);
}

static void mutate_once(struct mutant *m, const char *other, size_t n_other, ssmq_rng *rng) {
    if (m->n_bytes == 0) return;
    size_t at = (size_t)ssmq_rng_below(rng, m->n_bytes);
    size_t from = 0;
    switch (ssmq_rng_below(rng, 10)) {
    case 0:
        m->bytes[at] = (char)(m->bytes[at] ^ (1 << ssmq_rng_below(rng, 8)));
        break;
    case 1:
        m->bytes[at] = telling_bytes[ssmq_rng_below(rng, sizeof telling_bytes - 1)];
        break;
    case 2:
        m->bytes[at] = (char)ssmq_rng_below(rng, 256);
        break;
    case 3:
        if (ssmq_rng_below(rng, 4) == 0) m->n_bytes = at;
        break;
    case 4:
        replace_span(m, at, span_at(at, m->n_bytes, rng), "", 0);
        break;
    case 5:
        double_span(m, at, rng);
        break;
    case 6:
        if (n_other == 0) break;
        from = (size_t)ssmq_rng_below(rng, n_other);
        replace_span(m, at, span_at(at, m->n_bytes, rng), other + from,
                     span_at(from, n_other, rng));
        break;
    default:
        replace_number(m, at, rng);
        break;
    }
}

void mutate(struct mutant *m, const char *other, size_t n_other, ssmq_rng *rng) {
    for (uint64_t n = 1 + ssmq_rng_below(rng, 4); n > 0; n--) mutate_once(m, other, n_other, rng);
}
