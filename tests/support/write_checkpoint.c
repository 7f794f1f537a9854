/* SPDX-License-Identifier: Apache-2.0 */
#include "support/write_checkpoint.h"

#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "model/model.h"

enum { NAME_BYTES = 128, MAX_BYTES = 1 << 28, MAX_SHARDS = 9 };

/* How the numbers of a tensor are drawn. */
typedef enum draw { DRAW_LINEAR, DRAW_NORM, DRAW_BIAS, DRAW_CONV, DRAW_A_LOG, DRAW_DT_BIAS } draw;

struct writer {
    struct checkpoint_options o;
    ssmq_str header[MAX_SHARDS];
    ssmq_str data[MAX_SHARDS];
    ssmq_str weight_map;
    int n_shards;
    int n_tensors;
};

static struct checkpoint_options with_defaults(const struct checkpoint_options *options) {
    struct checkpoint_options o = *options;
    if (o.d == 0) o.d = 32;
    if (o.L == 0) o.L = 2;
    if (o.P == 0) o.P = 16;
    if (o.H == 0) o.H = 2 * o.d / o.P;
    if (o.N == 0) o.N = 16;
    if (o.G == 0) o.G = 1;
    if (o.K == 0) o.K = 4;
    if (o.V == 0) o.V = 64;
    if (o.seed == NULL) o.seed = "checkpoint";
    if (o.n_shards == 0) o.n_shards = 1;
    if (o.dt_min == 0.0 && o.dt_max == 0.0) o.dt_max = INFINITY;
    assert_in_range(o.n_shards, 1, MAX_SHARDS);
    return o;
}

static double draw_number(draw kind, double fan_in, ssmq_rng *rng) {
    double u = ssmq_rng_f64(rng);
    switch (kind) {
    case DRAW_LINEAR:
        return ssmq_rng_normal(rng) / sqrt(fan_in);
    case DRAW_NORM:
        return 1.0 + 0.2 * (u - 0.5);
    case DRAW_BIAS:
        return 0.2 * (u - 0.5);
    case DRAW_CONV:
        return (2.0 * u - 1.0) / sqrt(fan_in);
    case DRAW_A_LOG:
        return log(1.0 + 15.0 * u);
    case DRAW_DT_BIAS:
        break;
    }
    /* Inverse of softplus at a step between 1e-3 and 1e-1, uniform in its logarithm. */
    double dt = exp(log(1e-3) + u * (log(1e-1) - log(1e-3)));
    return dt + log(-expm1(-dt));
}

static void stored_name(char *out, const struct checkpoint_options *o, const char *name) {
    static const char embeddings[] = "backbone.embeddings.weight";
    if (o->naming != CHECKPOINT_HF && strcmp(name, embeddings) == 0) {
        name = "backbone.embedding.weight";
    }
    const char *prefix = o->naming == CHECKPOINT_MISTRAL ? "model." : "";
    (void)snprintf(out, NAME_BYTES, "%s%s", prefix, name);
}

static void add_number(ssmq_str *data, double number, ssmq_dtype dtype) {
    float x = (float)number;
    if (dtype == SSMQ_F32) {
        ssmq_str_add(data, (const char *)&x, sizeof x);
        return;
    }
    uint16_t bits = dtype == SSMQ_F16 ? ssmq_f16_from_f32(x) : ssmq_bf16_from_f32(x);
    ssmq_str_add(data, (const char *)&bits, sizeof bits);
}

static const char *dtype_text(const struct checkpoint_options *o, const char *name,
                              ssmq_dtype dtype) {
    if (o->as_dtype != NULL && strcmp(o->as_dtype_of, name) == 0) return o->as_dtype;
    return dtype == SSMQ_F32 ? "F32" : dtype == SSMQ_F16 ? "F16" : "BF16";
}

static bool is_ssm_parameter(draw kind, const char *name) {
    size_t length = strlen(name);
    return kind == DRAW_A_LOG || kind == DRAW_DT_BIAS || name[length - 1] == 'D';
}

/* One tensor [rows, columns]; columns 0 makes a vector, middle 1 the conv's [rows, 1, columns]. */
static void add_tensor(struct writer *w, draw kind, const char *name, int64_t rows, int64_t middle,
                       int64_t columns) {
    const struct checkpoint_options *o = &w->o;
    if (o->skip != NULL && strcmp(o->skip, name) == 0) return;
    if (o->misshape != NULL && strcmp(o->misshape, name) == 0) rows++;
    /* Tied tensors get the same numbers under either name. */
    bool is_head = strcmp(name, "lm_head.weight") == 0;
    const char *drawn =
        is_head && o->head != CHECKPOINT_UNTIED ? "backbone.embeddings.weight" : name;
    char seed[2 * NAME_BYTES];
    (void)snprintf(seed, sizeof seed, "%s/%s", o->seed, drawn);
    ssmq_rng rng = ssmq_rng_from_text(seed);
    int shard = w->n_tensors++ % w->n_shards;
    ssmq_str *header = &w->header[shard];
    ssmq_str *data = &w->data[shard];
    ssmq_dtype dtype = o->fp32_ssm && is_ssm_parameter(kind, name) ? SSMQ_F32 : o->dtype;
    const size_t begin = data->n_bytes;
    const int64_t n = rows * (columns > 0 ? columns : 1);
    for (int64_t i = 0; i < n; i++) {
        add_number(data, draw_number(kind, (double)columns, &rng), dtype);
    }
    char stored[NAME_BYTES];
    stored_name(stored, o, name);
    ssmq_str_addf(header, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[%lld", stored,
                  dtype_text(o, name, dtype), (long long)rows);
    if (middle > 0) ssmq_str_addf(header, ",%lld", (long long)middle);
    if (columns > 0) ssmq_str_addf(header, ",%lld", (long long)columns);
    ssmq_str_addf(header, "],\"data_offsets\":[%zu,%zu]}", begin, data->n_bytes);
    ssmq_str_addf(&w->weight_map, "%s\"%s\":\"model-%05d-of-%05d.safetensors\"",
                  w->weight_map.n_bytes > 0 ? "," : "", stored, shard + 1, w->n_shards);
}

static void add_layer(struct writer *w, int64_t layer) {
    const struct checkpoint_options *o = &w->o;
    const int64_t di = o->H * o->P;
    const int64_t conv_dim = di + 2 * o->G * o->N;
    const int64_t rows = di + conv_dim + o->H;
    char name[NAME_BYTES];
#define NAME(part)                                                                                 \
    ((void)snprintf(name, sizeof name, "backbone.layers.%lld." part, (long long)layer), name)
    add_tensor(w, DRAW_NORM, NAME("norm.weight"), o->d, 0, 0);
    add_tensor(w, DRAW_LINEAR, NAME("mixer.in_proj.weight"), rows, 0, o->d);
    if (o->has_bias) add_tensor(w, DRAW_BIAS, NAME("mixer.in_proj.bias"), rows, 0, 0);
    add_tensor(w, DRAW_CONV, NAME("mixer.conv1d.weight"), conv_dim, 1, o->K);
    if (!o->no_conv_bias) add_tensor(w, DRAW_BIAS, NAME("mixer.conv1d.bias"), conv_dim, 0, 0);
    add_tensor(w, DRAW_DT_BIAS, NAME("mixer.dt_bias"), o->H, 0, 0);
    add_tensor(w, DRAW_A_LOG, NAME("mixer.A_log"), o->H, 0, 0);
    add_tensor(w, DRAW_NORM, NAME("mixer.D"), o->H, 0, 0);
    add_tensor(w, DRAW_NORM, NAME("mixer.norm.weight"), di, 0, 0);
    add_tensor(w, DRAW_LINEAR, NAME("mixer.out_proj.weight"), o->d, 0, di);
    if (o->has_bias) add_tensor(w, DRAW_BIAS, NAME("mixer.out_proj.bias"), o->d, 0, 0);
#undef NAME
}

static void replace(const char *folder, const char *name, const ssmq_str *text) {
    char path[SSMQ_PATH_BYTES];
    assert_int_equal(ssmq_path_join(path, folder, name, NULL), SSMQ_OK);
    assert_int_equal(text->status, SSMQ_OK);
    assert_int_equal(ssmq_file_replace(path, text->text, text->n_bytes, NULL), SSMQ_OK);
}

static void write_shard(struct writer *w, const char *folder, int shard) {
    char name[NAME_BYTES] = "model.safetensors";
    if (w->o.naming == CHECKPOINT_MISTRAL) {
        (void)snprintf(name, sizeof name, "consolidated.safetensors");
    }
    if (w->n_shards > 1) {
        (void)snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", shard + 1, w->n_shards);
    }
    ssmq_str *header = &w->header[shard];
    ssmq_str_add(header, "}", 1);
    while (header->n_bytes % 8 != 0) ssmq_str_add(header, " ", 1);
    ssmq_str file;
    ssmq_str_init(&file, MAX_BYTES);
    for (int i = 0; i < 8; i++) {
        char byte = (char)(unsigned char)((uint64_t)header->n_bytes >> 8 * i & 0xFF);
        ssmq_str_add(&file, &byte, 1);
    }
    ssmq_str_add(&file, header->text, header->n_bytes);
    if (w->data[shard].n_bytes > 0) {
        ssmq_str_add(&file, w->data[shard].text, w->data[shard].n_bytes);
    }
    replace(folder, name, &file);
    ssmq_str_free(&file);
}

static void write_index(struct writer *w, const char *folder) {
    ssmq_str text;
    ssmq_str_init(&text, MAX_BYTES);
    size_t total = 0;
    for (int i = 0; i < w->n_shards; i++) total += w->data[i].n_bytes;
    ssmq_str_addf(&text, "{\"metadata\":{\"total_size\":%zu},\"weight_map\":{%s}}\n", total,
                  ssmq_str_get(&w->weight_map));
    replace(folder, "model.safetensors.index.json", &text);
    ssmq_str_free(&text);
}

/* H * P / d, such that truncating its product with d gives H * P back. */
static double expand_of(const struct checkpoint_options *o) {
    double expand = (double)(o->H * o->P) / (double)o->d;
    while ((int64_t)(expand * (double)o->d) < o->H * o->P) expand = nextafter(expand, INFINITY);
    return expand;
}

static const char *truth(bool value) {
    return value ? "true" : "false";
}

static void add_limit(ssmq_str *text, const struct checkpoint_options *o) {
    ssmq_str_addf(text, "[%#.9g, ", o->dt_min);
    if (isinf(o->dt_max)) {
        ssmq_str_addf(text, "Infinity]");
    } else {
        ssmq_str_addf(text, "%#.9g]", o->dt_max);
    }
}

static void write_config(const char *folder, const struct checkpoint_options *o) {
    const bool is_tied = o->head != CHECKPOINT_UNTIED;
    ssmq_str text;
    ssmq_str_init(&text, MAX_BYTES);
    const long long d = o->d;
    const long long L = o->L;
    const long long V = o->V;
    const long long G = o->G;
    if (o->naming == CHECKPOINT_HF) {
        ssmq_str_addf(&text,
                      "{\"model_type\": \"mamba2\", \"hidden_size\": %lld, "
                      "\"num_hidden_layers\": %lld, \"vocab_size\": %lld, \"n_groups\": %lld, ",
                      d, L, V, G);
        ssmq_str_addf(&text,
                      "\"num_heads\": %lld, \"head_dim\": %lld, \"state_size\": %lld, "
                      "\"conv_kernel\": %lld, \"expand\": %.17g, ",
                      (long long)o->H, (long long)o->P, (long long)o->N, (long long)o->K,
                      expand_of(o));
        ssmq_str_addf(&text,
                      "\"use_bias\": %s, \"use_conv_bias\": %s, \"residual_in_fp32\": %s, "
                      "\"tie_word_embeddings\": %s, \"time_step_limit\": ",
                      truth(o->has_bias), truth(!o->no_conv_bias), truth(!o->residual_16),
                      truth(is_tied));
        add_limit(&text, o);
        ssmq_str_addf(&text, ", \"bos_token_id\": 0, \"eos_token_id\": 0, \"pad_token_id\": 0}\n");
    } else if (o->naming == CHECKPOINT_STATE_SPACES) {
        ssmq_str_addf(&text,
                      "{\"d_model\": %lld, \"n_layer\": %lld, \"vocab_size\": %lld, "
                      "\"pad_vocab_size_multiple\": 1, \"rms_norm\": true, ",
                      d, L, V);
        ssmq_str_addf(&text,
                      "\"residual_in_fp32\": %s, \"tie_embeddings\": %s, \"ssm_cfg\": {\"layer\": "
                      "\"Mamba2\", \"d_state\": %lld, \"d_conv\": %lld, \"expand\": %.17g, ",
                      truth(!o->residual_16), truth(is_tied), (long long)o->N, (long long)o->K,
                      expand_of(o));
        ssmq_str_addf(&text,
                      "\"headdim\": %lld, \"ngroups\": %lld, \"bias\": %s, \"conv_bias\": %s, "
                      "\"dt_limit\": ",
                      (long long)o->P, G, truth(o->has_bias), truth(!o->no_conv_bias));
        add_limit(&text, o);
        ssmq_str_addf(&text, "}}\n");
    } else {
        ssmq_str_addf(&text,
                      "{\"dim\": %lld, \"n_layers\": %lld, \"vocab_size\": %lld, \"n_groups\": "
                      "%lld, \"residual_in_fp32\": %s, \"tie_embeddings\": %s, "
                      "\"pad_vocab_size_multiple\": 1, \"model_type\": \"mamba\"}\n",
                      d, L, V, G, truth(!o->residual_16), truth(is_tied));
    }
    replace(folder, o->naming == CHECKPOINT_MISTRAL ? "params.json" : "config.json", &text);
    ssmq_str_free(&text);
}

void write_checkpoint(const char *folder, const struct checkpoint_options *options) {
    struct writer w = {.o = with_defaults(options)};
    w.n_shards = w.o.n_shards;
    assert_int_equal(ssmq_folder_make(folder, NULL), SSMQ_OK);
    ssmq_str_init(&w.weight_map, MAX_BYTES);
    for (int i = 0; i < w.n_shards; i++) {
        ssmq_str_init(&w.header[i], MAX_BYTES);
        ssmq_str_init(&w.data[i], MAX_BYTES);
        ssmq_str_addf(&w.header[i], "{\"__metadata__\":{\"format\":\"pt\"}");
    }
    write_config(folder, &w.o);
    if (w.o.head != CHECKPOINT_TIED_HEAD_ONLY) {
        add_tensor(&w, DRAW_LINEAR, "backbone.embeddings.weight", w.o.V, 0, w.o.d);
    }
    for (int64_t layer = 0; layer < w.o.L; layer++) add_layer(&w, layer);
    add_tensor(&w, DRAW_NORM, "backbone.norm_f.weight", w.o.d, 0, 0);
    if (w.o.head != CHECKPOINT_TIED) {
        add_tensor(&w, DRAW_LINEAR, "lm_head.weight", w.o.V, 0, w.o.d);
    }
    if (w.o.extra != NULL) add_tensor(&w, DRAW_NORM, w.o.extra, 3, 0, 0);
    for (int i = 0; i < w.n_shards; i++) {
        write_shard(&w, folder, i);
        ssmq_str_free(&w.header[i]);
        ssmq_str_free(&w.data[i]);
    }
    if (w.n_shards > 1) write_index(&w, folder);
    ssmq_str_free(&w.weight_map);
}

void make_temp_folder(char *out) {
    const char *parent = getenv("TMPDIR");
    if (parent == NULL || parent[0] == '\0') parent = "/tmp";
    (void)snprintf(out, SSMQ_PATH_BYTES, "%s/ssmq-test-XXXXXX", parent);
    assert_non_null(mkdtemp(out));
}

void remove_folder(const char *folder) {
    DIR *entries = opendir(folder);
    if (entries == NULL) return;
    for (struct dirent *entry = readdir(entries); entry != NULL; entry = readdir(entries)) {
        char path[2 * SSMQ_PATH_BYTES];
        (void)snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        (void)unlink(path);
    }
    (void)closedir(entries);
    (void)rmdir(folder);
}
