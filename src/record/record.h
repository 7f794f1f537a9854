/* SPDX-License-Identifier: Apache-2.0 */
/* record/record.h - one trial's outcome as one flat struct. The field table in record_fields.h is
 * the only list of fields: struct, JSON, CSV, HDF5 and documentation are generated from it. */
#ifndef SSMQ_RECORD_RECORD_H
#define SSMQ_RECORD_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "base/str.h"
#include "json/json.h"
#include "record/record_fields.h"
#include "record/series_table.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Version of the field table: raised when a field changes its name or meaning. */
enum { SSMQ_SCHEMA_VERSION = 1 };

/* A field's type: text of fixed size, integer (-1: null), double (NaN: null). */
typedef enum ssmq_field_type { SSMQ_FIELD_STR, SSMQ_FIELD_I64, SSMQ_FIELD_F64 } ssmq_field_type;

/* What a field is about. RESULT fields must not differ between reruns; MEASURED ones are times and
 * memory of this machine. */
typedef enum ssmq_field_kind {
    SSMQ_KIND_IDENTITY,
    SSMQ_KIND_SETTING,
    SSMQ_KIND_PROVENANCE,
    SSMQ_KIND_RESULT,
    SSMQ_KIND_MEASURED,
    SSMQ_N_KINDS
} ssmq_field_kind;

typedef struct ssmq_record {
#define SSMQ_STR(kind, name, bytes, unit, doc) char name[bytes];
#define SSMQ_I64(kind, name, unit, doc)        int64_t name;
#define SSMQ_F64(kind, name, unit, doc)        double name;
    SSMQ_RECORD_FIELDS(SSMQ_STR, SSMQ_I64, SSMQ_F64)
#undef SSMQ_STR
#undef SSMQ_I64
#undef SSMQ_F64
} ssmq_record;

typedef struct ssmq_field {
    ssmq_field_kind kind;
    ssmq_field_type type;
    const char *name;
    size_t name_bytes; /* without the zero */
    size_t offset;     /* in ssmq_record */
    size_t bytes;
    const char *unit; /* "1" for pure numbers and texts */
    const char *doc;
} ssmq_field;

/* The fields in table order. */
size_t ssmq_record_n_fields(void);
const ssmq_field *ssmq_record_field(size_t i);
/* NULL if there is none of that name. */
const ssmq_field *ssmq_record_field_named(const char *name);
/* "identity", "setting", ... and "text", "integer", "number". Never NULL. */
const char *ssmq_field_kind_name(ssmq_field_kind kind);
const char *ssmq_field_type_name(ssmq_field_type type);

/* Every field null: texts empty, integers -1, doubles NaN. */
void ssmq_record_init(ssmq_record *record);

/* Appends {"field": value, ...} with every field of the table, in its order; doubles with 17
 * digits, so that they read back bit for bit; null for -1, NaN and infinities. */
void ssmq_record_add_json(const ssmq_record *record, ssmq_str *out);
/* Reads such an object. Missing fields stay null; unknown ones are a fault; texts that do not fit
 * are cut as ssmq_field_set() does.
 * Fails: CONFIG (names the field). */
SSMQ_MUST_USE ssmq_status ssmq_record_from_json(ssmq_record *out, const ssmq_json *object,
                                                ssmq_err *err);

/* Reads a record from the head of a text as ssmq_record_add_json() writes it, much faster. Returns
 * the bytes it takes; 0, and out is of no use, if the text has any other form, though it may be a
 * record in JSON all the same. */
size_t ssmq_record_from_text(ssmq_record *out, const char *text, size_t n_bytes);

/* A CSV line of names, and of a record's values (RFC 4180 quoting, null is empty), each
 * ended by a line feed. */
void ssmq_record_add_csv_header(ssmq_str *out);
void ssmq_record_add_csv(const ssmq_record *record, ssmq_str *out);

/* Raw numbers beside a record: timings of each repeat, curves, outcome of each prompt. */
enum { SSMQ_MAX_SERIES = 64, SSMQ_MAX_SERIES_VALUES = 1 << 20 };
typedef struct ssmq_series {
    char name[48]; /* names and units come from SSMQ_SERIES_TABLE in series_table.h */
    size_t n;
    double *values;
} ssmq_series;
typedef struct ssmq_samples {
    size_t n_series;
    ssmq_series series[SSMQ_MAX_SERIES];
} ssmq_samples;

/* Appends a copy of n values as the series `name`.  Owns: samples, ssmq_samples_free().
 * Fails: INTERNAL (unknown or doubled name), NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_samples_add(ssmq_samples *samples, const char *name,
                                           const double *values, size_t n, ssmq_err *err);
void ssmq_samples_free(ssmq_samples *samples);
/* NULL if the trial has no series of that name. Borrowed. */
const ssmq_series *ssmq_samples_get(const ssmq_samples *samples, const char *name);
/* Names of the table, in its order. */
size_t ssmq_series_count(void);
const char *ssmq_series_name(size_t i);
/* Unit of a series; NULL if the table has no such name. */
const char *ssmq_series_unit(const char *name);
const char *ssmq_series_doc(const char *name);
/* {"name": [values], ...}, null for NaN and infinities, and back.
 * Owns: *out, ssmq_samples_free() (empty on failure).  Fails: CONFIG, NOMEM. */
void ssmq_samples_add_json(const ssmq_samples *samples, ssmq_str *out);
SSMQ_MUST_USE ssmq_status ssmq_samples_from_json(ssmq_samples *out, const ssmq_json *object,
                                                 ssmq_err *err);
/* As ssmq_record_from_text(), for what ssmq_samples_add_json() writes.
 * Owns: *out, ssmq_samples_free() (empty if 0 is returned, also for want of memory). */
size_t ssmq_samples_from_text(ssmq_samples *out, const char *text, size_t n_bytes);

#ifdef __cplusplus
}
#endif
#endif
