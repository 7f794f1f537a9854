/* SPDX-License-Identifier: Apache-2.0 */
/* /table/trials back into records. */
#include <stdio.h>

#include <hdf5.h>

#include "base/file.h"
#include "base/mem.h"
#include "store/parts.h"
#include "store/store.h"

enum { READ_ROWS = 1024 };

const char *ssmq_store_hdf5_version(void) {
    static char version[32];
    unsigned major = 0;
    unsigned minor = 0;
    unsigned release = 0;
    if (H5get_libversion(&major, &minor, &release) < 0) return "unknown";
    (void)snprintf(version, sizeof version, "%u.%u.%u", major, minor, release);
    return version;
}

typedef struct reader {
    h5_file file;
    hid_t trials, type, space;
    hsize_t n_rows;
} reader;

static void close_reader(reader *r) {
    if (r->space >= 0) (void)H5Sclose(r->space);
    if (r->type >= 0) (void)H5Tclose(r->type);
    if (r->trials >= 0) (void)H5Dclose(r->trials);
    if (r->file.id >= 0) (void)H5Fclose(r->file.id);
    (void)H5Eclear2(H5E_DEFAULT);
}

static ssmq_status check_version(const reader *r, ssmq_err *err) {
    int32_t version = -1;
    hid_t attribute = H5Aopen(r->file.id, "schema_version", H5P_DEFAULT);
    herr_t result = attribute < 0 ? -1 : H5Aread(attribute, H5T_NATIVE_INT32, &version);
    if (attribute >= 0) (void)H5Aclose(attribute);
    if (result < 0) return SSMQ_FAIL(err, CONFIG, "%s: not a results file of ssmq", r->file.path);
    if (version == SSMQ_SCHEMA_VERSION) return SSMQ_OK;
    return SSMQ_FAIL(err, CONFIG, "%s: written in version %d, this program has %d", r->file.path,
                     (int)version, SSMQ_SCHEMA_VERSION);
}

static ssmq_status open_reader(reader *r, const char *path, ssmq_err *err) {
    *r = (reader){.file = {-1, path}, .trials = -1, .type = -1, .space = -1};
    if (!ssmq_path_exists(path)) return SSMQ_FAIL(err, CONFIG, "%s: no such file", path);
    if (H5Fis_hdf5(path) <= 0) return SSMQ_FAIL(err, CONFIG, "%s: not an HDF5 file", path);
    r->file.id = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    H5_TRY(&r->file, r->file.id, "open", err);
    SSMQ_TRY(check_version(r, err));
    r->trials = H5Dopen2(r->file.id, "/table/trials", H5P_DEFAULT);
    r->type = table_type();
    r->space = r->trials >= 0 ? H5Dget_space(r->trials) : -1;
    hid_t stored = r->trials >= 0 ? H5Dget_type(r->trials) : -1;
    bool is_same = stored >= 0 && r->type >= 0 && H5Tequal(stored, r->type) > 0;
    if (stored >= 0) (void)H5Tclose(stored);
    if (!is_same || H5Sget_simple_extent_ndims(r->space) != 1) {
        return SSMQ_FAIL(err, CONFIG, "%s: /table/trials has not the fields of this program", path);
    }
    H5_TRY(&r->file, H5Sget_simple_extent_dims(r->space, &r->n_rows, NULL), "read /table/trials",
           err);
    return SSMQ_OK;
}

static ssmq_status read_slab(const reader *r, hsize_t begin, hsize_t n, ssmq_record *rows,
                             ssmq_err *err) {
    static const char what[] = "read /table/trials";
    ssmq_status status = SSMQ_OK;
    hid_t memory = H5Screate_simple(1, &n, NULL);
    H5_TRY(&r->file, memory, what, err);
    H5_TRY_OR(&r->file, H5Sselect_hyperslab(r->space, H5S_SELECT_SET, &begin, NULL, &n, NULL), what,
              err, close_memory);
    H5_TRY_OR(&r->file, H5Dread(r->trials, r->type, memory, r->space, H5P_DEFAULT, rows), what, err,
              close_memory);
close_memory:
    (void)H5Sclose(memory);
    return status;
}

/* Whatever the file holds, a text ends inside its field. */
static void end_texts(ssmq_record *record) {
    for (size_t i = 0; i < ssmq_record_n_fields(); i++) {
        const ssmq_field *field = ssmq_record_field(i);
        if (field->type != SSMQ_FIELD_STR) continue;
        ((char *)record)[field->offset + field->bytes - 1] = '\0';
    }
}

ssmq_status ssmq_store_read(const char *path,
                            ssmq_status (*row)(void *context, const ssmq_record *record,
                                               ssmq_err *err),
                            void *context, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    reader r;
    ssmq_record *rows = NULL;
    h5_quiet();
    SSMQ_TRY_OR(open_reader(&r, path, err), close_all);
    SSMQ_TRY_OR(ssmq_calloc(&rows, READ_ROWS, sizeof *rows, err), close_all);
    for (hsize_t begin = 0; begin < r.n_rows; begin += READ_ROWS) {
        hsize_t n = r.n_rows - begin < READ_ROWS ? r.n_rows - begin : READ_ROWS;
        SSMQ_TRY_OR(read_slab(&r, begin, n, rows, err), close_all);
        for (hsize_t i = 0; i < n; i++) {
            end_texts(&rows[i]);
            SSMQ_TRY_OR(row(context, &rows[i], err), close_all);
        }
    }
close_all:
    ssmq_free(rows);
    close_reader(&r);
    return status;
}
