/* SPDX-License-Identifier: Apache-2.0 */
/* A record as JSON and CSV, all of it driven by the field table.
 *
 * Null is an empty text, -1, or NaN. Infinities have no JSON form and become null as well: a trial
 * that met one says so in its status. */
#include "record/record.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

static const ssmq_field fields[] = {
#define SSMQ_STR(kind, name, bytes, unit, doc)                                                     \
    {SSMQ_KIND_##kind,                                                                             \
     SSMQ_FIELD_STR,                                                                               \
     #name,                                                                                        \
     sizeof #name - 1,                                                                             \
     offsetof(ssmq_record, name),                                                                  \
     bytes,                                                                                        \
     unit,                                                                                         \
     doc},
#define SSMQ_I64(kind, name, unit, doc)                                                            \
    {SSMQ_KIND_##kind,                                                                             \
     SSMQ_FIELD_I64,                                                                               \
     #name,                                                                                        \
     sizeof #name - 1,                                                                             \
     offsetof(ssmq_record, name),                                                                  \
     8,                                                                                            \
     unit,                                                                                         \
     doc},
#define SSMQ_F64(kind, name, unit, doc)                                                            \
    {SSMQ_KIND_##kind,                                                                             \
     SSMQ_FIELD_F64,                                                                               \
     #name,                                                                                        \
     sizeof #name - 1,                                                                             \
     offsetof(ssmq_record, name),                                                                  \
     8,                                                                                            \
     unit,                                                                                         \
     doc},
    SSMQ_RECORD_FIELDS(SSMQ_STR, SSMQ_I64, SSMQ_F64)
#undef SSMQ_STR
#undef SSMQ_I64
#undef SSMQ_F64
};

enum { N_FIELDS = sizeof fields / sizeof fields[0] };

/* No padding anywhere: a record is its fields' bytes, in memory, between processes and in HDF5. */
#define SSMQ_STR(kind, name, bytes, unit, doc)                                                     \
    _Static_assert((bytes) % 8 == 0, "size of " #name " is no multiple of 8");
#define SSMQ_NUMBER(kind, name, unit, doc)
SSMQ_RECORD_FIELDS(SSMQ_STR, SSMQ_NUMBER, SSMQ_NUMBER)
#undef SSMQ_STR
#undef SSMQ_NUMBER
#define SSMQ_STR(kind, name, bytes, unit, doc) char name[bytes];
#define SSMQ_NUMBER(kind, name, unit, doc)     char name[8];
struct unpadded {
    SSMQ_RECORD_FIELDS(SSMQ_STR, SSMQ_NUMBER, SSMQ_NUMBER)
};
#undef SSMQ_STR
#undef SSMQ_NUMBER
_Static_assert(sizeof(ssmq_record) == sizeof(struct unpadded), "ssmq_record has padding");

size_t ssmq_record_n_fields(void) {
    return N_FIELDS;
}

const ssmq_field *ssmq_record_field(size_t i) {
    return i < N_FIELDS ? &fields[i] : NULL;
}

const ssmq_field *ssmq_record_field_named(const char *name) {
    for (size_t i = 0; i < N_FIELDS; i++) {
        if (strcmp(fields[i].name, name) == 0) return &fields[i];
    }
    return NULL;
}

const char *ssmq_field_kind_name(ssmq_field_kind kind) {
    static const char *const names[] = {
        [SSMQ_KIND_IDENTITY] = "identity",     [SSMQ_KIND_SETTING] = "setting",
        [SSMQ_KIND_PROVENANCE] = "provenance", [SSMQ_KIND_RESULT] = "result",
        [SSMQ_KIND_MEASURED] = "measured",
    };
    return (size_t)kind < sizeof names / sizeof names[0] ? names[kind] : "unknown";
}

const char *ssmq_field_type_name(ssmq_field_type type) {
    switch (type) {
    case SSMQ_FIELD_STR:
        return "text";
    case SSMQ_FIELD_I64:
        return "integer";
    case SSMQ_FIELD_F64:
        return "number";
    }
    return "unknown";
}

static const char *text_of(const ssmq_record *record, const ssmq_field *field) {
    return (const char *)record + field->offset;
}

static int64_t i64_of(const ssmq_record *record, const ssmq_field *field) {
    int64_t value;
    memcpy(&value, (const char *)record + field->offset, sizeof value);
    return value;
}

static double f64_of(const ssmq_record *record, const ssmq_field *field) {
    double value;
    memcpy(&value, (const char *)record + field->offset, sizeof value);
    return value;
}

void ssmq_record_init(ssmq_record *record) {
#define SSMQ_STR(kind, name, bytes, unit, doc) .name = "",
#define SSMQ_I64(kind, name, unit, doc)        .name = -1,
#define SSMQ_F64(kind, name, unit, doc)        .name = NAN,
    static const ssmq_record null = {SSMQ_RECORD_FIELDS(SSMQ_STR, SSMQ_I64, SSMQ_F64)};
#undef SSMQ_STR
#undef SSMQ_I64
#undef SSMQ_F64
    *record = null;
}

void ssmq_record_add_json(const ssmq_record *record, ssmq_str *out) {
    for (size_t i = 0; i < N_FIELDS; i++) {
        const ssmq_field *field = &fields[i];
        ssmq_str_add(out, i == 0 ? "{\"" : ", \"", i == 0 ? 2 : 3);
        ssmq_str_add(out, field->name, field->name_bytes);
        ssmq_str_add(out, "\": ", 3);
        if (field->type == SSMQ_FIELD_STR) {
            const char *text = text_of(record, field);
            ssmq_str_add_json(out, text, strnlen(text, field->bytes));
        } else if (field->type == SSMQ_FIELD_F64) {
            ssmq_str_add_json_f64(out, f64_of(record, field));
        } else if (i64_of(record, field) == -1) {
            ssmq_str_add(out, "null", 4);
        } else {
            ssmq_str_addf(out, "%" PRId64, i64_of(record, field));
        }
    }
    ssmq_str_add(out, "}", 1);
}

static ssmq_status wrong_type(const ssmq_field *field, const ssmq_json *value, ssmq_err *err) {
    return SSMQ_FAIL(err, CONFIG, "%s: is %s, must be %s", field->name,
                     ssmq_json_type_name(ssmq_json_type_of(value)),
                     field->type == SSMQ_FIELD_STR   ? "a string"
                     : field->type == SSMQ_FIELD_I64 ? "an integer or null"
                                                     : "a number or null");
}

static ssmq_status read_field(ssmq_record *out, const ssmq_field *field, const ssmq_json *value,
                              ssmq_err *err) {
    char *place = (char *)out + field->offset;
    if (ssmq_json_type_of(value) == SSMQ_JSON_NULL) return SSMQ_OK;
    if (field->type == SSMQ_FIELD_STR) {
        size_t n_bytes = 0;
        const char *text = ssmq_json_string(value, &n_bytes);
        if (text == NULL) return wrong_type(field, value, err);
        if (strlen(text) != n_bytes) {
            return SSMQ_FAIL(err, CONFIG, "%s: holds a zero character", field->name);
        }
        /* A text with bytes that are no UTF-8 grows when it is written (U+FFFD for each) and may
         * no longer fit; it is cut then as it would have been before. */
        ssmq_field_set(place, field->bytes, text);
    } else if (field->type == SSMQ_FIELD_I64) {
        int64_t number = 0;
        if (!ssmq_json_i64(value, &number)) return wrong_type(field, value, err);
        memcpy(place, &number, sizeof number);
    } else {
        double number = 0.0;
        if (!ssmq_json_f64(value, &number)) return wrong_type(field, value, err);
        memcpy(place, &number, sizeof number);
    }
    return SSMQ_OK;
}

ssmq_status ssmq_record_from_json(ssmq_record *out, const ssmq_json *object, ssmq_err *err) {
    ssmq_record_init(out);
    if (ssmq_json_type_of(object) != SSMQ_JSON_OBJECT) {
        return SSMQ_FAIL(err, CONFIG, "a record is %s, must be an object",
                         ssmq_json_type_name(ssmq_json_type_of(object)));
    }
    size_t expected = 0;
    for (ssmq_json_iter it = ssmq_json_begin(object); ssmq_json_next(&it);) {
        /* Members normally come in table order, which saves the search. */
        const ssmq_field *field = ssmq_record_field(expected);
        if (field == NULL || strcmp(field->name, it.key) != 0) {
            field = ssmq_record_field_named(it.key);
        }
        if (field == NULL) return SSMQ_FAIL(err, CONFIG, "%s: no such field", it.key);
        expected = (size_t)(field - fields) + 1;
        SSMQ_TRY(read_field(out, field, it.value, err));
    }
    return SSMQ_OK;
}

void ssmq_record_add_csv_header(ssmq_str *out) {
    for (size_t i = 0; i < N_FIELDS; i++) {
        ssmq_str_addf(out, "%s%s", i == 0 ? "" : ",", fields[i].name);
    }
    ssmq_str_add(out, "\n", 1);
}

static void add_csv_text(const char *text, size_t n_bytes, ssmq_str *out) {
    bool has_blank_end = n_bytes > 0 && (text[0] == ' ' || text[n_bytes - 1] == ' ');
    bool is_quoted = has_blank_end;
    for (size_t i = 0; i < n_bytes; i++) {
        is_quoted |= text[i] == ',' || text[i] == '"' || text[i] == '\n' || text[i] == '\r';
    }
    if (!is_quoted) {
        ssmq_str_add(out, text, n_bytes);
        return;
    }
    ssmq_str_add(out, "\"", 1);
    for (size_t i = 0; i < n_bytes; i++) {
        ssmq_str_add(out, "\"\"", text[i] == '"' ? 1 : 0);
        ssmq_str_add(out, text + i, 1);
    }
    ssmq_str_add(out, "\"", 1);
}

void ssmq_record_add_csv(const ssmq_record *record, ssmq_str *out) {
    for (size_t i = 0; i < N_FIELDS; i++) {
        const ssmq_field *field = &fields[i];
        ssmq_str_add(out, ",", i == 0 ? 0 : 1);
        if (field->type == SSMQ_FIELD_STR) {
            const char *text = text_of(record, field);
            add_csv_text(text, strnlen(text, field->bytes), out);
        } else if (field->type == SSMQ_FIELD_F64) {
            double value = f64_of(record, field);
            if (isfinite(value)) ssmq_str_addf(out, "%.17g", value);
        } else if (i64_of(record, field) != -1) {
            ssmq_str_addf(out, "%" PRId64, i64_of(record, field));
        }
    }
    ssmq_str_add(out, "\n", 1);
}
