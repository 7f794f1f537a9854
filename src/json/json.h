/* SPDX-License-Identifier: Apache-2.0 */
/* json/json.h - JSON documents in: a checked reader over json-c. Accepts the bare Infinity,
 * -Infinity and NaN of real config.json files; rejects duplicate keys, invalid UTF-8, trailing
 * text and nesting over a limit. Writing JSON is base/str.h. */
#ifndef SSMQ_JSON_JSON_H
#define SSMQ_JSON_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A value inside a parsed document; valid until the document is freed. NULL is JSON null. */
typedef struct ssmq_json ssmq_json;

typedef enum ssmq_json_type {
    SSMQ_JSON_NULL,
    SSMQ_JSON_BOOL,
    SSMQ_JSON_INT,
    SSMQ_JSON_F64,
    SSMQ_JSON_STRING,
    SSMQ_JSON_ARRAY,
    SSMQ_JSON_OBJECT
} ssmq_json_type;

/* Parses n_bytes of text. `name` is what messages call it (a path).
 * Owns: *out, release with ssmq_json_free().  Fails: CONFIG, NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_json_parse(ssmq_json **out, const char *text, size_t n_bytes,
                                          const char *name, ssmq_err *err);
/* Reads and parses a file of at most max_bytes.  Owns and Fails: as above. */
SSMQ_MUST_USE ssmq_status ssmq_json_read(ssmq_json **out, const char *path, size_t max_bytes,
                                         ssmq_err *err);
void ssmq_json_free(ssmq_json *document);

ssmq_json_type ssmq_json_type_of(const ssmq_json *value);
/* Name of a type for messages ("an integer"). */
const char *ssmq_json_type_name(ssmq_json_type type);

/* Member of an object; false if absent or if `object` is no object. *out may be NULL (JSON null).
 */
bool ssmq_json_get(const ssmq_json *object, const char *key, const ssmq_json **out);
/* Members of an object in file order: for (it = begin; next(&it);) use it.key, it.value. */
typedef struct ssmq_json_iter {
    const char *key;
    const ssmq_json *value;
    const void *entry;
} ssmq_json_iter;
ssmq_json_iter ssmq_json_begin(const ssmq_json *object);
bool ssmq_json_next(ssmq_json_iter *it);
size_t ssmq_json_n_members(const ssmq_json *object);

size_t ssmq_json_n_items(const ssmq_json *array);
const ssmq_json *ssmq_json_item(const ssmq_json *array, size_t i);

/* Text of a string with its length (it may hold zeros); NULL if it is no string. */
const char *ssmq_json_string(const ssmq_json *value, size_t *n_bytes);
/* Value of an integer, or of a double that is one; false otherwise. */
bool ssmq_json_i64(const ssmq_json *value, int64_t *out);
/* Value of a number (also infinite or NaN); false otherwise. */
bool ssmq_json_f64(const ssmq_json *value, double *out);
bool ssmq_json_bool(const ssmq_json *value, bool *out);

#ifdef __cplusplus
}
#endif
#endif
