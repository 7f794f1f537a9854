/* SPDX-License-Identifier: Apache-2.0 */
/* Fault lines and what they are made of. The edit distance is the optimal string alignment form of
 * Damerau-Levenshtein. */
#include "config/fault.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"

/* A fault is one line, whatever names and values it quotes. */
static void blank_controls(char *text) {
    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;
        if (c < 0x20 || c == 0x7F) *text = '?';
    }
}

void ssmq_fault(ssmq_faults *faults, ssmq_mark mark, const char *key, const char *format, ...) {
    faults->n++;
    if (faults->n > SSMQ_MAX_FAULTS) return;
    char text[SSMQ_FAULT_BYTES];
    char source[SSMQ_PATH_BYTES];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    ssmq_field_set(source, sizeof source, mark.source);
    blank_controls(source);
    blank_controls(text);
    ssmq_str_addf(faults->text, "%s:%d:%d: %s: %s\n", source, mark.line, mark.column, key, text);
}

const char *ssmq_shown(char *out, const char *text) {
    const size_t room = SSMQ_SHOWN_BYTES - 6; /* two quotes, "...", the terminator */
    size_t length = strlen(text);
    size_t n = length <= room ? length : ssmq_utf8_valid_prefix(text, room);
    out[0] = '"';
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];
        out[i + 1] = c < 0x20 || c == 0x7F ? '?' : text[i];
    }
    (void)snprintf(out + n + 1, SSMQ_SHOWN_BYTES - n - 1, "%s\"", n < length ? "..." : "");
    return out;
}

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

size_t ssmq_edit_distance(const char *a, const char *b) {
    enum { WORD_BYTES = 48 };
    size_t n_a = strlen(a);
    size_t n_b = strlen(b);
    if (n_a >= WORD_BYTES || n_b >= WORD_BYTES) return WORD_BYTES;
    size_t table[WORD_BYTES][WORD_BYTES];
    for (size_t i = 0; i <= n_a; i++) {
        for (size_t j = 0; j <= n_b; j++) {
            if (i == 0 || j == 0) {
                table[i][j] = i + j;
                continue;
            }
            size_t cost = a[i - 1] == b[j - 1] ? 0 : 1;
            size_t best = least(table[i - 1][j], table[i][j - 1]) + 1;
            best = least(best, table[i - 1][j - 1] + cost);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
                best = least(best, table[i - 2][j - 2] + 1);
            }
            table[i][j] = best;
        }
    }
    return table[n_a][n_b];
}
