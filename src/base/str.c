/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

void ssmq_str_init(ssmq_str *str, size_t max_bytes) {
    memset(str, 0, sizeof *str);
    str->max_bytes = max_bytes;
}

void ssmq_str_free(ssmq_str *str) {
    ssmq_free(str->text);
    ssmq_str_init(str, str->max_bytes);
}

void ssmq_str_clear(ssmq_str *str) {
    str->n_bytes = 0;
    str->status = SSMQ_OK;
    if (str->text != NULL) str->text[0] = '\0';
}

static bool reserve(ssmq_str *str, size_t n_bytes) {
    if (str->status != SSMQ_OK) return false;
    if (n_bytes > str->max_bytes - str->n_bytes) {
        str->status = SSMQ_CONFIG;
        return false;
    }
    str->status = ssmq_grow(&str->text, &str->capacity, str->n_bytes + n_bytes + 1, 1,
                            str->max_bytes + 1, NULL);
    return str->status == SSMQ_OK;
}

void ssmq_str_add(ssmq_str *str, const char *bytes, size_t n_bytes) {
    if (!reserve(str, n_bytes)) return;
    if (n_bytes > 0) memcpy(str->text + str->n_bytes, bytes, n_bytes);
    str->n_bytes += n_bytes;
    str->text[str->n_bytes] = '\0';
}

void ssmq_str_addf(ssmq_str *str, const char *format, ...) {
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int needed = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (needed >= 0 && reserve(str, (size_t)needed)) {
        (void)vsnprintf(str->text + str->n_bytes, (size_t)needed + 1, format, again);
        str->n_bytes += (size_t)needed;
    }
    va_end(again);
}

/* Bytes of the valid UTF-8 character at text, 0 if there is none (overlong forms, surrogates and
 * values over U+10FFFF are not valid). */
static size_t utf8_character_bytes(const unsigned char *text, size_t n_bytes) {
    unsigned char lead = text[0];
    if (lead < 0x80) return 1;
    size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || length > n_bytes) return 0;
    for (size_t i = 1; i < length; i++) {
        if ((text[i] & 0xC0) != 0x80) return 0;
    }
    if (lead == 0xE0 && text[1] < 0xA0) return 0;
    if (lead == 0xED && text[1] > 0x9F) return 0;
    if (lead == 0xF0 && text[1] < 0x90) return 0;
    if (lead == 0xF4 && text[1] > 0x8F) return 0;
    return length;
}

void ssmq_str_add_json(ssmq_str *str, const char *text, size_t n_bytes) {
    ssmq_str_add(str, "\"", 1);
    for (size_t i = 0; i < n_bytes;) {
        unsigned char c = (unsigned char)text[i];
        size_t length = utf8_character_bytes((const unsigned char *)text + i, n_bytes - i);
        if (length == 0) {
            ssmq_str_add(str, "\xEF\xBF\xBD", 3);
            i++;
            continue;
        }
        if (c == '"' || c == '\\') {
            ssmq_str_addf(str, "\\%c", c);
        } else if (c < 0x20 || c == 0x7F) {
            ssmq_str_addf(str, "\\u%04x", c);
        } else {
            ssmq_str_add(str, text + i, length);
        }
        i += length;
    }
    ssmq_str_add(str, "\"", 1);
}

void ssmq_str_add_json_f64(ssmq_str *str, double value) {
    if (value == 0.0 && signbit(value)) {
        /* JSON readers take -0 for an integer, which has no sign. */
        ssmq_str_add(str, "-0.0", 4);
    } else if (isfinite(value)) {
        ssmq_str_addf(str, "%.17g", value);
    } else {
        ssmq_str_add(str, "null", 4);
    }
}

const char *ssmq_str_get(const ssmq_str *str) {
    return str->text != NULL ? str->text : "";
}

ssmq_status ssmq_str_check(const ssmq_str *str, const char *what, ssmq_err *err) {
    if (str->status == SSMQ_OK) return SSMQ_OK;
    if (str->status == SSMQ_NOMEM) return SSMQ_FAIL(err, NOMEM, "%s: out of memory", what);
    return SSMQ_FAIL(err, CONFIG, "%s: longer than %zu bytes", what, str->max_bytes);
}

void ssmq_field_set(char *field, size_t field_bytes, const char *text) {
    size_t length = strlen(text);
    if (length >= field_bytes) length = ssmq_utf8_valid_prefix(text, field_bytes - 1);
    memset(field, 0, field_bytes);
    memcpy(field, text, length);
}

size_t ssmq_utf8_valid_prefix(const char *text, size_t n_bytes) {
    size_t i = 0;
    while (i < n_bytes) {
        size_t length = utf8_character_bytes((const unsigned char *)text + i, n_bytes - i);
        if (length == 0) break;
        i += length;
    }
    return i;
}
