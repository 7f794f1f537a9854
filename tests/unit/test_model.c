/* SPDX-License-Identifier: Apache-2.0 */
/* model/model: written checkpoints read back in every naming, whole and in shards, tied either way;
 * the demo; random models; and the message of every broken checkpoint. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/shared.h"
#include "model/model.h"
#include "model/model_image.h"
#include "support/write_checkpoint.h"

static char folder[SSMQ_PATH_BYTES];
static char other[SSMQ_PATH_BYTES];

static int set_up(void **state) {
    (void)state;
    make_temp_folder(folder);
    make_temp_folder(other);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    remove_folder(folder);
    remove_folder(other);
    return 0;
}

static ssmq_model *open_model(const char *path) {
    ssmq_err err = {0};
    ssmq_model *model = NULL;
    ssmq_status status = ssmq_model_open(&model, path, &err);
    if (status != SSMQ_OK) print_error("%s\n", err.text);
    assert_int_equal(status, SSMQ_OK);
    return model;
}

static void same_tensor(const ssmq_tensor *a, const ssmq_tensor *b) {
    assert_true(a->rows == b->rows && a->columns == b->columns);
    assert_int_equal(a->dtype, b->dtype);
    assert_int_equal(a->bytes == NULL, b->bytes == NULL);
    if (a->bytes == NULL) return;
    size_t n_bytes = (size_t)(a->rows * a->columns) * ssmq_dtype_bytes(a->dtype);
    assert_memory_equal(a->bytes, b->bytes, n_bytes);
}

static void same_model(const ssmq_model *a, const ssmq_model *b) {
    assert_true(a->shape.L == b->shape.L && a->n_params == b->n_params);
    assert_true(a->stored_bytes == b->stored_bytes);
    same_tensor(&a->embeddings, &b->embeddings);
    same_tensor(&a->lm_head, &b->lm_head);
    same_tensor(&a->norm_f, &b->norm_f);
    for (int64_t i = 0; i < a->shape.L; i++) {
        const ssmq_layer *x = &a->layers[i];
        const ssmq_layer *y = &b->layers[i];
        same_tensor(&x->norm, &y->norm);
        same_tensor(&x->in_proj, &y->in_proj);
        same_tensor(&x->in_proj_bias, &y->in_proj_bias);
        same_tensor(&x->conv, &y->conv);
        same_tensor(&x->conv_bias, &y->conv_bias);
        same_tensor(&x->dt_bias, &y->dt_bias);
        same_tensor(&x->A_log, &y->A_log);
        same_tensor(&x->D, &y->D);
        same_tensor(&x->gated_norm, &y->gated_norm);
        same_tensor(&x->out_proj, &y->out_proj);
        same_tensor(&x->out_proj_bias, &y->out_proj_bias);
    }
}

static void compare(const struct checkpoint_options *a, const struct checkpoint_options *b) {
    set_up(NULL);
    write_checkpoint(folder, a);
    write_checkpoint(other, b);
    ssmq_model *first = open_model(folder);
    ssmq_model *second = open_model(other);
    same_model(first, second);
    ssmq_model_close(first);
    ssmq_model_close(second);
    tear_down(NULL);
}

static void namings_agree(void **state) {
    (void)state;
    struct checkpoint_options a = {.d = 64, .H = 2, .P = 64, .N = 128, .V = 40, .dtype = SSMQ_BF16};
    struct checkpoint_options b = a;
    b.naming = CHECKPOINT_STATE_SPACES;
    compare(&a, &b);
    b.naming = CHECKPOINT_MISTRAL;
    compare(&a, &b);
    a.head = b.head = CHECKPOINT_UNTIED;
    compare(&a, &b);
    b.naming = CHECKPOINT_STATE_SPACES;
    a.head = b.head = CHECKPOINT_TIED_BOTH;
    compare(&a, &b);
}

static void shards_agree(void **state) {
    (void)state;
    struct checkpoint_options a = {.L = 3, .dtype = SSMQ_F16, .has_bias = true, .fp32_ssm = true};
    struct checkpoint_options b = a;
    for (int n = 2; n <= 9; n += 3) {
        b.n_shards = n;
        compare(&a, &b);
    }
}

/* The file may hold either of a tied pair, or both. */
static void tied_either_way(void **state) {
    (void)state;
    struct checkpoint_options a = {.dtype = SSMQ_F32};
    struct checkpoint_options b = a;
    b.head = CHECKPOINT_TIED_HEAD_ONLY;
    compare(&a, &b);
    b.head = CHECKPOINT_TIED_BOTH;
    compare(&a, &b);
}

static void untied_heads_differ(void **state) {
    (void)state;
    struct checkpoint_options o = {.head = CHECKPOINT_UNTIED, .no_conv_bias = true};
    write_checkpoint(folder, &o);
    ssmq_model *model = open_model(folder);
    assert_ptr_not_equal(model->lm_head.bytes, model->embeddings.bytes);
    assert_memory_not_equal(model->lm_head.bytes, model->embeddings.bytes, 64 * 32 * 4);
    assert_null(model->layers[0].conv_bias.bytes);
    assert_null(model->layers[0].in_proj_bias.bytes);
    /* d 32, L 2, P 16, H 4, N 16, G 1, K 4, V 64: R 164, conv_dim 96. */
    int64_t layer = 32 + 164 * 32 + 96 * 4 + 3 * 4 + 64 + 32 * 64;
    assert_true(model->n_params == 2 * layer + 2 * 64 * 32 + 32);
    assert_true(model->stored_bytes == 4 * model->n_params);
    assert_int_equal(model->stored_dtype, SSMQ_F32);
    assert_true(model->layers[1].conv.rows == 96 && model->layers[1].conv.columns == 4);
    ssmq_model_close(model);
}

static void opens_the_demo(void **state) {
    (void)state;
    ssmq_model *model = open_model("configs/demo/");
    assert_string_equal(model->name, "demo");
    assert_true(model->shape.d == 256 && model->shape.L == 8 && model->shape.H == 8);
    assert_true(model->shape.P == 64 && model->shape.N == 128 && model->shape.V == 4096);
    assert_true(model->n_params == 4772288);
    assert_int_equal(model->stored_dtype, SSMQ_BF16);
    assert_int_equal(model->layers[7].A_log.dtype, SSMQ_F32);
    assert_false(model->is_random);
    assert_ptr_equal(model->lm_head.bytes, model->embeddings.bytes);
    /* cat config.json model.safetensors | sha256sum */
    assert_string_equal(model->sha256,
                        "73ace442b8d5bbbed17a0a4895c35e9d0949ee3a8a05ef6804da775e5b252683");
    ssmq_model_close(model);
}

static void reject(const struct checkpoint_options *options, const char *message) {
    char expected[SSMQ_PATH_BYTES + 200];
    ssmq_err err = {0};
    ssmq_model *model = (ssmq_model *)&err;
    set_up(NULL);
    write_checkpoint(folder, options);
    assert_int_equal(ssmq_model_open(&model, folder, &err), SSMQ_CONFIG);
    assert_null(model);
    (void)snprintf(expected, sizeof expected, "%s%s", folder, message);
    assert_string_equal(err.text, expected);
    tear_down(NULL);
}

static void rejects_wrong_tensors(void **state) {
    (void)state;
    struct checkpoint_options o = {.skip = "backbone.layers.1.mixer.D"};
    reject(&o, ": tensor backbone.layers.1.mixer.D is missing");
    o = (struct checkpoint_options){.skip = "lm_head.weight", .head = CHECKPOINT_UNTIED};
    reject(&o, ": tensor lm_head.weight is missing");
    o = (struct checkpoint_options){.skip = "backbone.embeddings.weight"};
    reject(&o, ": tensor lm_head.weight is missing");
    o = (struct checkpoint_options){.extra = "backbone.layers.0.mixer.in_proj.bias"};
    reject(&o, "/model.safetensors: tensor backbone.layers.0.mixer.in_proj.bias has no place in "
               "the configured model");
    o = (struct checkpoint_options){.extra = "backbone.layers.2.mixer.D", .n_shards = 2};
    reject(&o, "/model-00001-of-00002.safetensors: tensor backbone.layers.2.mixer.D has no place "
               "in the configured model");
    o = (struct checkpoint_options){.extra = "model.backbone.norm_f.weight"};
    reject(&o, "/model.safetensors: tensor backbone.norm_f.weight is there under two names");
    o = (struct checkpoint_options){.misshape = "backbone.layers.0.mixer.in_proj.weight"};
    reject(&o, "/model.safetensors: tensor backbone.layers.0.mixer.in_proj.weight has shape [165, "
               "32], the configuration asks for [164, 32]");
    o = (struct checkpoint_options){.misshape = "backbone.layers.0.mixer.conv1d.weight"};
    reject(&o, "/model.safetensors: tensor backbone.layers.0.mixer.conv1d.weight has shape [97, 1, "
               "4], the configuration asks for [96, 1, 4]");
    o = (struct checkpoint_options){.as_dtype = "I32", .as_dtype_of = "backbone.norm_f.weight"};
    reject(&o, "/model.safetensors: tensor backbone.norm_f.weight has dtype I32; F32, F16 or BF16 "
               "is needed");
    o = (struct checkpoint_options){.skip = "backbone.layers.0.norm.weight",
                                    .naming = CHECKPOINT_STATE_SPACES};
    reject(&o, ": tensor backbone.layers.0.norm.weight is missing");
}

static void replace(const char *name, const char *text) {
    char path[SSMQ_PATH_BYTES];
    assert_int_equal(ssmq_path_join(path, folder, name, NULL), SSMQ_OK);
    assert_int_equal(ssmq_file_replace(path, text, strlen(text), NULL), SSMQ_OK);
}

static void reject_folder(const char *message) {
    char expected[SSMQ_PATH_BYTES + 200];
    ssmq_err err = {0};
    ssmq_model *model = NULL;
    assert_int_equal(ssmq_model_open(&model, folder, &err), SSMQ_CONFIG);
    (void)snprintf(expected, sizeof expected, "%s%s", folder, message);
    assert_string_equal(err.text, expected);
}

#define INDEX "model.safetensors.index.json"

static void rejects_wrong_shards(void **state) {
    (void)state;
    struct checkpoint_options o = {.n_shards = 2};
    write_checkpoint(folder, &o);
    replace(INDEX, "{\"weight_map\":{}}");
    reject_folder("/" INDEX ": weight_map is no object with members");
    replace(INDEX, "{\"metadata\":{}}");
    reject_folder("/" INDEX ": weight_map is no object with members");
    static const char *const outside[] = {"../x.safetensors", "/etc/passwd", "", "..", "a/b",
                                          "a\\u0000b",        "-x"};
    for (size_t i = 0; i < sizeof outside / sizeof outside[0]; i++) {
        char text[128];
        (void)snprintf(text, sizeof text, "{\"weight_map\":{\"t\":\"%s\"}}", outside[i]);
        replace(INDEX, text);
        reject_folder("/" INDEX
                      ": weight_map names a file that is no plain name in the same folder");
    }
    replace(INDEX, "{\"weight_map\":{\"t\":3}}");
    reject_folder("/" INDEX ": weight_map names a file that is no plain name in the same folder");
    replace(INDEX, "{\"weight_map\":{\"t\":\"absent.safetensors\"}}");
    reject_folder("/absent.safetensors: No such file or directory");
    replace(INDEX, "{\"weight_map\":{\"t\":\"model-00002-of-00002.safetensors\"}}");
    reject_folder("/model-00002-of-00002.safetensors: tensor backbone.layers.0.mixer.D is not in "
                  "the weight_map for this file");
    /* One more name in the map than in the files. */
    char path[SSMQ_PATH_BYTES];
    char *text = NULL;
    size_t n_bytes = 0;
    write_checkpoint(folder, &o);
    assert_int_equal(ssmq_path_join(path, folder, INDEX, NULL), SSMQ_OK);
    assert_int_equal(ssmq_file_read(&text, &n_bytes, path, 1 << 20, NULL), SSMQ_OK);
    char grown[8192];
    char *map = strstr(text, "\"weight_map\":{");
    assert_non_null(map);
    map += strlen("\"weight_map\":{");
    (void)snprintf(grown, sizeof grown, "%.*s\"t\":\"model-00001-of-00002.safetensors\",%s",
                   (int)(map - text), text, map);
    ssmq_free(text);
    replace(INDEX, grown);
    reject_folder("/" INDEX ": weight_map lists 21 tensors, its files hold 20");
}

static void prefers_the_single_file(void **state) {
    (void)state;
    struct checkpoint_options o = {.n_shards = 2};
    write_checkpoint(folder, &o);
    replace("consolidated.safetensors", "not read");
    ssmq_model_close(open_model(folder));
    replace("model.safetensors", "short");
    reject_folder("/model.safetensors: 5 bytes, too short for a safetensors file");
    replace("model.safetensors", "");
    reject_folder("/model.safetensors: 0 bytes, too short for a safetensors file");
}

static void rejects_empty_folders(void **state) {
    (void)state;
    reject_folder(": neither config.json nor params.json");
    replace("config.json", "{\"model_type\":\"mamba2\"}");
    reject_folder(": no model.safetensors, model.safetensors.index.json or "
                  "consolidated.safetensors");
    replace("config.json", "{\"model_type\":\"mamba2\"");
    reject_folder("/config.json:1:23: not valid JSON: unexpected end of data");
    ssmq_model_close(NULL);
}

static void random_models(void **state) {
    (void)state;
    ssmq_err err = {0};
    ssmq_model *a = open_model("random:mamba2-tiny");
    ssmq_model *b = open_model("random:mamba2-tiny");
    same_model(a, b);
    assert_string_equal(a->sha256, b->sha256);
    assert_string_equal(a->name, "random:mamba2-tiny");
    assert_true(a->is_random && a->shape.d == 64 && a->shape.L == 2 && a->shape.V == 256);
    assert_ptr_equal(a->lm_head.bytes, a->embeddings.bytes);
    assert_int_equal(a->stored_dtype, SSMQ_BF16);
    /* Weights: mean and deviation of in_proj, 1 / sqrt(3 d). */
    const ssmq_tensor *w = &a->layers[0].in_proj;
    double sum = 0;
    double squares = 0;
    for (int64_t i = 0; i < w->rows * w->columns; i++) {
        float x = 0;
        ssmq_tensor_f32(w, i, 1, &x);
        sum += (double)x;
        squares += (double)x * (double)x;
    }
    double n = (double)(w->rows * w->columns);
    assert_true(fabs(sum / n) < 0.002);
    assert_true(fabs(sqrt(squares / n * 3.0 * 64.0) - 1.0) < 0.02);
    assert_memory_not_equal(a->layers[0].in_proj.bytes, a->layers[1].in_proj.bytes, 1000);
    for (int64_t h = 0; h < a->shape.H; h++) {
        float value = 0;
        ssmq_tensor_f32(&a->layers[1].A_log, h, 1, &value);
        assert_true(value >= 0.0f && value <= logf(16.0f));
        ssmq_tensor_f32(&a->layers[1].dt_bias, h, 1, &value);
        double dt = log1p(exp((double)value));
        assert_true(dt > 0.999e-3 && dt < 0.1001);
        ssmq_tensor_f32(&a->layers[1].D, h, 1, &value);
        assert_true(value == 1.0f);
    }
    ssmq_model_close(a);
    ssmq_model_close(b);
    assert_int_equal(ssmq_model_open(&a, "random:mamba3", &err), SSMQ_CONFIG);
    assert_non_null(strstr(err.text, "random:mamba3: no such model; random:mamba2-tiny, "));
    assert_null(a);
}

/* Sizes and parameter counts of the published models (spec section 1.4). */
static void random_shapes(void **state) {
    (void)state;
    static const struct {
        const char *name;
        int64_t d, L, H, R;
    } published[] = {{"random:mamba2-130m", 768, 24, 24, 3352},
                     {"random:mamba2-370m", 1024, 48, 32, 4384},
                     {"random:mamba2-780m", 1536, 48, 48, 6448},
                     {"random:mamba2-1.3b", 2048, 48, 64, 8512},
                     {"random:mamba2-2.7b", 2560, 64, 80, 10576}};
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++) {
        ssmq_shape s;
        assert_int_equal(ssmq_shape_read(&s, published[i].name, NULL), SSMQ_OK);
        assert_true(s.d == published[i].d && s.L == published[i].L && s.H == published[i].H);
        assert_true(s.R == published[i].R && s.V == 50288 && s.is_tied);
    }
    ssmq_model *model = open_model("random:mamba2-130m");
    assert_true(model->n_params == 128989632);
    ssmq_model_close(model);
}

/* A copy of the model's files in memory that others can map, with one bit changed or none. */
static void copy_files(const ssmq_model *model, bool is_damaged, ssmq_model_image *copy,
                       ssmq_map *map) {
    ssmq_err err = {0};
    ssmq_model_image source;
    ssmq_shared memory;
    char path[SSMQ_PATH_BYTES];
    assert_int_equal(ssmq_model_image_of(&source, model, &err), SSMQ_OK);
    assert_int_equal(source.n_parts, 2);
    assert_int_equal(ssmq_model_image_init(copy, source.n_parts, &err), SSMQ_OK);
    memcpy(copy->parts, source.parts, (size_t)source.n_parts * sizeof *copy->parts);
    const int64_t n_bytes = ssmq_model_image_bytes(copy);
    assert_true(n_bytes >= source.parts[0].n_bytes + source.parts[1].n_bytes);
    assert_int_equal(ssmq_shared_open(&memory, (size_t)n_bytes, &err), SSMQ_OK);
    ssmq_model_image_place(copy, memory.bytes);
    for (int64_t i = 0; i < source.n_parts; i++) {
        memcpy(copy->bytes[i], source.bytes[i], (size_t)source.parts[i].n_bytes);
    }
    copy->bytes[1][copy->parts[1].n_bytes - 1] ^= (unsigned char)is_damaged;
    ssmq_model_image_free(&source);
    ssmq_shared_path(&memory, path);
    assert_int_equal(ssmq_map_open(map, path, &err), SSMQ_OK);
    assert_true((int64_t)map->n_bytes == n_bytes);
    ssmq_shared_close(&memory);
    ssmq_model_image_place(copy, (unsigned char *)map->bytes);
}

/* The model of a copy of another's files is that model; a damaged copy has another hash. */
static void images(void **state) {
    (void)state;
    ssmq_err err = {0};
    ssmq_model *read = open_model("configs/demo");
    for (int is_damaged = 0; is_damaged < 2; is_damaged++) {
        ssmq_model_image copy;
        ssmq_map map;
        ssmq_model *received = NULL;
        copy_files(read, is_damaged != 0, &copy, &map);
        assert_int_equal(ssmq_model_open_image(&received, "configs/demo/", &copy, &map, &err),
                         SSMQ_OK);
        assert_null(map.bytes);
        ssmq_model_image_free(&copy);
        assert_string_equal(received->name, read->name);
        assert_int_equal(strcmp(received->sha256, read->sha256) != 0, is_damaged);
        if (!is_damaged) same_model(received, read);
        ssmq_model_close(received);
    }
    ssmq_model_close(read);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(namings_agree),
        cmocka_unit_test(shards_agree),
        cmocka_unit_test(tied_either_way),
        cmocka_unit_test_setup_teardown(untied_heads_differ, set_up, tear_down),
        cmocka_unit_test(opens_the_demo),
        cmocka_unit_test(rejects_wrong_tensors),
        cmocka_unit_test_setup_teardown(rejects_wrong_shards, set_up, tear_down),
        cmocka_unit_test_setup_teardown(prefers_the_single_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rejects_empty_folders, set_up, tear_down),
        cmocka_unit_test(images),
        cmocka_unit_test(random_models),
        cmocka_unit_test(random_shapes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
