/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/inputs.h"

#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "engine/device.h"

enum { MAX_TEXT_BYTES = 1 << 30, USUAL_TOKEN_BYTES = 4 };

ssmq_status ssmq_device_find(const ssmq_engine_api **out, const char *device, bool needs_device,
                             ssmq_err *err) {
    bool is_auto = strcmp(device, "auto") == 0;
    const char *name = is_auto ? (ssmq_engine_n_devices() > 0 ? "cuda" : "cpu") : device;
    *out = ssmq_engine_find(name);
    if (*out == NULL) {
        return SSMQ_FAIL(err, CONFIG,
                         "model.device: '%s' is not in this build; allowed are auto, %s", device,
                         ssmq_engine_names());
    }
    if (needs_device && strcmp(name, "cuda") == 0 && ssmq_engine_n_devices() == 0) {
        return SSMQ_FAIL(err, CONFIG,
                         "model.device: 'cuda' needs a working GPU and driver; none "
                         "is here (use auto or cpu)");
    }
    return SSMQ_OK;
}

ssmq_status ssmq_text_tokenize(const char *path, const ssmq_tokenizer *tokenizer, ssmq_ids *ids,
                               char sha256[SSMQ_SHA256_HEX_BYTES], ssmq_text_counts *counts,
                               ssmq_err *err) {
    char *text = NULL;
    size_t n_bytes = 0;
    SSMQ_TRY(ssmq_file_read(&text, &n_bytes, path, MAX_TEXT_BYTES, err));
    size_t n_valid = ssmq_utf8_valid_prefix(text, n_bytes);
    ssmq_status status = SSMQ_OK;
    if (n_bytes == 0) {
        status = SSMQ_FAIL(err, CONFIG, "%s: the text is empty", path);
    } else if (n_valid < n_bytes) {
        status = SSMQ_FAIL(err, CONFIG, "%s: not UTF-8 at byte %zu", path, n_valid);
    } else {
        if (sha256 != NULL) ssmq_sha256_of(text, n_bytes, sha256);
        if (counts != NULL) *counts = ssmq_text_count(text, n_bytes);
        status = ssmq_tokenizer_encode(tokenizer, text, n_bytes, ids, err);
    }
    ssmq_free(text);
    return status;
}

static bool has_task(const ssmq_config *config, ssmq_task task) {
    for (size_t i = 0; i < config->sweep.n_tasks; i++) {
        if (config->sweep.tasks[i] == task) return true;
    }
    return false;
}

static bool has_text_task(const ssmq_config *config) {
    for (size_t i = 0; i < config->sweep.n_tasks; i++) {
        if (ssmq_task_reads_text(config->sweep.tasks[i])) return true;
    }
    return false;
}

static ssmq_status open_tokenizer(ssmq_loaded *loaded, ssmq_err *err) {
    const ssmq_config *config = &loaded->config;
    const bool needs_text = has_text_task(config) || has_task(config, SSMQ_TASK_PASSKEY);
    /* Profile draws its ids at random; their number is all that its speed depends on. */
    if (!needs_text) return SSMQ_OK;
    if (loaded->model->is_random) {
        return SSMQ_FAIL(err, CONFIG,
                         "sweep.tasks: %s has no tokenizer and random weights; allowed is "
                         "profile alone",
                         config->model.path);
    }
    SSMQ_TRY(ssmq_tokenizer_open(&loaded->tokenizer, config->model.path, err));
    ssmq_field_set(loaded->inputs.tokenizer_sha256, sizeof loaded->inputs.tokenizer_sha256,
                   ssmq_tokenizer_sha256(loaded->tokenizer));
    if (ssmq_tokenizer_vocab_count(loaded->tokenizer) > loaded->model->shape.V) {
        return SSMQ_FAIL(err, CONFIG, "%s: tokenizer.json has %d ids, the model only %lld",
                         config->model.path, ssmq_tokenizer_vocab_count(loaded->tokenizer),
                         (long long)loaded->model->shape.V);
    }
    return SSMQ_OK;
}

/* Cuts the text to ppl.max_tokens. What is left of it is what its ids say: where the tokenizer
 * normalizes or a character is cut, its bytes are not quite the file's. */
static ssmq_status cut_text(ssmq_loaded *loaded, ssmq_err *err) {
    const int64_t limit = loaded->config.ppl.max_tokens;
    if (limit == 0 || (size_t)limit >= loaded->text.n) return SSMQ_OK;
    loaded->text.n = (size_t)limit;
    ssmq_str text;
    ssmq_str_init(&text, MAX_TEXT_BYTES);
    const ssmq_status status =
        ssmq_tokenizer_decode(loaded->tokenizer, loaded->text.ids, loaded->text.n, &text, err);
    loaded->counts = ssmq_text_count(ssmq_str_get(&text), text.n_bytes);
    ssmq_str_free(&text);
    return status;
}

static ssmq_status open_texts(ssmq_loaded *loaded, ssmq_err *err) {
    const ssmq_config *config = &loaded->config;
    if (has_text_task(config)) {
        SSMQ_TRY(ssmq_text_tokenize(config->ppl.text, loaded->tokenizer, &loaded->text,
                                    loaded->inputs.text_sha256, &loaded->counts, err));
        loaded->inputs.text_tokens = (int64_t)loaded->text.n;
        SSMQ_TRY(cut_text(loaded, err));
    }
    if (has_task(config, SSMQ_TASK_PASSKEY) && strcmp(config->passkey.filler, "text") == 0) {
        SSMQ_TRY(ssmq_text_tokenize(config->passkey.filler_text, loaded->tokenizer, &loaded->filler,
                                    loaded->inputs.filler_sha256, NULL, err));
    }
    return SSMQ_OK;
}

/* A published shape alone; no weight is drawn. */
static ssmq_status open_shape(ssmq_loaded *loaded, ssmq_err *err) {
    const ssmq_config *config = &loaded->config;
    ssmq_inputs *inputs = &loaded->inputs;
    char *text = NULL;
    size_t n_bytes = 0;
    SSMQ_TRY(ssmq_shape_read(&inputs->shape, config->model.path, err));
    ssmq_field_set(inputs->model_name, sizeof inputs->model_name, config->model.path);
    ssmq_field_set(inputs->tokenizer_sha256, sizeof inputs->tokenizer_sha256, "unknown");
    if (!has_text_task(config)) return SSMQ_OK;
    SSMQ_TRY(ssmq_file_read(&text, &n_bytes, config->ppl.text, MAX_TEXT_BYTES, err));
    ssmq_free(text);
    inputs->text_tokens = (int64_t)n_bytes / USUAL_TOKEN_BYTES;
    return SSMQ_OK;
}

/* What goes with the model that is open. */
static ssmq_status open_beside_model(ssmq_loaded *loaded, ssmq_err *err) {
    ssmq_inputs *inputs = &loaded->inputs;
    inputs->shape = loaded->model->shape;
    ssmq_field_set(inputs->model_name, sizeof inputs->model_name, loaded->model->name);
    ssmq_field_set(inputs->model_sha256, sizeof inputs->model_sha256, loaded->model->sha256);
    SSMQ_TRY(open_tokenizer(loaded, err));
    return open_texts(loaded, err);
}

/* Views for trials. */
static void set_trial(ssmq_loaded *out) {
    out->trial = (ssmq_trial_inputs){
        .config = &out->config,
        .model = out->model,
        .tokenizer = out->tokenizer,
        .text_ids = out->text.ids,
        .n_text_ids = (int64_t)out->text.n,
        .text_counts = out->counts,
        .filler_ids = out->filler.ids,
        .n_filler_ids = (int64_t)out->filler.n,
        .inputs = &out->inputs,
    };
}

static ssmq_status open_parts(ssmq_loaded *out, ssmq_need need, ssmq_err *err) {
    const char *device = out->config.model.device;
    const bool is_cuda = strcmp(device, "cuda") == 0;
    ssmq_inputs *inputs = &out->inputs;
    if (need != SSMQ_NEEDS_SHAPE || !is_cuda || ssmq_engine_find(device) != NULL) {
        SSMQ_TRY(ssmq_device_find(&out->engine_api, device, need == SSMQ_NEEDS_DEVICE, err));
        device = out->engine_api->name;
    }
    ssmq_field_set(inputs->device, sizeof inputs->device, device);
    if (need == SSMQ_NEEDS_SHAPE && ssmq_model_path_is_random(out->config.model.path)) {
        SSMQ_TRY(open_shape(out, err));
    } else {
        SSMQ_TRY(ssmq_model_open(&out->model, out->config.model.path, err));
        SSMQ_TRY(open_beside_model(out, err));
    }
    set_trial(out);
    return SSMQ_OK;
}
ssmq_status ssmq_loaded_open(ssmq_loaded *out, const ssmq_config *config, ssmq_need need,
                             ssmq_err *err) {
    memset(out, 0, sizeof *out);
    out->config = *config;
    ssmq_status status = open_parts(out, need, err);
    if (status != SSMQ_OK) ssmq_loaded_close(out);
    return status;
}

ssmq_status ssmq_loaded_open_with(ssmq_loaded *out, const ssmq_config *config,
                                  const ssmq_engine_api *engine_api, ssmq_model *model,
                                  ssmq_err *err) {
    memset(out, 0, sizeof *out);
    out->config = *config;
    out->engine_api = engine_api;
    out->model = model;
    ssmq_field_set(out->inputs.device, sizeof out->inputs.device, engine_api->name);
    ssmq_status status = open_beside_model(out, err);
    if (status == SSMQ_OK) {
        set_trial(out);
    } else {
        ssmq_loaded_close(out);
    }
    return status;
}

void ssmq_loaded_close(ssmq_loaded *loaded) {
    ssmq_model_close(loaded->model);
    ssmq_tokenizer_close(loaded->tokenizer);
    ssmq_ids_free(&loaded->text);
    ssmq_ids_free(&loaded->filler);
    memset(loaded, 0, sizeof *loaded);
}
