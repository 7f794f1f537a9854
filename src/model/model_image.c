/* SPDX-License-Identifier: Apache-2.0 */
#include "model/model_image.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "model/model_files.h"

/* Parts begin at multiples of this, as mapped files do. */
enum { ALIGN_BYTES = 64 };

static int64_t padded(int64_t n_bytes) {
    return (n_bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

ssmq_status ssmq_model_image_init(ssmq_model_image *out, int64_t n_parts, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    memset(out, 0, sizeof *out);
    SSMQ_TRY_OR(ssmq_calloc(&out->parts, (size_t)n_parts, sizeof *out->parts, err), fail);
    SSMQ_TRY_OR(ssmq_calloc(&out->bytes, (size_t)n_parts, sizeof *out->bytes, err), fail);
    out->n_parts = n_parts;
    return SSMQ_OK;
fail:
    ssmq_model_image_free(out);
    return status;
}

static ssmq_status set_part(ssmq_model_image *image, size_t i, const char *path,
                            const unsigned char *bytes, size_t n_bytes, ssmq_err *err) {
    char name[SSMQ_PATH_BYTES];
    ssmq_path_name(name, sizeof name, path);
    if (strlen(name) >= SSMQ_IMAGE_NAME_BYTES) {
        return SSMQ_FAIL(err, CONFIG, "%s: file name too long", path);
    }
    ssmq_field_set(image->parts[i].name, SSMQ_IMAGE_NAME_BYTES, name);
    image->parts[i].n_bytes = (int64_t)n_bytes;
    image->bytes[i] = (unsigned char *)bytes;
    return SSMQ_OK;
}

ssmq_status ssmq_model_image_of(ssmq_model_image *out, const ssmq_model *model, ssmq_err *err) {
    const ssmq_model_files *files = model->files;
    SSMQ_TRY(ssmq_model_image_init(out, (int64_t)files->n_files + 1, err));
    ssmq_status status = set_part(out, 0, files->config_path, (unsigned char *)files->config,
                                  files->n_config_bytes, err);
    for (size_t i = 0; i < files->n_files && status == SSMQ_OK; i++) {
        const ssmq_model_file *file = &files->files[i];
        status = set_part(out, i + 1, file->path, file->bytes, file->n_bytes, err);
    }
    if (status != SSMQ_OK) ssmq_model_image_free(out);
    return status;
}

int64_t ssmq_model_image_bytes(const ssmq_model_image *image) {
    int64_t n_bytes = 0;
    for (int64_t i = 0; i < image->n_parts; i++) n_bytes += padded(image->parts[i].n_bytes);
    return n_bytes;
}

void ssmq_model_image_place(ssmq_model_image *image, unsigned char *stretch) {
    for (int64_t i = 0; i < image->n_parts; i++) {
        image->bytes[i] = stretch;
        stretch += padded(image->parts[i].n_bytes);
    }
}

void ssmq_model_image_free(ssmq_model_image *image) {
    ssmq_free(image->parts);
    ssmq_free(image->bytes);
    memset(image, 0, sizeof *image);
}
