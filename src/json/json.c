/* SPDX-License-Identifier: Apache-2.0 */
/* A document passes three gates: UTF-8; a scan of its tokens for what json-c lets through even in
 * its strict mode (quotes of the wrong kind, control characters, numbers such as 01 and 1.,
 * integers that would be cut to 64 bits, zeros inside keys); json-c itself. The scan also counts
 * the members that the text has, which shows duplicate keys, since json-c keeps the last of them
 * silently. */
#include "json/json.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

enum { MAX_DEPTH = 64 };

/* Text under scan: i is the next byte, n_colons the colons outside strings so far. */
typedef struct scan {
    const char *text;
    size_t n_bytes;
    size_t i;
    size_t n_colons;
    const char *name;
} scan;

static ssmq_status fail_at(const scan *s, size_t at, const char *what, ssmq_err *err) {
    size_t line = 1;
    size_t column = 1;
    for (size_t i = 0; i < at && i < s->n_bytes; i++) {
        column = s->text[i] == '\n' ? 1 : column + 1;
        line += s->text[i] == '\n';
    }
    return SSMQ_FAIL(err, CONFIG, "%s:%zu:%zu: not valid JSON: %s", s->name, line, column, what);
}

static int peek(const scan *s) {
    return s->i < s->n_bytes ? (unsigned char)s->text[s->i] : -1;
}

static bool skip_digits(scan *s) {
    size_t first = s->i;
    while (peek(s) >= '0' && peek(s) <= '9') s->i++;
    return s->i > first;
}

/* True if the integer literal of n_bytes fits 64 bits: signed if negative, else unsigned. */
static bool integer_fits(const char *digits, size_t n_bytes) {
    char literal[24];
    if (n_bytes >= sizeof literal) return false;
    memcpy(literal, digits, n_bytes);
    literal[n_bytes] = '\0';
    errno = 0;
    if (literal[0] == '-') {
        (void)strtoll(literal, NULL, 10);
    } else {
        (void)strtoull(literal, NULL, 10);
    }
    return errno == 0;
}

/* A number as RFC 8259 section 6 writes it, or -Infinity, whose letters are left to json-c. */
static ssmq_status scan_number(scan *s, ssmq_err *err) {
    size_t first = s->i;
    bool is_integer = true;
    if (peek(s) == '-') s->i++;
    if (peek(s) == 'I') return SSMQ_OK;
    size_t digits = s->i;
    if (!skip_digits(s)) return fail_at(s, first, "a number without digits", err);
    if (s->text[digits] == '0' && s->i > digits + 1) {
        return fail_at(s, first, "a number with leading zeros", err);
    }
    if (peek(s) == '.') {
        s->i++;
        is_integer = false;
        if (!skip_digits(s)) return fail_at(s, first, "a number without digits after '.'", err);
    }
    if (peek(s) == 'e' || peek(s) == 'E') {
        s->i++;
        is_integer = false;
        if (peek(s) == '+' || peek(s) == '-') s->i++;
        if (!skip_digits(s)) return fail_at(s, first, "an exponent without digits", err);
    }
    if (is_integer && !integer_fits(s->text + first, s->i - first)) {
        return fail_at(s, first, "an integer over 64 bits", err);
    }
    return SSMQ_OK;
}

static bool skip_space(scan *s) {
    size_t first = s->i;
    while (peek(s) == ' ' || peek(s) == '\t' || peek(s) == '\n' || peek(s) == '\r') s->i++;
    return s->i > first;
}

/* The code unit of an escape \uXXXX at text[at]; -1 if there is none. */
static long escaped_unit(const scan *s, size_t at) {
    long unit = 0;
    if (at + 6 > s->n_bytes || memcmp(s->text + at, "\\u", 2) != 0) return -1;
    for (size_t i = at + 2; i < at + 6; i++) {
        const char *digits = "0123456789abcdef";
        const char *digit = memchr(digits, s->text[i] | ('A' ^ 'a'), 16);
        if (digit == NULL) return -1;
        unit = unit * 16 + (digit - digits);
    }
    return unit;
}

/* json-c 0.16 takes the characters of some escaped pairs for lone surrogates and replaces them. */
static bool is_misread_pair(const scan *s, size_t at) {
    const long high = escaped_unit(s, at);
    const long low = high >= 0xD800 && high < 0xDC00 ? escaped_unit(s, at + 6) : -1;
    if (low < 0xDC00 || low > 0xDFFF) return false;
    const long character = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
    return (character & 0xF800) == 0xD800;
}

/* A string from its opening quote; json-c checks its escapes. */
static ssmq_status scan_string(scan *s, ssmq_err *err) {
    size_t first = s->i++;
    bool has_zero = false;
    while (peek(s) != '"') {
        int c = peek(s);
        if (c < 0) return fail_at(s, first, "a string without an end", err);
        if (c < 0x20) return fail_at(s, s->i, "a control character inside a string", err);
        if (c == '\\') {
            size_t left = s->n_bytes - s->i;
            has_zero |= left >= 6 && memcmp(s->text + s->i, "\\u0000", 6) == 0;
            if (is_misread_pair(s, s->i)) {
                return fail_at(s, s->i, "an escaped pair that json-c misreads; write the character",
                               err);
            }
            s->i++;
        }
        s->i++;
    }
    s->i++;
    (void)skip_space(s);
    /* json-c would cut such a key at the zero. */
    if (has_zero && peek(s) == ':') return fail_at(s, first, "a key that holds \\u0000", err);
    return SSMQ_OK;
}

static ssmq_status scan_text(scan *s, ssmq_err *err) {
    size_t valid = ssmq_utf8_valid_prefix(s->text, s->n_bytes);
    if (valid < s->n_bytes) return fail_at(s, valid, "a byte that is not UTF-8", err);
    while (skip_space(s), s->i < s->n_bytes) {
        int c = peek(s);
        if (c == '"') {
            SSMQ_TRY(scan_string(s, err));
        } else if (c == '-' || (c >= '0' && c <= '9')) {
            SSMQ_TRY(scan_number(s, err));
        } else if (c == 0 || strchr("{}[],:", c) == NULL) {
            bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
            if (!is_letter) return fail_at(s, s->i, "unexpected character", err);
            s->i++;
        } else {
            s->n_colons += c == ':';
            s->i++;
        }
    }
    return SSMQ_OK;
}

static size_t count_members(struct json_object *value) {
    size_t n = 0;
    if (json_object_is_type(value, json_type_array)) {
        size_t n_items = json_object_array_length(value);
        for (size_t i = 0; i < n_items; i++) {
            n += count_members(json_object_array_get_idx(value, i));
        }
    } else if (json_object_is_type(value, json_type_object)) {
        json_object_object_foreach(value, key, member) {
            (void)key;
            n += 1 + count_members(member);
        }
    }
    return n;
}

/* Every member of a valid document has one colon outside strings; of equal keys json-c kept one. */
static ssmq_status check_duplicates(const scan *s, struct json_object *document, ssmq_err *err) {
    if (count_members(document) == s->n_colons) return SSMQ_OK;
    return SSMQ_FAIL(err, CONFIG, "%s: an object has the same key twice", s->name);
}

static ssmq_status parse_tree(struct json_object **out, const scan *s, ssmq_err *err) {
    struct json_tokener *tokener = json_tokener_new_ex(MAX_DEPTH);
    if (tokener == NULL) return SSMQ_FAIL(err, NOMEM, "%s: out of memory", s->name);
    json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
    *out = json_tokener_parse_ex(tokener, s->text, (int)s->n_bytes);
    enum json_tokener_error error = json_tokener_get_error(tokener);
    size_t end = json_tokener_get_parse_end(tokener);
    if (error == json_tokener_continue) {
        /* The zero is json-c's end of input; a number at top level ends only there. */
        *out = json_tokener_parse_ex(tokener, "", 1);
        error = json_tokener_get_error(tokener);
        end = s->n_bytes;
    }
    json_tokener_free(tokener);
    if (error == json_tokener_error_depth) return fail_at(s, end, "nested over 64 levels", err);
    if (error != json_tokener_success) {
        return fail_at(s, end, json_tokener_error_desc(error), err);
    }
    return SSMQ_OK;
}

ssmq_status ssmq_json_parse(ssmq_json **out, const char *text, size_t n_bytes, const char *name,
                            ssmq_err *err) {
    *out = NULL;
    scan s = {.text = text, .n_bytes = n_bytes, .name = name};
    if (n_bytes >= INT_MAX) return SSMQ_FAIL(err, CONFIG, "%s: over 2 GiB of JSON", name);
    SSMQ_TRY(scan_text(&s, err));
    struct json_object *document = NULL;
    SSMQ_TRY(parse_tree(&document, &s, err));
    ssmq_status status = check_duplicates(&s, document, err);
    if (status != SSMQ_OK) {
        (void)json_object_put(document);
        return status;
    }
    *out = (ssmq_json *)document;
    return SSMQ_OK;
}

ssmq_status ssmq_json_read(ssmq_json **out, const char *path, size_t max_bytes, ssmq_err *err) {
    char *text = NULL;
    size_t n_bytes = 0;
    *out = NULL;
    SSMQ_TRY(ssmq_file_read(&text, &n_bytes, path, max_bytes, err));
    ssmq_status status = ssmq_json_parse(out, text, n_bytes, path, err);
    ssmq_free(text);
    return status;
}

void ssmq_json_free(ssmq_json *document) {
    (void)json_object_put((struct json_object *)document);
}

/* json-c takes no const pointers even where it only reads. */
static struct json_object *tree(const ssmq_json *value) {
    return (struct json_object *)value;
}

ssmq_json_type ssmq_json_type_of(const ssmq_json *value) {
    switch (json_object_get_type(tree(value))) {
    case json_type_boolean:
        return SSMQ_JSON_BOOL;
    case json_type_double:
        return SSMQ_JSON_F64;
    case json_type_int:
        return SSMQ_JSON_INT;
    case json_type_object:
        return SSMQ_JSON_OBJECT;
    case json_type_array:
        return SSMQ_JSON_ARRAY;
    case json_type_string:
        return SSMQ_JSON_STRING;
    case json_type_null:
        break;
    }
    return SSMQ_JSON_NULL;
}

const char *ssmq_json_type_name(ssmq_json_type type) {
    static const char *const names[] = {
        [SSMQ_JSON_NULL] = "null",        [SSMQ_JSON_BOOL] = "a truth value",
        [SSMQ_JSON_INT] = "an integer",   [SSMQ_JSON_F64] = "a number",
        [SSMQ_JSON_STRING] = "a string",  [SSMQ_JSON_ARRAY] = "an array",
        [SSMQ_JSON_OBJECT] = "an object",
    };
    return (size_t)type < sizeof names / sizeof names[0] ? names[type] : "unknown";
}

bool ssmq_json_get(const ssmq_json *object, const char *key, const ssmq_json **out) {
    struct json_object *found = NULL;
    *out = NULL;
    if (!json_object_is_type(tree(object), json_type_object)) return false;
    if (!json_object_object_get_ex(tree(object), key, &found)) return false;
    *out = (const ssmq_json *)found;
    return true;
}

ssmq_json_iter ssmq_json_begin(const ssmq_json *object) {
    ssmq_json_iter it = {0};
    if (json_object_is_type(tree(object), json_type_object)) {
        it.entry = lh_table_head(json_object_get_object(tree(object)));
    }
    return it;
}

/* it->entry is the member that comes next. */
bool ssmq_json_next(ssmq_json_iter *it) {
    const struct lh_entry *entry = it->entry;
    if (entry == NULL) return false;
    it->key = lh_entry_k(entry);
    it->value = lh_entry_v(entry);
    it->entry = lh_entry_next(entry);
    return true;
}

size_t ssmq_json_n_members(const ssmq_json *object) {
    if (!json_object_is_type(tree(object), json_type_object)) return 0;
    return (size_t)json_object_object_length(tree(object));
}

size_t ssmq_json_n_items(const ssmq_json *array) {
    if (!json_object_is_type(tree(array), json_type_array)) return 0;
    return json_object_array_length(tree(array));
}

const ssmq_json *ssmq_json_item(const ssmq_json *array, size_t i) {
    if (!json_object_is_type(tree(array), json_type_array)) return NULL;
    return (const ssmq_json *)json_object_array_get_idx(tree(array), i);
}

const char *ssmq_json_string(const ssmq_json *value, size_t *n_bytes) {
    *n_bytes = 0;
    if (!json_object_is_type(tree(value), json_type_string)) return NULL;
    *n_bytes = (size_t)json_object_get_string_len(tree(value));
    return json_object_get_string(tree(value));
}

bool ssmq_json_i64(const ssmq_json *value, int64_t *out) {
    *out = 0;
    if (json_object_is_type(tree(value), json_type_int)) {
        int64_t signed_value = json_object_get_int64(tree(value));
        /* json-c cuts larger values to INT64_MAX when asked for a signed one. */
        if (signed_value == INT64_MAX && json_object_get_uint64(tree(value)) > INT64_MAX) {
            return false;
        }
        *out = signed_value;
        return true;
    }
    if (!json_object_is_type(tree(value), json_type_double)) return false;
    double x = json_object_get_double(tree(value));
    if (!(x >= -0x1p63 && x < 0x1p63) || x != (double)(int64_t)x) return false;
    *out = (int64_t)x;
    return true;
}

bool ssmq_json_f64(const ssmq_json *value, double *out) {
    *out = 0.0;
    if (!json_object_is_type(tree(value), json_type_int) &&
        !json_object_is_type(tree(value), json_type_double)) {
        return false;
    }
    *out = json_object_get_double(tree(value));
    return true;
}

bool ssmq_json_bool(const ssmq_json *value, bool *out) {
    *out = false;
    if (!json_object_is_type(tree(value), json_type_boolean)) return false;
    *out = json_object_get_boolean(tree(value)) != 0;
    return true;
}
