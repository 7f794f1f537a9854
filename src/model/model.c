/* SPDX-License-Identifier: Apache-2.0 */
/* Opening: configuration -> shape; files -> tensors by Transformers name; each tensor that the
 * shape asks for is taken by name and checked; what is then left over is an error. */
#include "model/model.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "model/config_json.h"
#include "model/model_files.h"

enum { NAME_BYTES = 128 };

/* Where a model is being put together. */
typedef struct builder {
    ssmq_model *model;
    ssmq_model_files *files;
    const char *folder;
} builder;

static void describe_shape(char *out, size_t out_bytes, const int64_t *shape, int n_dims) {
    size_t length = 0;
    for (int i = 0; i < n_dims && length < out_bytes; i++) {
        int part = snprintf(out + length, out_bytes - length, "%s%lld", i > 0 ? ", " : "",
                            (long long)shape[i]);
        length += part > 0 ? (size_t)part : 0;
    }
    if (n_dims == 0) out[0] = '\0';
}

static bool dtype_from_text(const char *text, ssmq_dtype *out) {
    static const struct {
        const char *text;
        ssmq_dtype dtype;
    } names[] = {{"F32", SSMQ_F32}, {"F16", SSMQ_F16}, {"BF16", SSMQ_BF16}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i].text) == 0) {
            *out = names[i].dtype;
            return true;
        }
    }
    return false;
}

/* The tensor of this name and shape. */
static ssmq_status take(const builder *b, const char *name, const int64_t *shape, int n_dims,
                        ssmq_tensor *out, ssmq_err *err) {
    ssmq_model_entry *entry = ssmq_model_files_find(b->files, name);
    if (entry == NULL) return SSMQ_FAIL(err, CONFIG, "%s: tensor %s is missing", b->folder, name);
    entry->is_used = true;
    const ssmq_safetensor *tensor = entry->tensor;
    bool is_same = tensor->n_dims == n_dims;
    for (int i = 0; i < n_dims && is_same; i++) is_same = tensor->shape[i] == shape[i];
    if (!is_same) {
        char got[NAME_BYTES];
        char wanted[NAME_BYTES];
        describe_shape(got, sizeof got, tensor->shape, tensor->n_dims);
        describe_shape(wanted, sizeof wanted, shape, n_dims);
        return SSMQ_FAIL(err, CONFIG,
                         "%s: tensor %s has shape [%s], the configuration asks for [%s]",
                         entry->path, name, got, wanted);
    }
    if (!dtype_from_text(tensor->dtype, &out->dtype)) {
        return SSMQ_FAIL(err, CONFIG, "%s: tensor %s has dtype %s; F32, F16 or BF16 is needed",
                         entry->path, name, tensor->dtype);
    }
    out->bytes = tensor->bytes;
    out->columns = shape[n_dims - 1];
    out->rows = n_dims > 1 ? shape[0] : 1;
    b->model->n_params += out->rows * out->columns;
    b->model->stored_bytes += (int64_t)tensor->n_bytes;
    return SSMQ_OK;
}

static ssmq_status take_vector(const builder *b, const char *name, int64_t n, ssmq_tensor *out,
                               ssmq_err *err) {
    return take(b, name, &n, 1, out, err);
}

static ssmq_status take_matrix(const builder *b, const char *name, int64_t rows, int64_t columns,
                               ssmq_tensor *out, ssmq_err *err) {
    const int64_t shape[2] = {rows, columns};
    return take(b, name, shape, 2, out, err);
}

static const char *layer_name(char *out, int64_t layer, const char *part) {
    (void)snprintf(out, NAME_BYTES, "backbone.layers.%lld.%s", (long long)layer, part);
    return out;
}

static ssmq_status take_layer(const builder *b, int64_t i, ssmq_err *err) {
    const ssmq_shape *s = &b->model->shape;
    ssmq_layer *layer = &b->model->layers[i];
    const int64_t conv[3] = {s->conv_dim, 1, s->K};
    char name[NAME_BYTES];
    SSMQ_TRY(take_vector(b, layer_name(name, i, "norm.weight"), s->d, &layer->norm, err));
    SSMQ_TRY(take_matrix(b, layer_name(name, i, "mixer.in_proj.weight"), s->R, s->d,
                         &layer->in_proj, err));
    SSMQ_TRY(take(b, layer_name(name, i, "mixer.conv1d.weight"), conv, 3, &layer->conv, err));
    SSMQ_TRY(take_vector(b, layer_name(name, i, "mixer.dt_bias"), s->H, &layer->dt_bias, err));
    SSMQ_TRY(take_vector(b, layer_name(name, i, "mixer.A_log"), s->H, &layer->A_log, err));
    SSMQ_TRY(take_vector(b, layer_name(name, i, "mixer.D"), s->H, &layer->D, err));
    SSMQ_TRY(
        take_vector(b, layer_name(name, i, "mixer.norm.weight"), s->di, &layer->gated_norm, err));
    SSMQ_TRY(take_matrix(b, layer_name(name, i, "mixer.out_proj.weight"), s->d, s->di,
                         &layer->out_proj, err));
    if (s->has_conv_bias) {
        SSMQ_TRY(take_vector(b, layer_name(name, i, "mixer.conv1d.bias"), s->conv_dim,
                             &layer->conv_bias, err));
    }
    if (!s->has_bias) return SSMQ_OK;
    SSMQ_TRY(
        take_vector(b, layer_name(name, i, "mixer.in_proj.bias"), s->R, &layer->in_proj_bias, err));
    return take_vector(b, layer_name(name, i, "mixer.out_proj.bias"), s->d, &layer->out_proj_bias,
                       err);
}

/* Embeddings and head. Of a tied pair the file may hold either; of both, the embeddings count. */
static ssmq_status take_vocabulary(const builder *b, ssmq_err *err) {
    static const char embeddings[] = "backbone.embeddings.weight";
    static const char head[] = "lm_head.weight";
    ssmq_model *m = b->model;
    const int64_t V = m->shape.V;
    const int64_t d = m->shape.d;
    bool has_embeddings = ssmq_model_files_find(b->files, embeddings) != NULL;
    bool has_head = ssmq_model_files_find(b->files, head) != NULL;
    if (m->shape.is_tied && has_head != has_embeddings) {
        SSMQ_TRY(take_matrix(b, has_head ? head : embeddings, V, d, &m->embeddings, err));
        m->lm_head = m->embeddings;
        return SSMQ_OK;
    }
    SSMQ_TRY(take_matrix(b, head, V, d, &m->lm_head, err));
    if (m->shape.is_tied) {
        m->n_params = 0;
        m->stored_bytes = 0;
    }
    SSMQ_TRY(take_matrix(b, embeddings, V, d, &m->embeddings, err));
    if (m->shape.is_tied) m->lm_head = m->embeddings;
    return SSMQ_OK;
}

static ssmq_status take_all(const builder *b, ssmq_err *err) {
    SSMQ_TRY(take_vocabulary(b, err));
    for (int64_t i = 0; i < b->model->shape.L; i++) SSMQ_TRY(take_layer(b, i, err));
    SSMQ_TRY(take_vector(b, "backbone.norm_f.weight", b->model->shape.d, &b->model->norm_f, err));
    for (size_t i = 0; i < b->files->n_entries; i++) {
        const ssmq_model_entry *entry = &b->files->entries[i];
        if (!entry->is_used) {
            return SSMQ_FAIL(err, CONFIG, "%s: tensor %s has no place in the configured model",
                             entry->path, entry->tensor->name);
        }
    }
    return SSMQ_OK;
}

/* The configuration's file and text.  Owns: *path, *text, ssmq_free(), also on failure. */
static ssmq_status read_config(char **path, char **text, size_t *n_bytes, const char *folder,
                               ssmq_err *err) {
    char found[SSMQ_PATH_BYTES];
    SSMQ_TRY(ssmq_config_json_find(found, folder, err));
    SSMQ_TRY(ssmq_strndup(path, found, strlen(found), err));
    return ssmq_file_read(text, n_bytes, found, SSMQ_CONFIG_JSON_MAX_BYTES, err);
}

static void set_name(ssmq_model *model, const char *path) {
    char part[SSMQ_MODEL_NAME_BYTES];
    ssmq_path_name(part, sizeof part, path);
    ssmq_field_set(model->name, sizeof model->name, part);
}

/* The model of the files in model->files, the configuration among them. */
static ssmq_status build(ssmq_model *model, const char *folder, ssmq_err *err) {
    const ssmq_model_files *files = model->files;
    SSMQ_TRY(ssmq_calloc(&model->layers, (size_t)model->shape.L, sizeof *model->layers, err));
    const builder b = {.model = model, .files = model->files, .folder = folder};
    SSMQ_TRY(take_all(&b, err));
    ssmq_sha256 sha;
    unsigned char digest[SSMQ_SHA256_BYTES];
    ssmq_sha256_init(&sha);
    ssmq_sha256_add(&sha, files->config, files->n_config_bytes);
    ssmq_model_files_hash(files, &sha);
    ssmq_sha256_end(&sha, digest);
    ssmq_sha256_hex(digest, model->sha256);
    model->stored_dtype = model->layers[0].in_proj.dtype;
    return SSMQ_OK;
}

static ssmq_status open_folder(ssmq_model *model, const char *folder, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    char *path = NULL;
    char *text = NULL;
    size_t n_bytes = 0;
    set_name(model, folder);
    SSMQ_TRY_OR(read_config(&path, &text, &n_bytes, folder, err), fail);
    SSMQ_TRY_OR(ssmq_config_json_parse(&model->shape, text, n_bytes, path, err), fail);
    SSMQ_TRY_OR(ssmq_model_files_open(&model->files, folder, err), fail);
    model->files->config_path = path;
    model->files->config = text;
    model->files->n_config_bytes = n_bytes;
    return build(model, folder, err);
fail:
    ssmq_free(path);
    ssmq_free(text);
    return status;
}

static ssmq_status open_image(ssmq_model *model, const char *folder, const ssmq_model_image *image,
                              ssmq_map *map, ssmq_err *err) {
    char path[SSMQ_PATH_BYTES];
    set_name(model, folder);
    SSMQ_CHECK(image->n_parts > 0, err);
    const char *text = (const char *)image->bytes[0];
    const size_t n_bytes = (size_t)image->parts[0].n_bytes;
    SSMQ_TRY(ssmq_path_join(path, folder, image->parts[0].name, err));
    SSMQ_TRY(ssmq_config_json_parse(&model->shape, text, n_bytes, path, err));
    SSMQ_TRY(ssmq_model_files_from(&model->files, folder, image, map, err));
    SSMQ_TRY(ssmq_strndup(&model->files->config_path, path, strlen(path), err));
    SSMQ_TRY(ssmq_strndup(&model->files->config, text, n_bytes, err));
    model->files->n_config_bytes = n_bytes;
    return build(model, folder, err);
}

static ssmq_status open_random(ssmq_model *model, const char *path, ssmq_err *err) {
    ssmq_field_set(model->name, sizeof model->name, path);
    model->is_random = true;
    SSMQ_TRY(ssmq_random_shape(&model->shape, path, err));
    SSMQ_TRY(ssmq_calloc(&model->layers, (size_t)model->shape.L, sizeof *model->layers, err));
    SSMQ_TRY(ssmq_random_fill(model, err));
    model->stored_dtype = model->layers[0].in_proj.dtype;
    return SSMQ_OK;
}

ssmq_status ssmq_model_open(ssmq_model **out, const char *path, ssmq_err *err) {
    SSMQ_TRY(ssmq_calloc(out, 1, sizeof **out, err));
    ssmq_status status = ssmq_model_path_is_random(path) ? open_random(*out, path, err)
                                                         : open_folder(*out, path, err);
    if (status != SSMQ_OK) {
        ssmq_model_close(*out);
        *out = NULL;
    }
    return status;
}

ssmq_status ssmq_model_open_image(ssmq_model **out, const char *path, const ssmq_model_image *image,
                                  ssmq_map *map, ssmq_err *err) {
    SSMQ_TRY(ssmq_calloc(out, 1, sizeof **out, err));
    ssmq_status status = open_image(*out, path, image, map, err);
    if (status != SSMQ_OK) {
        ssmq_model_close(*out);
        *out = NULL;
    }
    return status;
}

void ssmq_model_close(ssmq_model *model) {
    if (model == NULL) return;
    ssmq_model_files_close(model->files);
    ssmq_free(model->layers);
    ssmq_free(model);
}

ssmq_status ssmq_shape_read(ssmq_shape *out, const char *path, ssmq_err *err) {
    char *config_path = NULL;
    char *text = NULL;
    size_t n_bytes = 0;
    memset(out, 0, sizeof *out);
    if (ssmq_model_path_is_random(path)) return ssmq_random_shape(out, path, err);
    ssmq_status status = read_config(&config_path, &text, &n_bytes, path, err);
    if (status == SSMQ_OK) {
        status = ssmq_config_json_parse(out, text, n_bytes, config_path, err);
    }
    ssmq_free(config_path);
    ssmq_free(text);
    return status;
}

bool ssmq_model_path_is_random(const char *path) {
    return strncmp(path, "random:", 7) == 0;
}
