/* SPDX-License-Identifier: Apache-2.0 */
/* store/h5.h - what store/ does with the HDF5 library: datasets with the same filters everywhere,
 * dimension scales, attributes, and errors as one sentence. Internal to store/. */
#ifndef SSMQ_STORE_H5_H
#define SSMQ_STORE_H5_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hdf5.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { H5_MAX_RANK = 8 };

/* The file being written or read; path is for messages. */
typedef struct h5_file {
    hid_t id;
    const char *path;
} h5_file;

/* A dataset to create. unit and long_name become attributes (NULL: none). */
typedef struct h5_spec {
    const char *name;
    hid_t type; /* borrowed */
    int rank;
    hsize_t dims[H5_MAX_RANK];
    hsize_t chunk_items; /* rank 1: items a chunk; 0: chosen here */
    bool is_growing;     /* rank 1: may be extended; dims[0] is its first size */
    const void *fill;    /* of the dataset's type; NULL: zeros */
    const char *unit;
    const char *long_name;
} h5_spec;

/* Turns HDF5's own error printing off. */
void h5_quiet(void);

/* "PATH: cannot WHAT: innermost reason".  Returns IO, or NOMEM if HDF5 ran out of memory. */
ssmq_status h5_fail(const h5_file *file, const char *what, ssmq_err *err);

/* Where the function owns nothing yet; and where it does, with its `status`. */
#define H5_TRY(file, call, what, err)                                                              \
    do {                                                                                           \
        if ((call) < 0) return h5_fail((file), (what), (err));                                     \
    } while (0)
#define H5_TRY_OR(file, call, what, err, label)                                                    \
    do {                                                                                           \
        if ((call) < 0) {                                                                          \
            status = h5_fail((file), (what), (err));                                               \
            goto label;                                                                            \
        }                                                                                          \
    } while (0)

/* Variable-length UTF-8 text.  Owns: the type, H5Tclose(). */
hid_t h5_text_type(void);
/* Fixed UTF-8 text with a terminating zero, for members of compounds.  Owns: H5Tclose(). */
hid_t h5_field_text_type(size_t n_bytes);

/* Owns: *out, H5Gclose(). */
SSMQ_MUST_USE ssmq_status h5_group(hid_t *out, const h5_file *file, hid_t parent, const char *name,
                                   ssmq_err *err);

/* Attributes of an object. */
SSMQ_MUST_USE ssmq_status h5_set_text(const h5_file *file, hid_t object, const char *name,
                                      const char *text, ssmq_err *err);
SSMQ_MUST_USE ssmq_status h5_set_numbers(const h5_file *file, hid_t object, const char *name,
                                         hid_t type, const void *values, size_t n, ssmq_err *err);

/* A chunked dataset with shuffle, gzip and a checksum on each chunk (none of them if it is empty
 * for good).  Owns: *out, H5Dclose(). */
SSMQ_MUST_USE ssmq_status h5_create(hid_t *out, const h5_file *file, hid_t parent,
                                    const h5_spec *spec, ssmq_err *err);
/* All of a dataset. */
SSMQ_MUST_USE ssmq_status h5_write(const h5_file *file, hid_t dataset, hid_t type,
                                   const void *values, ssmq_err *err);
/* Items [begin, begin + n) of a dataset of rank 1; a growing one is extended to hold them. */
SSMQ_MUST_USE ssmq_status h5_write_part(const h5_file *file, hid_t dataset, hid_t type,
                                        const void *values, hsize_t begin, hsize_t n,
                                        ssmq_err *err);

/* A coordinate: a dimension scale of rank 1 with its values (char ** for the text type).
 * Owns: *out, H5Dclose(). */
SSMQ_MUST_USE ssmq_status h5_coordinate(hid_t *out, const h5_file *file, hid_t parent,
                                        const h5_spec *spec, const void *values, ssmq_err *err);
SSMQ_MUST_USE ssmq_status h5_attach(const h5_file *file, hid_t dataset, hid_t scale, int axis,
                                    ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
