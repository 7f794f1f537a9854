/* SPDX-License-Identifier: Apache-2.0 */
/* The first alternative of the pattern that matches wins, each as long as it can be. Every
 * character falls in one of four classes, so that runs of one class decide all but contractions.
 * Letters and numbers are those of utf8proc's Unicode version. */
#include "model/pretokenize.h"

#include <stdbool.h>
#include <string.h>

#include <utf8proc.h>

typedef enum character_class { OTHER, LETTER, NUMBER, SPACE } character_class;

/* \s: the characters with the property White_Space. */
static bool is_space(utf8proc_int32_t c) {
    if (c < 0x1680) return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0;
    return c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

static character_class class_of(utf8proc_int32_t c) {
    if (is_space(c)) return SPACE;
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return LETTER;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
        return NUMBER;
    default:
        return OTHER;
    }
}

/* Class of the character at `at`, its length into *length. */
static character_class class_at(const char *text, size_t n_bytes, size_t at, size_t *length) {
    utf8proc_int32_t c = -1;
    utf8proc_ssize_t n =
        utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(n_bytes - at), &c);
    *length = n > 0 ? (size_t)n : 1;
    return n > 0 ? class_of(c) : OTHER;
}

/* End of the run of one class from `at`; *last is where its last character begins. */
static size_t run_end(const char *text, size_t n_bytes, size_t at, character_class class,
                      size_t *last) {
    size_t length = 0;
    while (at < n_bytes && class_at(text, n_bytes, at, &length) == class) {
        *last = at;
        at += length;
    }
    return at;
}

/* Bytes of the contraction at an apostrophe, 0 if there is none. */
static size_t contraction_bytes(const char *text, size_t n_bytes) {
    static const char *const endings[] = {"s", "t", "re", "ve", "m", "ll", "d"};
    for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
        size_t length = strlen(endings[i]);
        if (n_bytes > length && memcmp(text + 1, endings[i], length) == 0) return 1 + length;
    }
    return 0;
}

size_t ssmq_word_end(const char *text, size_t n_bytes, size_t at) {
    size_t length = 0;
    size_t last = at;
    if (text[at] == '\'') {
        length = contraction_bytes(text + at, n_bytes - at);
        if (length > 0) return at + length;
    }
    size_t begin = text[at] == ' ' && at + 1 < n_bytes ? at + 1 : at;
    character_class class = class_at(text, n_bytes, begin, &length);
    if (class != SPACE) return run_end(text, n_bytes, begin, class, &last);
    /* Of spaces before a word the last is left for it, unless it is the only one. */
    size_t end = run_end(text, n_bytes, at, SPACE, &last);
    return end < n_bytes && last > at ? last : end;
}
