/* SPDX-License-Identifier: Apache-2.0 */
#include "config/values.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "config/scopes.h"

static size_t count_digits(const char *text) {
    return strspn(text, "0123456789");
}

/* Bytes of "-", digits without a leading zero; 0 if text does not begin so. */
static size_t integer_bytes(const char *text) {
    size_t sign = text[0] == '-' ? 1 : 0;
    size_t n = count_digits(text + sign);
    if (n == 0 || (n > 1 && text[sign] == '0')) return 0;
    return sign + n;
}

bool ssmq_text_to_i64(const char *text, int64_t *out) {
    size_t n = integer_bytes(text);
    if (n == 0 || text[n] != '\0') return false;
    char *end = NULL;
    long long value = strtoll(text, &end, 10); /* saturates */
    *out = value;
    return *end == '\0';
}

bool ssmq_text_to_f64(const char *text, double *out) {
    size_t n = integer_bytes(text);
    if (n == 0) return false;
    if (text[n] == '.') {
        size_t digits = count_digits(text + n + 1);
        if (digits == 0) return false;
        n += 1 + digits;
    }
    if (text[n] == 'e' || text[n] == 'E') {
        n += 1;
        if (text[n] == '-' || text[n] == '+') n++;
        size_t digits = count_digits(text + n);
        if (digits == 0) return false;
        n += digits;
    }
    if (text[n] != '\0') return false;
    char *end = NULL;
    *out = strtod(text, &end) + 0.0; /* -0 becomes 0 */
    return *end == '\0';
}

void ssmq_f64_to_text(char *out, double value) {
    for (int digits = 6; digits <= 17; digits++) {
        (void)snprintf(out, 32, "%.*g", digits, value);
        double again = strtod(out, NULL);
        if (again == value) return;
    }
}

static bool fail_kind(const ssmq_value_place *place, const char *allowed) {
    ssmq_fault(place->faults, place->node->mark, place->path, "is %s; %s",
               ssmq_yaml_kind_name(place->node->kind), allowed);
    return false;
}

static bool fail_value(const ssmq_value_place *place, const char *what, const char *allowed) {
    char shown[SSMQ_SHOWN_BYTES];
    const char *text = ssmq_yaml_text(place->yaml, place->node);
    ssmq_fault(place->faults, place->node->mark, place->path, "%s %s; %s", ssmq_shown(shown, text),
               what, allowed);
    return false;
}

/* Text of the node; NULL, and a fault, if it is none or empty without quotes. */
static const char *text_of(const ssmq_value_place *place, const char *allowed) {
    if (place->node->kind == SSMQ_YAML_BAD) return NULL;
    if (place->node->kind != SSMQ_YAML_TEXT) {
        (void)fail_kind(place, allowed);
        return NULL;
    }
    const char *text = ssmq_yaml_text(place->yaml, place->node);
    if (text[0] == '\0' && place->node->is_plain) {
        ssmq_fault(place->faults, place->node->mark, place->path, "has no value; %s", allowed);
        return NULL;
    }
    return text;
}

static bool read_number(const ssmq_key *key, const ssmq_value_place *place, void *out) {
    char allowed[96];
    char least[32];
    char greatest[32];
    bool is_integer = key->kind == SSMQ_KEY_I64;
    if (is_integer) {
        (void)snprintf(least, sizeof least, "%" PRId64, (int64_t)key->least);
        (void)snprintf(greatest, sizeof greatest, "%" PRId64, (int64_t)key->greatest);
    } else {
        ssmq_f64_to_text(least, key->least);
        ssmq_f64_to_text(greatest, key->greatest);
    }
    (void)snprintf(allowed, sizeof allowed, "%s from %s to %s",
                   is_integer ? "an integer" : "a number", least, greatest);
    const char *text = text_of(place, allowed);
    if (text == NULL) return false;
    if (!place->node->is_plain) return fail_value(place, "is a text in quotes", allowed);
    int64_t integer = 0;
    double real = 0;
    bool is_number = is_integer ? ssmq_text_to_i64(text, &integer) : ssmq_text_to_f64(text, &real);
    if (!is_number) {
        return fail_value(place, is_integer ? "is not an integer" : "is not a number", allowed);
    }
    bool is_inside = is_integer
                         ? integer >= (int64_t)key->least && integer <= (int64_t)key->greatest
                         : real >= key->least && real <= key->greatest;
    if (!is_inside) return fail_value(place, "is out of range", allowed);
    if (is_integer) {
        memcpy(out, &integer, sizeof integer);
    } else {
        memcpy(out, &real, sizeof real);
    }
    return true;
}

static bool read_bool(const ssmq_value_place *place, void *out) {
    const char *text = text_of(place, "true or false");
    if (text == NULL) return false;
    bool value = strcmp(text, "true") == 0;
    if (!place->node->is_plain || (!value && strcmp(text, "false") != 0)) {
        return fail_value(place, "is not a truth value", "true or false");
    }
    memcpy(out, &value, sizeof value);
    return true;
}

/* Index of text among choices separated by " | "; -1 if it is none of them. */
static int choice_of(const char *choices, const char *text) {
    size_t length = strlen(text);
    int i = 0;
    for (const char *p = choices; *p != '\0'; i++) {
        size_t n = strcspn(p, " ");
        if (n == length && strncmp(p, text, n) == 0) return i;
        p += n;
        p += strspn(p, " |");
    }
    return -1;
}

static bool read_choice(const ssmq_key *key, const ssmq_value_place *place, int *out) {
    const char *text = text_of(place, key->choices);
    if (text == NULL) return false;
    *out = choice_of(key->choices, text);
    return *out >= 0 || fail_value(place, "is unknown", key->choices);
}

/* Control characters, and the line breaks and non-characters of Unicode that YAML folds or does
 * not allow: a value must survive being written and read again. */
static bool is_printable(const char *text) {
    for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
        if (*p < 0x20 || *p == 0x7F) return false;
        if (p[0] == 0xC2 && p[1] < 0xA0) return false;                           /* C1, U+0085 */
        if (p[0] == 0xE2 && p[1] == 0x80 && (p[2] & 0xFE) == 0xA8) return false; /* U+2028, 2029 */
        if (p[0] == 0xEF && p[1] == 0xBF && p[2] >= 0xBE) return false; /* U+FFFE, U+FFFF */
        if (p[0] == 0xEF && p[1] == 0xBB && p[2] == 0xBF) return false; /* byte order mark */
    }
    return true;
}

static bool check_text(const ssmq_key *key, const ssmq_value_place *place, const char *text) {
    char allowed[64];
    (void)snprintf(allowed, sizeof allowed, "at most %zu bytes of printable text", key->bytes - 1);
    if (strlen(text) >= key->bytes) return fail_value(place, "is too long", allowed);
    if (!is_printable(text) || ssmq_utf8_valid_prefix(text, strlen(text)) != strlen(text)) {
        return fail_value(place, "holds a control character", allowed);
    }
    if (key->kind == SSMQ_KEY_NEEDED && text[0] == '\0') {
        return fail_value(place, "is empty", "a path");
    }
    if (key->kind == SSMQ_KEY_FOLDER && text[0] != '\0' && !ssmq_name_is_safe(text)) {
        return fail_value(place, "is not a plain file name",
                          "a name without \"/\", at most 127 bytes, not beginning with \"-\"");
    }
    if (key->choices[0] != '\0' && choice_of(key->choices, text) < 0) {
        return fail_value(place, "is unknown", key->choices);
    }
    return true;
}

static bool read_text(const ssmq_key *key, const ssmq_value_place *place, void *out) {
    const char *text =
        text_of(place, key->choices[0] != '\0' ? key->choices : "a text, \"\" for an empty one");
    if (text == NULL || !check_text(key, place, text)) return false;
    ssmq_field_set(out, key->bytes, text);
    return true;
}

static bool read_scope(const ssmq_key *key, const ssmq_value_place *place, void *out) {
    static const char allowed[] = "all, none, only:ITEM,... or except:ITEM,...";
    const char *text = text_of(place, allowed);
    if (text == NULL || !check_text(key, place, text)) return false;
    ssmq_err err = {0};
    if (ssmq_scope_check_each(text, &err) != SSMQ_OK) {
        ssmq_fault(place->faults, place->node->mark, place->path, "%s; %s", err.text, allowed);
        return false;
    }
    ssmq_field_set(out, key->bytes, text);
    return true;
}

bool ssmq_value_read(const ssmq_key *key, const ssmq_value_place *place, void *out) {
    int choice = -1;
    switch (key->kind) {
    case SSMQ_KEY_I64:
    case SSMQ_KEY_F64:
        return read_number(key, place, out);
    case SSMQ_KEY_BOOL:
        return read_bool(place, out);
    case SSMQ_KEY_TASK: {
        if (!read_choice(key, place, &choice)) return false;
        ssmq_task task = (ssmq_task)choice;
        memcpy(out, &task, sizeof task);
        return true;
    }
    case SSMQ_KEY_PROTOCOL: {
        if (!read_choice(key, place, &choice)) return false;
        ssmq_protocol protocol = (ssmq_protocol)choice;
        memcpy(out, &protocol, sizeof protocol);
        return true;
    }
    case SSMQ_KEY_PRECISION:
        return ssmq_precision_read(place, out);
    case SSMQ_KEY_SCOPE:
        return read_scope(key, place, out);
    default:
        return read_text(key, place, out);
    }
}

void ssmq_value_write(const ssmq_key *key, const void *value, ssmq_str *out) {
    char text[32];
    switch (key->kind) {
    case SSMQ_KEY_I64:
        ssmq_str_addf(out, "%" PRId64, *(const int64_t *)value);
        return;
    case SSMQ_KEY_F64:
        ssmq_f64_to_text(text, *(const double *)value);
        ssmq_str_addf(out, "%s", text);
        return;
    case SSMQ_KEY_BOOL:
        ssmq_str_addf(out, "%s", *(const bool *)value ? "true" : "false");
        return;
    case SSMQ_KEY_TASK:
        ssmq_str_addf(out, "%s", ssmq_task_name(*(const ssmq_task *)value));
        return;
    case SSMQ_KEY_PROTOCOL:
        ssmq_str_addf(out, "%s", ssmq_protocol_name(*(const ssmq_protocol *)value));
        return;
    case SSMQ_KEY_PRECISION:
        ssmq_precision_write(value, out);
        return;
    default:
        ssmq_str_add_json(out, value, strnlen(value, key->bytes));
        return;
    }
}

bool ssmq_value_is_equal(const ssmq_key *key, const void *a, const void *b) {
    switch (key->kind) {
    case SSMQ_KEY_I64:
    case SSMQ_KEY_F64:
    case SSMQ_KEY_BOOL:
    case SSMQ_KEY_TASK:
    case SSMQ_KEY_PROTOCOL:
        return memcmp(a, b, key->bytes) == 0;
    case SSMQ_KEY_PRECISION:
        return strcmp(((const ssmq_precision *)a)->name, ((const ssmq_precision *)b)->name) == 0;
    default:
        return strcmp(a, b) == 0;
    }
}
