/* SPDX-License-Identifier: Apache-2.0 */
/* /table: every field of every record as one compound row a trial, and what the fields mean. */
#include <string.h>

#include <hdf5.h>

#include "base/mem.h"
#include "store/parts.h"

enum {
    SLAB_ROWS = 512,
    /* About half a MiB; a slab is a whole number of chunks, so that no chunk is packed twice. */
    CHUNK_ROWS = 128
};

typedef struct field_row {
    char name[32];
    char kind[16];
    char type[16];
    char unit[16];
    char doc[160];
} field_row;

#define SSMQ_STR(kind, name, bytes, unit, doc) SSMQ_NUMBER(kind, name, unit, doc)
#define SSMQ_NUMBER(kind, name, unit, doc)                                                         \
    _Static_assert(sizeof(#name) <= 32 && sizeof(unit) <= 16 && sizeof(doc) <= 160,                \
                   "field_row is too small for " #name);
SSMQ_RECORD_FIELDS(SSMQ_STR, SSMQ_NUMBER, SSMQ_NUMBER)
#undef SSMQ_STR
#undef SSMQ_NUMBER

static herr_t insert_text(hid_t compound, const char *name, size_t offset, size_t n_bytes) {
    hid_t text = h5_field_text_type(n_bytes);
    if (text < 0) return -1;
    herr_t result = H5Tinsert(compound, name, offset, text);
    (void)H5Tclose(text);
    return result;
}

hid_t table_type(void) {
    hid_t type = H5Tcreate(H5T_COMPOUND, sizeof(ssmq_record));
    for (size_t i = 0; type >= 0 && i < ssmq_record_n_fields(); i++) {
        const ssmq_field *field = ssmq_record_field(i);
        herr_t result = -1;
        if (field->type == SSMQ_FIELD_STR) {
            result = insert_text(type, field->name, field->offset, field->bytes);
        } else {
            bool is_i64 = field->type == SSMQ_FIELD_I64;
            result = H5Tinsert(type, field->name, field->offset,
                               is_i64 ? H5T_STD_I64LE : H5T_IEEE_F64LE);
        }
        if (result < 0) {
            (void)H5Tclose(type);
            return -1;
        }
    }
    return type;
}

ssmq_status table_open(table *out, const h5_file *file, size_t n_rows, ssmq_err *err) {
    *out = (table){.file = file, .group = -1, .trials = -1, .type = -1};
    SSMQ_TRY(ssmq_calloc(&out->rows, SLAB_ROWS, sizeof *out->rows, err));
    SSMQ_TRY(h5_group(&out->group, file, file->id, "table", err));
    out->type = table_type();
    H5_TRY(file, out->type, "describe a record", err);
    const h5_spec spec = {.name = "trials",
                          .type = out->type,
                          .rank = 1,
                          .dims = {n_rows},
                          .chunk_items = CHUNK_ROWS,
                          .long_name = "one row a trial; fields are described in /table/fields"};
    return h5_create(&out->trials, file, out->group, &spec, err);
}

static ssmq_status write_slab(table *t, ssmq_err *err) {
    if (t->n_rows == 0) return SSMQ_OK;
    SSMQ_TRY(h5_write_part(t->file, t->trials, t->type, t->rows, t->n_written, t->n_rows, err));
    t->n_written += t->n_rows;
    t->n_rows = 0;
    return SSMQ_OK;
}

ssmq_status table_add(table *t, const ssmq_record *record, ssmq_err *err) {
    memcpy(&t->rows[t->n_rows++], record, sizeof *record);
    return t->n_rows == SLAB_ROWS ? write_slab(t, err) : SSMQ_OK;
}

static ssmq_status write_index(table *t, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    int32_t *index = NULL;
    hid_t scale = -1;
    SSMQ_TRY(ssmq_calloc(&index, (size_t)t->n_written, sizeof *index, err));
    for (hsize_t i = 0; i < t->n_written; i++) index[i] = (int32_t)i;
    const h5_spec spec = {.name = "trial",
                          .type = H5T_STD_I32LE,
                          .rank = 1,
                          .dims = {t->n_written},
                          .unit = "1",
                          .long_name = "row of /table/trials"};
    SSMQ_TRY_OR(h5_coordinate(&scale, t->file, t->group, &spec, index, err), free_index);
    status = h5_attach(t->file, t->trials, scale, 0, err);
    (void)H5Dclose(scale);
free_index:
    ssmq_free(index);
    return status;
}

static hid_t field_row_type(void) {
    hid_t type = H5Tcreate(H5T_COMPOUND, sizeof(field_row));
    if (type < 0) return type;
    if (insert_text(type, "name", offsetof(field_row, name), sizeof(((field_row *)0)->name)) < 0 ||
        insert_text(type, "kind", offsetof(field_row, kind), sizeof(((field_row *)0)->kind)) < 0 ||
        insert_text(type, "type", offsetof(field_row, type), sizeof(((field_row *)0)->type)) < 0 ||
        insert_text(type, "unit", offsetof(field_row, unit), sizeof(((field_row *)0)->unit)) < 0 ||
        insert_text(type, "doc", offsetof(field_row, doc), sizeof(((field_row *)0)->doc)) < 0) {
        (void)H5Tclose(type);
        return -1;
    }
    return type;
}

static ssmq_status write_fields(table *t, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    size_t n = ssmq_record_n_fields();
    field_row *rows = NULL;
    const char **names = NULL;
    hid_t dataset = -1;
    hid_t scale = -1;
    hid_t text = h5_text_type();
    hid_t type = field_row_type();
    H5_TRY_OR(t->file, type < 0 ? type : text, "describe the fields", err, close_all);
    SSMQ_TRY_OR(ssmq_calloc(&rows, n, sizeof *rows, err), close_all);
    SSMQ_TRY_OR(ssmq_calloc(&names, n, sizeof *names, err), close_all);
    for (size_t i = 0; i < n; i++) {
        const ssmq_field *field = ssmq_record_field(i);
        names[i] = field->name;
        ssmq_field_set(rows[i].name, sizeof rows[i].name, field->name);
        ssmq_field_set(rows[i].kind, sizeof rows[i].kind, ssmq_field_kind_name(field->kind));
        ssmq_field_set(rows[i].type, sizeof rows[i].type, ssmq_field_type_name(field->type));
        ssmq_field_set(rows[i].unit, sizeof rows[i].unit, field->unit);
        ssmq_field_set(rows[i].doc, sizeof rows[i].doc, field->doc);
    }
    const h5_spec scale_spec = {.name = "field",
                                .type = text,
                                .rank = 1,
                                .dims = {n},
                                .long_name = "field of /table/trials"};
    const h5_spec spec = {.name = "fields",
                          .type = type,
                          .rank = 1,
                          .dims = {n},
                          .long_name = "unit and meaning of the fields of /table/trials"};
    SSMQ_TRY_OR(h5_coordinate(&scale, t->file, t->group, &scale_spec, names, err), close_all);
    SSMQ_TRY_OR(h5_create(&dataset, t->file, t->group, &spec, err), close_all);
    SSMQ_TRY_OR(h5_write(t->file, dataset, type, rows, err), close_all);
    status = h5_attach(t->file, dataset, scale, 0, err);
close_all:
    if (dataset >= 0) (void)H5Dclose(dataset);
    if (scale >= 0) (void)H5Dclose(scale);
    if (type >= 0) (void)H5Tclose(type);
    if (text >= 0) (void)H5Tclose(text);
    ssmq_free(names);
    ssmq_free(rows);
    return status;
}

ssmq_status table_finish(table *t, ssmq_err *err) {
    SSMQ_TRY(write_slab(t, err));
    SSMQ_TRY(write_index(t, err));
    return write_fields(t, err);
}

void table_close(table *t) {
    if (t->trials >= 0) (void)H5Dclose(t->trials);
    if (t->type >= 0) (void)H5Tclose(t->type);
    if (t->group >= 0) (void)H5Gclose(t->group);
    ssmq_free(t->rows);
    *t = (table){.group = -1, .trials = -1, .type = -1};
}
