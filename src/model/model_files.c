/* SPDX-License-Identifier: Apache-2.0 */
#include "model/model_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "json/json.h"

/* Enough for the names of every tensor of SSMQ_MAX_LAYERS layers. */
enum { MAX_INDEX_BYTES = 4 << 20 };

/* Maps the file unless its bytes are there. */
static ssmq_status open_file(ssmq_model_file *file, const char *folder, const char *name,
                             ssmq_err *err) {
    char path[SSMQ_PATH_BYTES];
    SSMQ_TRY(ssmq_path_join(path, folder, name, err));
    SSMQ_TRY(ssmq_strndup(&file->path, path, strlen(path), err));
    if (file->bytes == NULL) {
        SSMQ_TRY(ssmq_map_open(&file->map, path, err));
        file->bytes = file->map.bytes;
        file->n_bytes = file->map.n_bytes;
    }
    return ssmq_safetensors_parse(&file->tensors, file->bytes, file->n_bytes, file->path, err);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The different file names of a weight map, sorted.  Owns: *out, ssmq_free(); the texts belong to
 * the map. */
static ssmq_status list_shards(const char ***out, size_t *n, const ssmq_json *weight_map,
                               const char *path, ssmq_err *err) {
    const size_t n_members = ssmq_json_n_members(weight_map);
    if (n_members == 0) {
        return SSMQ_FAIL(err, CONFIG, "%s: weight_map is no object with members", path);
    }
    SSMQ_TRY(ssmq_calloc(out, n_members, sizeof **out, err));
    size_t n_names = 0;
    for (ssmq_json_iter it = ssmq_json_begin(weight_map); ssmq_json_next(&it);) {
        size_t n_bytes = 0;
        const char *name = ssmq_json_string(it.value, &n_bytes);
        if (name == NULL || strlen(name) != n_bytes || !ssmq_name_is_safe(name)) {
            return SSMQ_FAIL(err, CONFIG,
                             "%s: weight_map names a file that is no plain name in the same folder",
                             path);
        }
        (*out)[n_names++] = name;
    }
    qsort(*out, n_names, sizeof **out, by_text);
    for (size_t i = 0; i < n_names; i++) {
        if (*n == 0 || strcmp((*out)[*n - 1], (*out)[i]) != 0) (*out)[(*n)++] = (*out)[i];
    }
    if (*n <= SSMQ_MAX_SHARDS) return SSMQ_OK;
    return SSMQ_FAIL(err, CONFIG, "%s: %zu files, more than the limit of %d", path, *n,
                     SSMQ_MAX_SHARDS);
}

/* The weight map and the files agree on which file holds which tensor. */
static ssmq_status check_weight_map(const ssmq_model_files *files, const ssmq_json *weight_map,
                                    const char *path, ssmq_err *err) {
    size_t n_tensors = 0;
    for (size_t i = 0; i < files->n_files; i++) {
        const ssmq_model_file *file = &files->files[i];
        char file_name[SSMQ_PATH_BYTES];
        ssmq_path_name(file_name, sizeof file_name, file->path);
        n_tensors += file->tensors.n;
        for (size_t k = 0; k < file->tensors.n; k++) {
            const ssmq_json *value = NULL;
            size_t n_bytes = 0;
            const char *name = file->tensors.tensors[k].name;
            (void)ssmq_json_get(weight_map, name, &value);
            const char *listed = ssmq_json_string(value, &n_bytes);
            if (listed == NULL || strcmp(listed, file_name) != 0) {
                return SSMQ_FAIL(err, CONFIG,
                                 "%s: tensor %s is not in the weight_map for this file", file->path,
                                 name);
            }
        }
    }
    if (n_tensors == ssmq_json_n_members(weight_map)) return SSMQ_OK;
    return SSMQ_FAIL(err, CONFIG, "%s: weight_map lists %zu tensors, its files hold %zu", path,
                     ssmq_json_n_members(weight_map), n_tensors);
}

static ssmq_status open_shards(ssmq_model_files *files, const char *folder, const char *index_path,
                               ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    ssmq_json *index = NULL;
    const ssmq_json *weight_map = NULL;
    const char **names = NULL;
    size_t n_names = 0;
    SSMQ_TRY(ssmq_json_read(&index, index_path, MAX_INDEX_BYTES, err));
    (void)ssmq_json_get(index, "weight_map", &weight_map);
    SSMQ_TRY_OR(list_shards(&names, &n_names, weight_map, index_path, err), free_index);
    SSMQ_TRY_OR(ssmq_calloc(&files->files, n_names, sizeof *files->files, err), free_index);
    for (size_t i = 0; i < n_names; i++) {
        SSMQ_TRY_OR(open_file(&files->files[files->n_files++], folder, names[i], err), free_index);
    }
    status = check_weight_map(files, weight_map, index_path, err);
free_index:
    ssmq_free(names);
    ssmq_json_free(index);
    return status;
}

static ssmq_status open_folder(ssmq_model_files *files, const char *folder, ssmq_err *err) {
    static const char *const names[] = {"model.safetensors", "model.safetensors.index.json",
                                        "consolidated.safetensors"};
    char path[SSMQ_PATH_BYTES];
    for (int i = 0; i < 3; i++) {
        SSMQ_TRY(ssmq_path_join(path, folder, names[i], err));
        if (!ssmq_path_exists(path)) continue;
        if (i == 1) return open_shards(files, folder, path, err);
        SSMQ_TRY(ssmq_calloc(&files->files, 1, sizeof *files->files, err));
        files->n_files = 1;
        return open_file(&files->files[0], folder, names[i], err);
    }
    return SSMQ_FAIL(err, CONFIG,
                     "%s: no model.safetensors, model.safetensors.index.json or "
                     "consolidated.safetensors",
                     folder);
}

/* Mistral puts "model." before every name; state-spaces says "embedding". */
static const char *transformers_name(const char *name) {
    if (strncmp(name, "model.", 6) == 0) name += 6;
    if (strcmp(name, "backbone.embedding.weight") == 0) return "backbone.embeddings.weight";
    return name;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const ssmq_model_entry *)a)->name, ((const ssmq_model_entry *)b)->name);
}

static ssmq_status join_tensors(ssmq_model_files *files, ssmq_err *err) {
    size_t n = 0;
    for (size_t i = 0; i < files->n_files; i++) n += files->files[i].tensors.n;
    SSMQ_TRY(ssmq_calloc(&files->entries, n, sizeof *files->entries, err));
    for (size_t i = 0; i < files->n_files; i++) {
        const ssmq_model_file *file = &files->files[i];
        for (size_t k = 0; k < file->tensors.n; k++) {
            const ssmq_safetensor *tensor = &file->tensors.tensors[k];
            files->entries[files->n_entries++] = (ssmq_model_entry){
                .name = transformers_name(tensor->name), .tensor = tensor, .path = file->path};
        }
    }
    if (n > 0) qsort(files->entries, n, sizeof *files->entries, by_name);
    for (size_t i = 1; i < n; i++) {
        if (by_name(&files->entries[i - 1], &files->entries[i]) == 0) {
            return SSMQ_FAIL(err, CONFIG, "%s: tensor %s is there under two names",
                             files->entries[i].path, files->entries[i].name);
        }
    }
    return SSMQ_OK;
}

static ssmq_status open_parts(ssmq_model_files *files, const char *folder,
                              const ssmq_model_image *image, ssmq_err *err) {
    SSMQ_TRY(ssmq_calloc(&files->files, (size_t)image->n_parts, sizeof *files->files, err));
    for (int64_t i = 1; i < image->n_parts; i++) {
        ssmq_model_file *file = &files->files[files->n_files++];
        file->bytes = image->bytes[i];
        file->n_bytes = (size_t)image->parts[i].n_bytes;
        SSMQ_TRY(open_file(file, folder, image->parts[i].name, err));
    }
    return SSMQ_OK;
}

ssmq_status ssmq_model_files_from(ssmq_model_files **out, const char *folder,
                                  const ssmq_model_image *image, ssmq_map *map, ssmq_err *err) {
    SSMQ_TRY(ssmq_calloc(out, 1, sizeof **out, err));
    (*out)->image = *map;
    *map = (ssmq_map){0};
    ssmq_status status = open_parts(*out, folder, image, err);
    if (status == SSMQ_OK) status = join_tensors(*out, err);
    if (status != SSMQ_OK) {
        ssmq_model_files_close(*out);
        *out = NULL;
    }
    return status;
}

ssmq_status ssmq_model_files_open(ssmq_model_files **out, const char *folder, ssmq_err *err) {
    SSMQ_TRY(ssmq_calloc(out, 1, sizeof **out, err));
    ssmq_status status = open_folder(*out, folder, err);
    if (status == SSMQ_OK) status = join_tensors(*out, err);
    if (status != SSMQ_OK) {
        ssmq_model_files_close(*out);
        *out = NULL;
    }
    return status;
}

void ssmq_model_files_close(ssmq_model_files *files) {
    if (files == NULL) return;
    for (size_t i = 0; i < files->n_files; i++) {
        ssmq_safetensors_free(&files->files[i].tensors);
        ssmq_map_close(&files->files[i].map);
        ssmq_free(files->files[i].path);
    }
    ssmq_free(files->files);
    ssmq_free(files->entries);
    ssmq_free(files->config_path);
    ssmq_free(files->config);
    ssmq_free(files->generated);
    ssmq_map_close(&files->image);
    ssmq_free(files);
}

ssmq_model_entry *ssmq_model_files_find(const ssmq_model_files *files, const char *name) {
    if (files->n_entries == 0) return NULL;
    ssmq_model_entry wanted = {.name = name};
    return bsearch(&wanted, files->entries, files->n_entries, sizeof *files->entries, by_name);
}

void ssmq_model_files_hash(const ssmq_model_files *files, ssmq_sha256 *sha) {
    for (size_t i = 0; i < files->n_files; i++) {
        ssmq_sha256_add(sha, files->files[i].bytes, files->files[i].n_bytes);
    }
}
