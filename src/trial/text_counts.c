/* SPDX-License-Identifier: Apache-2.0 */
#include "trial/text_counts.h"

#include <stdbool.h>

/* The characters that \s matches in a Python str: str.isspace(). */
static bool is_space(uint32_t c) {
    if (c < 0x80) return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20);
    return c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 ||
           c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

/* The character at text[*at], which moves behind it. */
static uint32_t next_character(const char *text, size_t n_bytes, size_t *at) {
    const unsigned char lead = (unsigned char)text[(*at)++];
    if (lead < 0xc0) return lead;
    uint32_t c = lead < 0xe0 ? lead & 0x1fu : lead < 0xf0 ? lead & 0x0fu : lead & 0x07u;
    while (*at < n_bytes && ((unsigned char)text[*at] & 0xc0) == 0x80) {
        c = c << 6 | ((unsigned char)text[(*at)++] & 0x3fu);
    }
    return c;
}

ssmq_text_counts ssmq_text_count(const char *text, size_t n_bytes) {
    ssmq_text_counts counts = {.n_words = 1, .n_bytes = (int64_t)n_bytes};
    bool is_in_run = false;
    for (size_t at = 0; at < n_bytes;) {
        const bool is_white = is_space(next_character(text, n_bytes, &at));
        if (is_white && !is_in_run) counts.n_words++;
        is_in_run = is_white;
    }
    return counts;
}
