/* SPDX-License-Identifier: Apache-2.0 */
/* model/model_files.h - the tensor files of one checkpoint: mapped, checked, and joined into one
 * list of tensors under their Transformers names, whatever the family called them. */
#ifndef SSMQ_MODEL_MODEL_FILES_H
#define SSMQ_MODEL_MODEL_FILES_H

#include <stdbool.h>
#include <stddef.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/status.h"
#include "model/model.h"
#include "model/model_image.h"
#include "model/safetensors.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SSMQ_MAX_SHARDS = 1024 };

/* One tensor file. */
typedef struct ssmq_model_file {
    char *path;
    ssmq_map map;               /* empty if the bytes came from an image */
    const unsigned char *bytes; /* of the map or of the image */
    size_t n_bytes;
    ssmq_safetensors tensors;
} ssmq_model_file;

/* A tensor under its Transformers name. */
typedef struct ssmq_model_entry {
    const char *name;
    const ssmq_safetensor *tensor;
    const char *path; /* of its file */
    bool is_used;
} ssmq_model_entry;

struct ssmq_model_files {
    ssmq_model_file *files; /* by name */
    size_t n_files;
    ssmq_model_entry *entries; /* by name */
    size_t n_entries;
    char *config_path; /* the configuration's file and text; NULL of a random model */
    char *config;
    size_t n_config_bytes;
    unsigned char *generated; /* tensors of a random model; no files then */
    ssmq_map image;           /* files that came in one stretch */
};

/* Maps model.safetensors, else the shards of model.safetensors.index.json, else
 * consolidated.safetensors.  Owns: *out, ssmq_model_files_close().
 * Fails: CONFIG (none of them, or one that breaks a rule), IO, NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_model_files_open(ssmq_model_files **out, const char *folder,
                                                ssmq_err *err);
/* The tensor files of an image, whose stretch it takes over.  Owns: as above.
 * Fails: CONFIG, NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_model_files_from(ssmq_model_files **out, const char *folder,
                                                const ssmq_model_image *image, ssmq_map *map,
                                                ssmq_err *err);
void ssmq_model_files_close(ssmq_model_files *files);

/* NULL if there is no such tensor. */
ssmq_model_entry *ssmq_model_files_find(const ssmq_model_files *files, const char *name);

/* Adds the bytes of every file, in name order. */
void ssmq_model_files_hash(const ssmq_model_files *files, ssmq_sha256 *sha);

/* Shape of "random:NAME".  Fails: CONFIG (no such name). */
SSMQ_MUST_USE ssmq_status ssmq_random_shape(ssmq_shape *out, const char *path, ssmq_err *err);
/* Fills a model whose shape, name and layers are set with random tensors.
 * Owns: model->files, ssmq_model_files_close().  Fails: NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_random_fill(ssmq_model *model, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
