/* SPDX-License-Identifier: Apache-2.0 */
/* Keys. A key holds what the numbers of its task depend on, and nothing else: how many windows or
 * prompts run together is left out, because results must not depend on it; names of precisions and
 * spellings of scopes are left out, because only what they stand for matters. */
#include "grid/key.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "config/values.h"
#include "model/modules.h"

enum {
    LAYER_MODULES = (1 << SSMQ_LM_HEAD) - 1, /* modules before lm_head are of layers */
    LIST_BYTES = 160,                        /* of a list of depths in a key */
    HASH_DIGITS = 32
};

/* Appends the text, or, if it is longer than max_bytes, the head of its SHA-256. */
static void add_or_hash(ssmq_str *out, const ssmq_str *text, size_t max_bytes) {
    if (text->n_bytes <= max_bytes) {
        ssmq_str_addf(out, "%s", ssmq_str_get(text));
        return;
    }
    char hex[SSMQ_SHA256_HEX_BYTES];
    ssmq_sha256_of(ssmq_str_get(text), text->n_bytes, hex);
    ssmq_str_addf(out, "sha256:%.*s", HASH_DIGITS, hex);
}

static void add_layers(ssmq_str *out, int64_t first, int64_t last) {
    ssmq_str_addf(out, "%s%" PRId64, out->n_bytes > strlen("only:") ? "," : "", first);
    if (last > first) ssmq_str_addf(out, "-%" PRId64, last);
}

/* Items of the layers first to last, which all have the modules of mask. */
static void add_run(ssmq_str *out, int64_t first, int64_t last, uint32_t mask) {
    uint32_t in_proj = ssmq_module_mask_of("in_proj");
    if (mask == ssmq_module_default_mask()) {
        add_layers(out, first, last);
        return;
    }
    if ((mask & in_proj) == in_proj) {
        add_layers(out, first, last);
        ssmq_str_addf(out, ".in_proj");
        mask &= ~in_proj;
    }
    for (int module = 0; module < SSMQ_N_MODULES; module++) {
        if ((mask & SSMQ_MODULE_BIT(module)) == 0) continue;
        add_layers(out, first, last);
        ssmq_str_addf(out, ".%s", ssmq_module_name((ssmq_module)module));
    }
}

static bool is_all(const ssmq_spec *spec, const ssmq_shape *shape) {
    for (int64_t layer = 0; layer < shape->L; layer++) {
        if (spec->layer_modules[layer] != ssmq_module_default_mask()) return false;
    }
    return spec->model_modules == 0;
}

static void add_modules(ssmq_str *out, const ssmq_spec *spec, const ssmq_shape *shape) {
    ssmq_str_addf(out, "only:");
    for (int64_t first = 0; first < shape->L;) {
        int64_t last = first;
        uint32_t mask = spec->layer_modules[first];
        while (last + 1 < shape->L && spec->layer_modules[last + 1] == mask) last++;
        if (mask != 0) add_run(out, first, last, mask);
        first = last + 1;
    }
    for (int module = 0; module < SSMQ_N_MODULES; module++) {
        if ((spec->model_modules & SSMQ_MODULE_BIT(module)) == 0) continue;
        ssmq_str_addf(out, "%s%s", out->n_bytes > strlen("only:") ? "," : "",
                      ssmq_module_name((ssmq_module)module));
    }
}

static double share_of(const ssmq_spec *spec, const ssmq_shape *shape) {
    double all = 0.0;
    double quantized = 0.0;
    for (int i = 0; i < ssmq_modules_count(shape); i++) {
        const ssmq_module_info info = ssmq_modules_get(shape, i);
        if (info.layer < 0 || !info.is_product) continue;
        const double weights = (double)info.rows * (double)info.columns;
        const bool is_in = (spec->layer_modules[info.layer] & SSMQ_MODULE_BIT(info.module)) != 0;
        all += weights;
        quantized += is_in ? weights : 0.0;
    }
    return all > 0.0 ? quantized / all : 0.0;
}

ssmq_status ssmq_scope_entry_resolve(ssmq_scope_entry *entry, const ssmq_shape *shape,
                                     ssmq_err *err) {
    /* Any quantized precision does: modules do not depend on which. */
    ssmq_precision precision;
    ssmq_spec spec;
    SSMQ_TRY(ssmq_precision_parse(&precision, "w8a8", err));
    ssmq_err cause = {0};
    ssmq_status status = ssmq_spec_init(&spec, &precision, entry->text, shape, &cause);
    if (status != SSMQ_OK) {
        return ssmq_err_set(err, status, __FILE__, __LINE__, "sweep.scopes: %s", cause.text);
    }
    ssmq_str text;
    ssmq_str canonical;
    ssmq_str_init(&text, 1 << 20);
    ssmq_str_init(&canonical, SSMQ_SCOPE_BYTES - 1);
    entry->quantized_share = share_of(&spec, shape);
    add_modules(&text, &spec, shape);
    entry->is_none = text.n_bytes == strlen("only:");
    if (entry->is_none || is_all(&spec, shape)) {
        ssmq_str_clear(&text);
        ssmq_str_addf(&text, "%s", entry->is_none ? "none" : "all");
    }
    status = ssmq_str_check(&text, "modules of a scope", err);
    add_or_hash(&canonical, &text, SSMQ_SCOPE_BYTES - 1);
    if (status == SSMQ_OK) status = ssmq_str_check(&canonical, "canonical scope", err);
    ssmq_field_set(entry->canonical, sizeof entry->canonical, ssmq_str_get(&canonical));
    ssmq_str_free(&text);
    ssmq_str_free(&canonical);
    return status;
}

static void add_precision(ssmq_str *out, const char *label, const ssmq_precision *p) {
    ssmq_str_addf(out, "/%s=%s,w%" PRId32 ":%s,a%" PRId32 ":%s,g%" PRId32 ",state:%s", label,
                  ssmq_dtype_name(p->dtype), p->w_bits, ssmq_format_get(p->w_format)->name,
                  p->a_bits, ssmq_format_get(p->a_format)->name, p->group_size,
                  ssmq_precision_state_name(p));
    if (p->state_is_stochastic) ssmq_str_addf(out, ":stochastic");
}

int64_t ssmq_used_tokens(const ssmq_config *config, const ssmq_inputs *inputs) {
    int64_t most = config->ppl.max_tokens;
    if (inputs->text_tokens < 0) return -1;
    return most > 0 && most < inputs->text_tokens ? most : inputs->text_tokens;
}

static void add_ppl(ssmq_str *out, const ssmq_trial *trial, const ssmq_config *config,
                    const ssmq_inputs *inputs) {
    int64_t used = ssmq_used_tokens(config, inputs);
    bool is_cut = used < 0 || used < inputs->text_tokens;
    ssmq_str_addf(out, "%s/%s/seq_len=%" PRId64, ssmq_task_name(trial->task),
                  ssmq_protocol_name(trial->protocol), trial->context_length);
    if (trial->protocol == SSMQ_PROTOCOL_SLIDING) {
        ssmq_str_addf(out, "/stride=%" PRId64, trial->stride);
    }
    ssmq_str_addf(out, "/max_tokens=%" PRId64, is_cut ? config->ppl.max_tokens : 0);
}

static void add_passkey(ssmq_str *out, const ssmq_trial *trial,
                        const ssmq_config_passkey *passkey) {
    ssmq_str depths;
    ssmq_str_init(&depths, 1 << 16);
    for (size_t i = 0; i < passkey->depth.n; i++) {
        char depth[32];
        ssmq_f64_to_text(depth, passkey->depth.values[i]);
        ssmq_str_addf(&depths, "%s%s", i > 0 ? "," : "", depth);
    }
    if (depths.status != SSMQ_OK) out->status = depths.status;
    ssmq_str_addf(out, "passkey/context_length=%" PRId64 "/depth=", trial->context_length);
    add_or_hash(out, &depths, LIST_BYTES);
    ssmq_str_addf(out, "/n_trials=%" PRId64 "/template=%s/filler=%s/control=%d", passkey->n_trials,
                  trial->prompt_template, passkey->filler, passkey->control ? 1 : 0);
    /* Unset it leaves keys, and with them prompts, as they were before there was such a control. */
    if (passkey->wrong_key) ssmq_str_addf(out, "/wrong_key=1");
    ssmq_str_free(&depths);
}

static void add_profile(ssmq_str *out, const ssmq_trial *trial,
                        const ssmq_config_profile *profile) {
    ssmq_str_addf(out,
                  "profile/context_length=%" PRId64 "/batch_size=%" PRId64 "/gen_len=%" PRId64
                  "/n_warmup=%" PRId64 "/n_measure=%" PRId64,
                  trial->context_length, trial->batch_size, trial->gen_len, profile->n_warmup,
                  profile->n_measure);
    /* Unset it leaves keys as they were before there was a choice. */
    if (strcmp(profile->decode_products, "library") != 0) {
        ssmq_str_addf(out, "/decode_products=%s", profile->decode_products);
    }
}

static void add_task(ssmq_str *out, const ssmq_trial *trial, const ssmq_precision *baseline,
                     const ssmq_config *config, const ssmq_inputs *inputs) {
    switch (trial->task) {
    case SSMQ_TASK_PPL:
        add_ppl(out, trial, config, inputs);
        return;
    case SSMQ_TASK_FIDELITY:
        add_ppl(out, trial, config, inputs);
        add_precision(out, "baseline", baseline);
        return;
    case SSMQ_TASK_DRIFT:
        ssmq_str_addf(out, "drift/context_length=%" PRId64 "/n_sequences=%" PRId64 "/path=%s",
                      trial->context_length, trial->batch_size, config->drift.path);
        /* Unset it leaves keys as they were before there was an impulse. */
        if (config->drift.impulse > 0.0) {
            char impulse[32];
            ssmq_f64_to_text(impulse, config->drift.impulse);
            ssmq_str_addf(out, "/impulse=%s", impulse);
        }
        add_precision(out, "baseline", baseline);
        return;
    case SSMQ_TASK_PASSKEY:
        add_passkey(out, trial, &config->passkey);
        return;
    default:
        add_profile(out, trial, &config->profile);
        return;
    }
}

/* A line for everything the id depends on; files only where the task reads them. */
static void hash_id(ssmq_trial *trial, const ssmq_config *config, const ssmq_inputs *inputs) {
    bool is_text = ssmq_task_reads_text(trial->task);
    bool is_prompt = trial->task == SSMQ_TASK_PASSKEY;
    bool is_filler = is_prompt && strcmp(config->passkey.filler, "text") == 0;
    const char *const lines[] = {
        "ssmq trial",
        SSMQ_NUMERICS_VERSION,
        trial->key,
        inputs->model_sha256,
        is_text || is_prompt ? inputs->tokenizer_sha256 : "",
        is_text ? inputs->text_sha256 : "",
        is_filler ? inputs->filler_sha256 : "",
    };
    unsigned char digest[SSMQ_SHA256_BYTES];
    ssmq_sha256 sha;
    ssmq_sha256_init(&sha);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        ssmq_sha256_add(&sha, lines[i], strlen(lines[i]));
        ssmq_sha256_add(&sha, "\n", 1);
    }
    ssmq_sha256_end(&sha, digest);
    ssmq_sha256_hex(digest, trial->id);
}

/* The key, and on the way the draw, which is how it begins and ends. */
static ssmq_status name_texts(ssmq_trial *trial, ssmq_str *text, const char *canonical_scope,
                              const ssmq_config *config, const ssmq_inputs *inputs,
                              ssmq_texts *texts, ssmq_err *err) {
    ssmq_precision baseline = {0};
    if (ssmq_task_has_baseline(trial->task)) SSMQ_TRY(ssmq_config_baseline(&baseline, config, err));
    add_task(text, trial, &baseline, config, inputs);
    const size_t n_task = text->n_bytes;
    if (trial->draw == NULL) {
        ssmq_str_addf(text, "/seed=%" PRId64, trial->seed);
        SSMQ_TRY(ssmq_str_check(text, "draw of a trial", err));
        SSMQ_TRY(ssmq_texts_keep(texts, ssmq_str_get(text), &trial->draw, err));
        text->n_bytes = n_task;
    }
    add_precision(text, "precision", &trial->precision);
    ssmq_str_addf(text, "/scope=%s/seed=%" PRId64 "/device=%s", canonical_scope, trial->seed,
                  inputs->device);
    SSMQ_TRY(ssmq_str_check(text, "key of a trial", err));
    return ssmq_texts_keep(texts, ssmq_str_get(text), &trial->key, err);
}

ssmq_status ssmq_trial_name(ssmq_trial *trial, const char *canonical_scope,
                            const ssmq_config *config, const ssmq_inputs *inputs, ssmq_texts *texts,
                            ssmq_err *err) {
    ssmq_str text;
    ssmq_str_init(&text, SSMQ_TRIAL_KEY_BYTES - 1);
    const ssmq_status status =
        name_texts(trial, &text, canonical_scope, config, inputs, texts, err);
    ssmq_str_free(&text);
    SSMQ_TRY(status);
    hash_id(trial, config, inputs);
    return SSMQ_OK;
}
