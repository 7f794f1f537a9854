/* SPDX-License-Identifier: Apache-2.0 */
/* model/model_image.h - the files of an opened checkpoint one after another in one stretch of
 * memory, so that processes without the files can open the same model. */
#ifndef SSMQ_MODEL_MODEL_IMAGE_H
#define SSMQ_MODEL_MODEL_IMAGE_H

#include <stdint.h>

#include "base/file.h"
#include "base/status.h"
#include "model/model.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SSMQ_IMAGE_NAME_BYTES = 256 };

/* A file of the checkpoint: part 0 is its configuration, the tensor files follow by name. */
typedef struct ssmq_image_part {
    char name[SSMQ_IMAGE_NAME_BYTES]; /* in the checkpoint's folder */
    int64_t n_bytes;
} ssmq_image_part;

typedef struct ssmq_model_image {
    ssmq_image_part *parts; /* [n_parts]; plain data, for sending */
    unsigned char **bytes;  /* [n_parts] where each part is; borrowed */
    int64_t n_parts;
} ssmq_model_image;

/* The files of a model that is not random; its bytes are borrowed and not to be written.
 * Owns: the lists of *out, ssmq_model_image_free().  Fails: NOMEM, CONFIG (file name too long). */
SSMQ_MUST_USE ssmq_status ssmq_model_image_of(ssmq_model_image *out, const ssmq_model *model,
                                              ssmq_err *err);
/* An image of n_parts parts without names, sizes and places yet.  Owns: *out.  Fails: NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_model_image_init(ssmq_model_image *out, int64_t n_parts,
                                                ssmq_err *err);
/* Bytes of the stretch that all parts take. */
int64_t ssmq_model_image_bytes(const ssmq_model_image *image);
/* Places the parts in a stretch of so many bytes. */
void ssmq_model_image_place(ssmq_model_image *image, unsigned char *stretch);
void ssmq_model_image_free(ssmq_model_image *image);

/* As ssmq_model_open(), from a filled stretch at which image is placed; `path` gives the model its
 * name and messages their files. The hash is computed from the bytes at hand. Takes *map, the
 * stretch, over.  Owns: *out, ssmq_model_close().  Fails: CONFIG, NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_model_open_image(ssmq_model **out, const char *path,
                                                const ssmq_model_image *image, ssmq_map *map,
                                                ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
