/* SPDX-License-Identifier: Apache-2.0 */
/* base/str.h - a growing text buffer with a hard maximum. Appends after a failure do nothing,
 * so a writer checks once, at the end. */
#ifndef SSMQ_BASE_STR_H
#define SSMQ_BASE_STR_H

#include <stddef.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_str {
    char *text;      /* zero-terminated; NULL while empty and never appended to */
    size_t n_bytes;  /* without the terminator */
    size_t capacity; /* bytes allocated */
    size_t max_bytes;
    ssmq_status status; /* first failure of an append */
} ssmq_str;

/* An empty buffer that may grow to max_bytes.  Owns: release with ssmq_str_free(). */
void ssmq_str_init(ssmq_str *str, size_t max_bytes);
void ssmq_str_free(ssmq_str *str);
/* Empties the buffer and forgets a failure; keeps its memory. */
void ssmq_str_clear(ssmq_str *str);

void ssmq_str_add(ssmq_str *str, const char *bytes, size_t n_bytes);
void ssmq_str_addf(ssmq_str *str, const char *format, ...) SSMQ_PRINTF(2, 3);
/* A JSON string literal with quotes; bytes that are not UTF-8 become U+FFFD. */
void ssmq_str_add_json(ssmq_str *str, const char *text, size_t n_bytes);
/* A JSON number that reads back to the same double (%.17g), or null for NaN and infinities. */
void ssmq_str_add_json_f64(ssmq_str *str, double value);

/* The text ("" if empty), borrowed until the next append. */
const char *ssmq_str_get(const ssmq_str *str);
/* Fails: NOMEM or CONFIG (over max_bytes) if an append failed; `what` names the text. */
SSMQ_MUST_USE ssmq_status ssmq_str_check(const ssmq_str *str, const char *what, ssmq_err *err);

/* Copies text into a fixed field, cut at a whole UTF-8 character if it does not fit; the rest of
 * the field is zeroed, so that equal texts are equal bytes. */
void ssmq_field_set(char *field, size_t field_bytes, const char *text);

/* Length in bytes of the longest valid UTF-8 prefix (n_bytes if all of it is valid). */
size_t ssmq_utf8_valid_prefix(const char *text, size_t n_bytes);

#ifdef __cplusplus
}
#endif
#endif
