/* SPDX-License-Identifier: Apache-2.0 */
#include "store/h5.h"

#include <hdf5_hl.h>
#include <stdio.h>
#include <string.h>

#include <hdf5.h>

enum {
    /* Level 4 took 1.4 times as long for 100,000 trials and saved a seventh of the file (zlib
     * 1.2.13, 2026-11). */
    GZIP_LEVEL = 1,
    MAX_CHUNK_BYTES = 512 * 1024,
    GROWING_CHUNK_ITEMS = 16384,
    REASON_BYTES = 320
};

typedef struct reason {
    char text[REASON_BYTES];
    bool is_memory;
} reason;

/* The system's words for a failed read or write are at the end of a long description. */
static herr_t take_innermost(unsigned n, const H5E_error2_t *error, void *context) {
    static const char marker[] = "error message = '";
    reason *out = context;
    out->is_memory |= error->maj_num == H5E_RESOURCE && error->min_num == H5E_NOSPACE;
    if (n > 0 || error->desc == NULL) return 0;
    const char *system_text = strstr(error->desc, marker);
    if (system_text == NULL) {
        (void)snprintf(out->text, sizeof out->text, "%s", error->desc);
        return 0;
    }
    system_text += sizeof marker - 1;
    (void)snprintf(out->text, sizeof out->text, "%.*s", (int)strcspn(system_text, "'"),
                   system_text);
    return 0;
}

void h5_quiet(void) {
    (void)H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
}

ssmq_status h5_fail(const h5_file *file, const char *what, ssmq_err *err) {
    reason why = {.text = "no reason given"};
    (void)H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, take_innermost, &why);
    (void)H5Eclear2(H5E_DEFAULT);
    if (why.is_memory)
        return SSMQ_FAIL(err, NOMEM, "%s: cannot %s: out of memory", file->path, what);
    return SSMQ_FAIL(err, IO, "%s: cannot %s: %s", file->path, what, why.text);
}

hid_t h5_text_type(void) {
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type >= 0) (void)H5Tset_size(type, H5T_VARIABLE);
    if (type >= 0) (void)H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

hid_t h5_field_text_type(size_t n_bytes) {
    hid_t type = H5Tcopy(H5T_C_S1);
    if (type >= 0) (void)H5Tset_size(type, n_bytes);
    if (type >= 0) (void)H5Tset_cset(type, H5T_CSET_UTF8);
    return type;
}

ssmq_status h5_group(hid_t *out, const h5_file *file, hid_t parent, const char *name,
                     ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    *out = -1;
    hid_t plist = H5Pcreate(H5P_GROUP_CREATE);
    H5_TRY(file, plist, "create a group", err);
    /* Times in the file would make equal content unequal bytes. */
    H5_TRY_OR(file, H5Pset_obj_track_times(plist, false), "create a group", err, close_plist);
    *out = H5Gcreate2(parent, name, H5P_DEFAULT, plist, H5P_DEFAULT);
    H5_TRY_OR(file, *out, "create a group", err, close_plist);
close_plist:
    (void)H5Pclose(plist);
    return status;
}

static ssmq_status set_attribute(const h5_file *file, hid_t object, const char *name, hid_t type,
                                 hid_t space, const void *values, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    H5_TRY(file, space, "write an attribute", err);
    hid_t attribute = H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
    H5_TRY_OR(file, attribute, "write an attribute", err, close_space);
    H5_TRY_OR(file, H5Awrite(attribute, type, values), "write an attribute", err, close_attribute);
close_attribute:
    (void)H5Aclose(attribute);
close_space:
    (void)H5Sclose(space);
    return status;
}

ssmq_status h5_set_text(const h5_file *file, hid_t object, const char *name, const char *text,
                        ssmq_err *err) {
    hid_t type = h5_text_type();
    H5_TRY(file, type, "write an attribute", err);
    ssmq_status status = set_attribute(file, object, name, type, H5Screate(H5S_SCALAR), &text, err);
    (void)H5Tclose(type);
    return status;
}

ssmq_status h5_set_numbers(const h5_file *file, hid_t object, const char *name, hid_t type,
                           const void *values, size_t n, ssmq_err *err) {
    hsize_t dim = n;
    hid_t space = n == 1 ? H5Screate(H5S_SCALAR) : H5Screate_simple(1, &dim, NULL);
    return set_attribute(file, object, name, type, space, values, err);
}

/* Chunks of the dataset's own shape, the longest side halved until a chunk is small enough. */
static void choose_chunk(hsize_t *chunk, const h5_spec *spec) {
    hsize_t bytes = H5Tget_size(spec->type);
    for (int i = 0; i < spec->rank; i++) {
        chunk[i] = spec->dims[i];
        bytes *= chunk[i];
    }
    if (spec->is_growing) chunk[0] = GROWING_CHUNK_ITEMS;
    if (spec->chunk_items > 0 && (spec->is_growing || spec->chunk_items < chunk[0])) {
        chunk[0] = spec->chunk_items;
    }
    if (spec->is_growing || spec->chunk_items > 0) return;
    while (bytes > MAX_CHUNK_BYTES) {
        int longest = 0;
        for (int i = 1; i < spec->rank; i++) longest = chunk[i] > chunk[longest] ? i : longest;
        if (chunk[longest] <= 1) return;
        bytes /= chunk[longest];
        chunk[longest] = (chunk[longest] + 1) / 2;
        bytes *= chunk[longest];
    }
}

static ssmq_status set_layout(hid_t plist, const h5_file *file, const h5_spec *spec,
                              ssmq_err *err) {
    static const char what[] = "lay out a dataset";
    hsize_t chunk[H5_MAX_RANK] = {0};
    bool is_empty = false;
    for (int i = 0; i < spec->rank; i++) is_empty |= spec->dims[i] == 0 && !spec->is_growing;
    H5_TRY(file, H5Pset_obj_track_times(plist, false), what, err);
    if (spec->fill != NULL) {
        H5_TRY(file, H5Pset_fill_value(plist, spec->type, spec->fill), what, err);
    }
    /* HDF5 refuses checksums for texts of variable length: the chunk would hold references only. */
    bool is_text = H5Tis_variable_str(spec->type) > 0;
    if (spec->rank == 0 || is_empty || is_text) return SSMQ_OK;
    choose_chunk(chunk, spec);
    H5_TRY(file, H5Pset_chunk(plist, spec->rank, chunk), what, err);
    H5_TRY(file, H5Pset_shuffle(plist), what, err);
    H5_TRY(file, H5Pset_deflate(plist, GZIP_LEVEL), what, err);
    H5_TRY(file, H5Pset_fletcher32(plist), what, err);
    return SSMQ_OK;
}

ssmq_status h5_create(hid_t *out, const h5_file *file, hid_t parent, const h5_spec *spec,
                      ssmq_err *err) {
    static const hsize_t unlimited = H5S_UNLIMITED;
    ssmq_status status = SSMQ_OK;
    hid_t space = -1;
    hid_t plist = H5Pcreate(H5P_DATASET_CREATE);
    *out = -1;
    H5_TRY(file, plist, "create a dataset", err);
    SSMQ_TRY_OR(set_layout(plist, file, spec, err), close_plist);
    space = spec->rank == 0
                ? H5Screate(H5S_SCALAR)
                : H5Screate_simple(spec->rank, spec->dims, spec->is_growing ? &unlimited : NULL);
    H5_TRY_OR(file, space, "create a dataset", err, close_plist);
    *out = H5Dcreate2(parent, spec->name, spec->type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    H5_TRY_OR(file, *out, "create a dataset", err, close_space);
    if (spec->unit != NULL) SSMQ_TRY_OR(h5_set_text(file, *out, "units", spec->unit, err), fail);
    if (spec->long_name != NULL) {
        SSMQ_TRY_OR(h5_set_text(file, *out, "long_name", spec->long_name, err), fail);
    }
    goto close_space;
fail:
    (void)H5Dclose(*out);
    *out = -1;
close_space:
    (void)H5Sclose(space);
close_plist:
    (void)H5Pclose(plist);
    return status;
}

ssmq_status h5_write(const h5_file *file, hid_t dataset, hid_t type, const void *values,
                     ssmq_err *err) {
    H5_TRY(file, H5Dwrite(dataset, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, values), "write a dataset",
           err);
    return SSMQ_OK;
}

ssmq_status h5_write_part(const h5_file *file, hid_t dataset, hid_t type, const void *values,
                          hsize_t begin, hsize_t n, ssmq_err *err) {
    static const char what[] = "write a dataset";
    ssmq_status status = SSMQ_OK;
    hsize_t size = 0;
    hsize_t end = begin + n;
    hid_t memory = H5Screate_simple(1, &n, NULL);
    hid_t space = H5Dget_space(dataset);
    H5_TRY_OR(file, memory < 0 ? memory : space, what, err, close_spaces);
    H5_TRY_OR(file, H5Sget_simple_extent_dims(space, &size, NULL), what, err, close_spaces);
    if (end > size) {
        H5_TRY_OR(file, H5Dset_extent(dataset, &end), what, err, close_spaces);
        (void)H5Sclose(space);
        space = H5Dget_space(dataset);
        H5_TRY_OR(file, space, what, err, close_spaces);
    }
    H5_TRY_OR(file, H5Sselect_hyperslab(space, H5S_SELECT_SET, &begin, NULL, &n, NULL), what, err,
              close_spaces);
    H5_TRY_OR(file, H5Dwrite(dataset, type, memory, space, H5P_DEFAULT, values), what, err,
              close_spaces);
close_spaces:
    if (space >= 0) (void)H5Sclose(space);
    if (memory >= 0) (void)H5Sclose(memory);
    return status;
}

ssmq_status h5_coordinate(hid_t *out, const h5_file *file, hid_t parent, const h5_spec *spec,
                          const void *values, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    SSMQ_TRY(h5_create(out, file, parent, spec, err));
    if (spec->dims[0] > 0) SSMQ_TRY_OR(h5_write(file, *out, spec->type, values, err), fail);
    H5_TRY_OR(file, H5DSset_scale(*out, spec->name), "make a dimension scale", err, fail);
    return SSMQ_OK;
fail:
    (void)H5Dclose(*out);
    *out = -1;
    return status;
}

ssmq_status h5_attach(const h5_file *file, hid_t dataset, hid_t scale, int axis, ssmq_err *err) {
    H5_TRY(file, H5DSattach_scale(dataset, scale, (unsigned)axis), "attach a dimension scale", err);
    return SSMQ_OK;
}
