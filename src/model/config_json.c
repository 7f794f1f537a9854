/* SPDX-License-Identifier: Apache-2.0 */
/* Each family reads its own keys with its own defaults into one set of sizes, which finish() then
 * checks against each other. Keys that only training or another program reads are ignored;
 * norm_before_gate among them, since published files carry it wrongly. */
#include "model/config_json.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/str.h"
#include "json/json.h"

enum { MAX_STATE = 65536, VALUE_BYTES = 64 };

/* One object of a configuration: `prefix` comes before its keys in messages. */
typedef struct section {
    const ssmq_json *object;
    const char *path;
    const char *prefix;
} section;

/* A value for messages. */
static const char *describe(const ssmq_json *value, char *out) {
    size_t n_bytes = 0;
    double number = 0;
    const char *text = ssmq_json_string(value, &n_bytes);
    ssmq_str str;
    ssmq_str_init(&str, VALUE_BYTES - 1);
    if (text != NULL && n_bytes <= VALUE_BYTES / 2) {
        ssmq_str_add_json(&str, text, n_bytes);
    } else if (ssmq_json_f64(value, &number)) {
        ssmq_str_addf(&str, "%.12g", number);
    } else {
        ssmq_str_addf(&str, "%s", ssmq_json_type_name(ssmq_json_type_of(value)));
    }
    ssmq_field_set(out, VALUE_BYTES, str.n_bytes > 0 ? ssmq_str_get(&str) : "a string");
    ssmq_str_free(&str);
    return out;
}

static ssmq_status wrong(const section *s, const char *key, const ssmq_json *value,
                         const char *allowed, ssmq_err *err) {
    char text[VALUE_BYTES];
    return SSMQ_FAIL(err, CONFIG, "%s: %s%s: %s; %s", s->path, s->prefix, key,
                     describe(value, text), allowed);
}

/* Each take_ function leaves *out alone if the key is absent: it holds the default. */
static ssmq_status take_range(const section *s, const char *key, int64_t min, int64_t max,
                              int64_t *out, ssmq_err *err) {
    const ssmq_json *value = NULL;
    int64_t number = 0;
    if (!ssmq_json_get(s->object, key, &value)) return SSMQ_OK;
    if (!ssmq_json_i64(value, &number) || number < min || number > max) {
        char text[VALUE_BYTES];
        return SSMQ_FAIL(err, CONFIG, "%s: %s%s: %s; an integer from %lld to %lld is needed",
                         s->path, s->prefix, key, describe(value, text), (long long)min,
                         (long long)max);
    }
    *out = number;
    return SSMQ_OK;
}

static ssmq_status take_i64(const section *s, const char *key, int64_t max, int64_t *out,
                            ssmq_err *err) {
    return take_range(s, key, 1, max, out, err);
}

static ssmq_status need_i64(const section *s, const char *key, int64_t max, int64_t *out,
                            ssmq_err *err) {
    const ssmq_json *value = NULL;
    if (!ssmq_json_get(s->object, key, &value)) {
        return SSMQ_FAIL(err, CONFIG, "%s: %s%s is missing", s->path, s->prefix, key);
    }
    return take_i64(s, key, max, out, err);
}

static ssmq_status take_bool(const section *s, const char *key, bool *out, ssmq_err *err) {
    const ssmq_json *value = NULL;
    bool truth = false;
    if (!ssmq_json_get(s->object, key, &value)) return SSMQ_OK;
    if (!ssmq_json_bool(value, &truth)) return wrong(s, key, value, "true or false is needed", err);
    *out = truth;
    return SSMQ_OK;
}

/* A key that may only have one truth value, its default. */
static ssmq_status want_bool(const section *s, const char *key, bool wanted, ssmq_err *err) {
    bool got = wanted;
    SSMQ_TRY(take_bool(s, key, &got, err));
    if (got == wanted) return SSMQ_OK;
    return SSMQ_FAIL(err, CONFIG, "%s: %s%s: %s; only %s is supported", s->path, s->prefix, key,
                     got ? "true" : "false", wanted ? "true" : "false");
}

static ssmq_status want_silu(const section *s, const char *key, ssmq_err *err) {
    const ssmq_json *value = NULL;
    size_t n_bytes = 0;
    if (!ssmq_json_get(s->object, key, &value)) return SSMQ_OK;
    const char *text = ssmq_json_string(value, &n_bytes);
    if (text != NULL && (strcmp(text, "silu") == 0 || strcmp(text, "swish") == 0)) return SSMQ_OK;
    return wrong(s, key, value, "only silu (swish) is supported", err);
}

/* A number, or the object {"__float__": "Infinity"} that newer Transformers write for one. */
static bool get_f64(const ssmq_json *value, double *out) {
    static const struct {
        const char *text;
        double number;
    } names[] = {{"Infinity", INFINITY}, {"-Infinity", -INFINITY}, {"NaN", NAN}};
    const ssmq_json *inner = NULL;
    size_t n_bytes = 0;
    if (ssmq_json_f64(value, out)) return true;
    (void)ssmq_json_get(value, "__float__", &inner);
    const char *text = ssmq_json_string(inner, &n_bytes);
    for (size_t i = 0; text != NULL && i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(text, names[i].text) == 0) {
            *out = names[i].number;
            return true;
        }
    }
    return false;
}

static float to_f32(double x) {
    const double largest = 3.4028234663852886e38;
    if (x > largest) return INFINITY;
    if (x < -largest) return -INFINITY;
    return (float)x;
}

/* Limits of dt: low finite or -Infinity, low <= high, high > 0. */
static ssmq_status take_dt_limit(const section *s, const char *key, ssmq_shape *shape,
                                 ssmq_err *err) {
    const ssmq_json *value = NULL;
    double low = 0;
    double high = 0;
    if (!ssmq_json_get(s->object, key, &value)) return SSMQ_OK;
    if (ssmq_json_n_items(value) != 2 || !get_f64(ssmq_json_item(value, 0), &low) ||
        !get_f64(ssmq_json_item(value, 1), &high)) {
        return wrong(s, key, value, "a list of two numbers is needed", err);
    }
    shape->dt_min = to_f32(low);
    shape->dt_max = to_f32(high);
    bool is_ordered = low <= high && high > 0.0 && shape->dt_min < INFINITY;
    if (is_ordered) return SSMQ_OK;
    return SSMQ_FAIL(err, CONFIG, "%s: %s%s: [%g, %g]; low <= high with a positive high is needed",
                     s->path, s->prefix, key, low, high);
}

static ssmq_status take_eps(const section *s, const char *key, ssmq_shape *shape, ssmq_err *err) {
    const ssmq_json *value = NULL;
    double eps = 0;
    if (!ssmq_json_get(s->object, key, &value)) return SSMQ_OK;
    if (!ssmq_json_f64(value, &eps) || !(eps >= 1e-30 && eps < 1.0)) {
        return wrong(s, key, value, "a number from 1e-30 to below 1 is needed", err);
    }
    shape->eps = (float)eps;
    return SSMQ_OK;
}

static ssmq_status take_expand(const section *s, ssmq_shape *shape, ssmq_err *err) {
    const ssmq_json *value = NULL;
    double expand = 0;
    if (!ssmq_json_get(s->object, "expand", &value)) return SSMQ_OK;
    if (!ssmq_json_f64(value, &expand) || !(expand > 0.0 && expand <= SSMQ_MAX_INNER)) {
        return wrong(s, "expand", value, "a positive number is needed", err);
    }
    shape->expand = expand;
    return SSMQ_OK;
}

/* A token id, null for none, or a list whose first id counts. */
static ssmq_status take_id(const section *s, const char *key, int32_t *out, ssmq_err *err) {
    const ssmq_json *value = NULL;
    int64_t id = -1;
    if (!ssmq_json_get(s->object, key, &value)) return SSMQ_OK;
    if (ssmq_json_n_items(value) > 0) value = ssmq_json_item(value, 0);
    bool is_none = ssmq_json_type_of(value) == SSMQ_JSON_NULL;
    if (!is_none && (!ssmq_json_i64(value, &id) || id < -1 || id > SSMQ_MAX_VOCAB)) {
        return wrong(s, key, value, "a token id or null is needed", err);
    }
    *out = (int32_t)id;
    return SSMQ_OK;
}

static ssmq_status pad_vocab(const section *s, int64_t multiple, ssmq_shape *shape, ssmq_err *err) {
    SSMQ_TRY(take_i64(s, "pad_vocab_size_multiple", SSMQ_MAX_VOCAB, &multiple, err));
    shape->V = (shape->V + multiple - 1) / multiple * multiple;
    if (shape->V <= SSMQ_MAX_VOCAB) return SSMQ_OK;
    return SSMQ_FAIL(err, CONFIG, "%s: vocab_size: %lld after padding; at most %d is allowed",
                     s->path, (long long)shape->V, SSMQ_MAX_VOCAB);
}

/* Sizes that follow from others, and the relations between them. has_heads: H was read; else it
 * follows from di and P. */
static ssmq_status finish(const section *s, bool has_heads, ssmq_shape *shape, ssmq_err *err) {
    const char *path = s->path;
    double inner = shape->expand * (double)shape->d;
    if (!(inner >= 1.0 && inner <= SSMQ_MAX_INNER)) {
        return SSMQ_FAIL(err, CONFIG, "%s: expand * hidden size: %g; 1 to %d is allowed", path,
                         inner, SSMQ_MAX_INNER);
    }
    shape->di = (int64_t)inner;
    if (!has_heads) {
        shape->H = shape->di / shape->P;
        if (shape->di % shape->P != 0) {
            return SSMQ_FAIL(err, CONFIG, "%s: inner size %lld is no multiple of head size %lld",
                             path, (long long)shape->di, (long long)shape->P);
        }
    }
    if (shape->H * shape->P != shape->di) {
        return SSMQ_FAIL(err, CONFIG,
                         "%s: num_heads %lld * head_dim %lld is not the inner size %lld (expand %g "
                         "* hidden_size %lld)",
                         path, (long long)shape->H, (long long)shape->P, (long long)shape->di,
                         shape->expand, (long long)shape->d);
    }
    if (shape->H % shape->G != 0) {
        return SSMQ_FAIL(err, CONFIG, "%s: %lld heads do not divide into %lld groups", path,
                         (long long)shape->H, (long long)shape->G);
    }
    shape->conv_dim = shape->di + 2 * shape->G * shape->N;
    shape->R = shape->di + shape->conv_dim + shape->H;
    return SSMQ_OK;
}

static ssmq_status read_hf(const section *s, ssmq_shape *shape, ssmq_err *err) {
    const ssmq_json *type = NULL;
    size_t n_bytes = 0;
    if (!ssmq_json_get(s->object, "model_type", &type)) {
        return SSMQ_FAIL(
            err, CONFIG,
            "%s: no model_type, d_model or dim: not the configuration of a Mamba2 model", s->path);
    }
    const char *text = ssmq_json_string(type, &n_bytes);
    if (text != NULL && strcmp(text, "mamba") == 0) {
        return wrong(s, "model_type", type, "a Mamba1 model; only mamba2 is supported", err);
    }
    if (text == NULL || strcmp(text, "mamba2") != 0) {
        return wrong(s, "model_type", type, "only mamba2 is supported", err);
    }
    /* Codestral's sizes: the defaults of Transformers' Mamba2Config. */
    shape->d = 4096;
    shape->L = 64;
    shape->H = 128;
    shape->G = 8;
    shape->V = 32768;
    shape->eos_id = 2;
    shape->pad_id = 1;
    SSMQ_TRY(take_i64(s, "hidden_size", SSMQ_MAX_HIDDEN, &shape->d, err));
    SSMQ_TRY(take_i64(s, "num_hidden_layers", SSMQ_MAX_LAYERS, &shape->L, err));
    SSMQ_TRY(take_i64(s, "num_heads", SSMQ_MAX_INNER, &shape->H, err));
    SSMQ_TRY(take_i64(s, "head_dim", SSMQ_MAX_INNER, &shape->P, err));
    SSMQ_TRY(take_i64(s, "state_size", MAX_STATE, &shape->N, err));
    SSMQ_TRY(take_i64(s, "n_groups", SSMQ_MAX_INNER, &shape->G, err));
    SSMQ_TRY(take_range(s, "conv_kernel", 2, SSMQ_MAX_CONV_KERNEL, &shape->K, err));
    SSMQ_TRY(take_i64(s, "vocab_size", SSMQ_MAX_VOCAB, &shape->V, err));
    SSMQ_TRY(take_expand(s, shape, err));
    SSMQ_TRY(take_eps(s, "layer_norm_epsilon", shape, err));
    SSMQ_TRY(take_dt_limit(s, "time_step_limit", shape, err));
    SSMQ_TRY(take_bool(s, "use_bias", &shape->has_bias, err));
    SSMQ_TRY(take_bool(s, "use_conv_bias", &shape->has_conv_bias, err));
    SSMQ_TRY(take_bool(s, "tie_word_embeddings", &shape->is_tied, err));
    SSMQ_TRY(take_bool(s, "residual_in_fp32", &shape->residual_in_fp32, err));
    SSMQ_TRY(take_id(s, "bos_token_id", &shape->bos_id, err));
    SSMQ_TRY(take_id(s, "eos_token_id", &shape->eos_id, err));
    SSMQ_TRY(take_id(s, "pad_token_id", &shape->pad_id, err));
    SSMQ_TRY(want_silu(s, "hidden_act", err));
    SSMQ_TRY(want_bool(s, "rms_norm", true, err));
    return finish(s, true, shape, err);
}

/* Mixer options of the state-spaces family. */
static ssmq_status read_ssm_cfg(const section *s, ssmq_shape *shape, ssmq_err *err) {
    const ssmq_json *layer = NULL;
    size_t n_bytes = 0;
    (void)ssmq_json_get(s->object, "layer", &layer);
    const char *text = ssmq_json_string(layer, &n_bytes);
    if (text == NULL || strcmp(text, "Mamba2") != 0) {
        return SSMQ_FAIL(err, CONFIG, "%s: ssm_cfg.layer is not \"Mamba2\": a Mamba1 model",
                         s->path);
    }
    SSMQ_TRY(take_i64(s, "d_state", MAX_STATE, &shape->N, err));
    SSMQ_TRY(take_range(s, "d_conv", 2, SSMQ_MAX_CONV_KERNEL, &shape->K, err));
    SSMQ_TRY(take_i64(s, "headdim", SSMQ_MAX_INNER, &shape->P, err));
    SSMQ_TRY(take_i64(s, "ngroups", SSMQ_MAX_INNER, &shape->G, err));
    SSMQ_TRY(take_expand(s, shape, err));
    SSMQ_TRY(take_dt_limit(s, "dt_limit", shape, err));
    SSMQ_TRY(take_bool(s, "bias", &shape->has_bias, err));
    SSMQ_TRY(take_bool(s, "conv_bias", &shape->has_conv_bias, err));
    SSMQ_TRY(want_silu(s, "activation", err));
    SSMQ_TRY(want_bool(s, "rmsnorm", true, err));
    return want_bool(s, "D_has_hdim", false, err);
}

/* Layers that are not the plain mixer: attention, or an MLP behind it. */
static ssmq_status refuse_hybrid(const section *s, ssmq_err *err) {
    const ssmq_json *value = NULL;
    int64_t mlp = 0;
    (void)ssmq_json_get(s->object, "attn_layer_idx", &value);
    bool is_empty = ssmq_json_type_of(value) == SSMQ_JSON_NULL ||
                    (ssmq_json_type_of(value) == SSMQ_JSON_ARRAY && ssmq_json_n_items(value) == 0);
    if (!is_empty) {
        return SSMQ_FAIL(
            err, CONFIG,
            "%s: attn_layer_idx is not empty: hybrids with attention are not supported", s->path);
    }
    if (!ssmq_json_get(s->object, "d_intermediate", &value)) return SSMQ_OK;
    if (ssmq_json_i64(value, &mlp) && mlp == 0) return SSMQ_OK;
    return wrong(s, "d_intermediate", value, "only 0, no MLP, is supported", err);
}

static ssmq_status read_state_spaces(const section *s, ssmq_shape *shape, ssmq_err *err) {
    const ssmq_json *mixer = NULL;
    SSMQ_TRY(refuse_hybrid(s, err));
    shape->d = 2560;
    shape->L = 64;
    shape->V = 50277;
    shape->G = 1;
    shape->is_tied = true;
    SSMQ_TRY(take_i64(s, "d_model", SSMQ_MAX_HIDDEN, &shape->d, err));
    SSMQ_TRY(take_i64(s, "n_layer", SSMQ_MAX_LAYERS, &shape->L, err));
    SSMQ_TRY(take_i64(s, "vocab_size", SSMQ_MAX_VOCAB, &shape->V, err));
    SSMQ_TRY(take_bool(s, "tie_embeddings", &shape->is_tied, err));
    SSMQ_TRY(take_bool(s, "residual_in_fp32", &shape->residual_in_fp32, err));
    SSMQ_TRY(want_bool(s, "rms_norm", true, err));
    SSMQ_TRY(pad_vocab(s, 8, shape, err));
    (void)ssmq_json_get(s->object, "ssm_cfg", &mixer);
    section inner = {.object = mixer, .path = s->path, .prefix = "ssm_cfg."};
    SSMQ_TRY(read_ssm_cfg(&inner, shape, err));
    SSMQ_TRY(finish(&inner, false, shape, err));
    const ssmq_json *ssm_size = NULL;
    int64_t size = 0;
    (void)ssmq_json_get(mixer, "d_ssm", &ssm_size);
    if (ssmq_json_type_of(ssm_size) == SSMQ_JSON_NULL) return SSMQ_OK;
    if (ssmq_json_i64(ssm_size, &size) && size == shape->di) return SSMQ_OK;
    return wrong(&inner, "d_ssm", ssm_size, "only the inner size (null) is supported", err);
}

static ssmq_status read_mistral(const section *s, ssmq_shape *shape, ssmq_err *err) {
    SSMQ_TRY(refuse_hybrid(s, err));
    shape->G = 8;
    shape->eos_id = 2;
    shape->pad_id = 1;
    SSMQ_TRY(need_i64(s, "dim", SSMQ_MAX_HIDDEN, &shape->d, err));
    SSMQ_TRY(need_i64(s, "n_layers", SSMQ_MAX_LAYERS, &shape->L, err));
    SSMQ_TRY(need_i64(s, "vocab_size", SSMQ_MAX_VOCAB, &shape->V, err));
    SSMQ_TRY(take_i64(s, "n_groups", SSMQ_MAX_INNER, &shape->G, err));
    SSMQ_TRY(take_bool(s, "tie_embeddings", &shape->is_tied, err));
    SSMQ_TRY(take_bool(s, "residual_in_fp32", &shape->residual_in_fp32, err));
    SSMQ_TRY(want_bool(s, "rms_norm", true, err));
    SSMQ_TRY(pad_vocab(s, 1, shape, err));
    return finish(s, false, shape, err);
}

ssmq_status ssmq_config_json_parse(ssmq_shape *out, const char *text, size_t n_bytes,
                                   const char *name, ssmq_err *err) {
    ssmq_json *document = NULL;
    const ssmq_json *value = NULL;
    /* What all families share; each sets the rest. */
    ssmq_shape shape = {.P = 64,
                        .N = 128,
                        .K = 4,
                        .expand = 2.0,
                        .eps = 1e-5f,
                        .dt_max = INFINITY,
                        .has_conv_bias = true,
                        .residual_in_fp32 = true};
    memset(out, 0, sizeof *out);
    SSMQ_TRY(ssmq_json_parse(&document, text, n_bytes, name, err));
    section s = {.object = document, .path = name, .prefix = ""};
    ssmq_status status = SSMQ_OK;
    if (ssmq_json_get(document, "dim", &value)) {
        status = read_mistral(&s, &shape, err);
    } else if (ssmq_json_get(document, "d_model", &value)) {
        status = read_state_spaces(&s, &shape, err);
    } else {
        status = read_hf(&s, &shape, err);
    }
    if (status == SSMQ_OK) *out = shape;
    ssmq_json_free(document);
    return status;
}

ssmq_status ssmq_config_json_find(char *out, const char *folder, ssmq_err *err) {
    static const char *const names[] = {"config.json", "params.json"};
    if (!ssmq_path_exists(folder)) {
        return SSMQ_FAIL(err, CONFIG, "%s: no such folder", folder);
    }
    if (!ssmq_path_is_folder(folder)) {
        return SSMQ_FAIL(err, CONFIG, "%s: not a folder; a model is a folder with config.json",
                         folder);
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        SSMQ_TRY(ssmq_path_join(out, folder, names[i], err));
        if (ssmq_path_exists(out)) return SSMQ_OK;
    }
    return SSMQ_FAIL(err, CONFIG, "%s: neither config.json nor params.json", folder);
}
