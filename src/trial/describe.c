/* SPDX-License-Identifier: Apache-2.0 */
/* What a record says of a trial before it runs. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "trial/prompt.h"
#include "trial/task.h"

#define SET(field, text) ssmq_field_set((field), sizeof(field), (text))

static void describe_precision(const ssmq_precision *precision, ssmq_record *record) {
    SET(record->precision, precision->name);
    SET(record->dtype, ssmq_dtype_name(precision->dtype));
    SET(record->state_dtype, ssmq_precision_state_name(precision));
    SET(record->state_rounding, ssmq_precision_state_rounding(precision));
    SET(record->w_format, ssmq_format_get(precision->w_format)->name);
    SET(record->a_format, ssmq_format_get(precision->a_format)->name);
    record->w_bits = precision->w_bits;
    record->a_bits = precision->a_bits;
    ssmq_precision_calib_method(precision, record->calib_method, sizeof record->calib_method);
    /* Weights without scales have neither groups nor channels of them. */
    if (precision->w_format == SSMQ_FORMAT_FLOAT) return;
    record->group_size = precision->group_size;
    record->per_channel = precision->group_size == 0 ? 1 : 0;
}

/* Stored bits over the number of weights; that number is a fourth of their bytes in fp32. */
static double storage_bits_of(const ssmq_trial *trial, const ssmq_shape *shape) {
    ssmq_precision fp32;
    ssmq_spec spec, plain;
    if (ssmq_precision_parse(&fp32, "fp32", NULL) != SSMQ_OK ||
        ssmq_spec_init(&plain, &fp32, "none", shape, NULL) != SSMQ_OK ||
        ssmq_spec_init(&spec, &trial->precision, trial->scope, shape, NULL) != SSMQ_OK) {
        return NAN;
    }
    const double n_weights = (double)ssmq_spec_weight_bytes(&plain, shape) / 4.0;
    return 8.0 * (double)ssmq_spec_weight_bytes(&spec, shape) / n_weights;
}

static void describe_ppl(const ssmq_trial *trial, const ssmq_trial_inputs *inputs,
                         ssmq_record *record) {
    const bool is_stream = trial->protocol == SSMQ_PROTOCOL_STREAM;
    SET(record->protocol, ssmq_protocol_name(trial->protocol));
    SET(record->text_sha256, inputs->inputs->text_sha256);
    record->seq_len = trial->context_length;
    record->stride = trial->stride;
    record->max_context_tokens = trial->context_length;
    if (is_stream || trial->context_length > inputs->n_text_ids) {
        record->max_context_tokens = inputs->n_text_ids;
    }
}

static void describe_passkey(const ssmq_trial *trial, const ssmq_trial_inputs *inputs,
                             ssmq_record *record) {
    const ssmq_config_passkey *passkey = &inputs->config->passkey;
    const ssmq_template *template_ = ssmq_template_find(trial->prompt_template);
    SET(record->text_sha256, inputs->inputs->filler_sha256);
    SET(record->prompt_template_version, trial->prompt_template);
    SET(record->generation, "greedy");
    record->accuracy_floor = passkey->accuracy_floor;
    record->max_context_tokens = trial->context_length;
    if (template_ == NULL) return;
    char hash[SSMQ_SHA256_HEX_BYTES];
    ssmq_template_hash(template_, passkey->filler, hash);
    SET(record->prompt_template_hash, hash);
}

static void describe_profile(const ssmq_trial *trial, const ssmq_trial_inputs *inputs,
                             const ssmq_engine_facts *facts, ssmq_record *record) {
    const ssmq_config_profile *profile = &inputs->config->profile;
    const int64_t n_repeats = profile->n_warmup + profile->n_measure;
    SET(record->generation, "greedy");
    SET(record->timer, facts->timer);
    SET(record->memory_source, facts->memory_source);
    record->n_warmup = profile->n_warmup;
    record->n_measure = profile->n_measure;
    record->max_context_tokens = trial->context_length;
    if (trial->gen_len > 0) record->max_context_tokens += n_repeats * trial->gen_len;
}

static void describe_drift(const ssmq_trial *trial, const ssmq_trial_inputs *inputs,
                           ssmq_record *record) {
    SET(record->text_sha256, inputs->inputs->text_sha256);
    SET(record->drift_path, inputs->config->drift.path);
    if (inputs->config->drift.impulse > 0.0) record->drift_impulse = inputs->config->drift.impulse;
    record->max_context_tokens = trial->context_length;
}

static void describe_engine(const ssmq_engine_facts *facts, ssmq_record *record) {
    SET(record->cpu_name, facts->cpu_name);
    SET(record->gpu_name, facts->gpu_name);
    SET(record->driver, facts->driver);
    SET(record->cuda, facts->cuda);
    SET(record->cublaslt, facts->cublaslt);
    if (facts->n_threads > 0) record->n_threads = facts->n_threads;
}

void trial_describe_loaded(const ssmq_trial *trial, ssmq_engine *engine, ssmq_record *record) {
    ssmq_engine_facts facts = {0};
    engine->api->describe(engine, &facts);
    SET(record->quant_backend, facts.quant_backend);
    if (ssmq_precision_is_quantized(&trial->precision)) {
        SET(record->compute_type, facts.compute_type);
        SET(record->fallback, facts.fallback);
    }
}

void trial_describe_done(ssmq_engine *engine, ssmq_record *record) {
    ssmq_engine_facts facts = {0};
    engine->api->describe(engine, &facts);
    SET(record->gemm_algorithms, facts.algorithms);
    SET(record->algo_id, facts.algo_id);
    /* Which may have changed with the extent. */
    SET(record->quant_backend, facts.quant_backend);
    SET(record->decode_products, facts.decode_products);
}

void ssmq_trial_describe(const ssmq_trial *trial, const ssmq_trial_inputs *inputs,
                         ssmq_engine *engine, ssmq_record *record) {
    ssmq_engine_facts facts = {0};
    if (engine != NULL) engine->api->describe(engine, &facts);
    ssmq_record_init(record);
    describe_engine(&facts, record);
    describe_precision(&trial->precision, record);
    SET(record->trial_id, trial->id);
    SET(record->trial_key, trial->key);
    SET(record->task, ssmq_task_name(trial->task));
    SET(record->numerics_version, SSMQ_NUMERICS_VERSION);
    SET(record->model_name, inputs->inputs->model_name);
    SET(record->model_revision, inputs->config->model.revision);
    SET(record->model_sha256, inputs->inputs->model_sha256);
    SET(record->tokenizer_sha256, inputs->inputs->tokenizer_sha256);
    SET(record->scope, trial->scope);
    SET(record->device, inputs->inputs->device);
    SET(record->baseline, inputs->config->sweep.baseline);
    SET(record->notes, inputs->config->sweep.notes);
    record->storage_bits = storage_bits_of(trial, &inputs->model->shape);
    record->batch_size = trial->batch_size;
    record->context_length = trial->context_length;
    record->gen_len = trial->gen_len;
    record->seed = trial->seed;
    switch (trial->task) {
    case SSMQ_TASK_PPL:
    case SSMQ_TASK_FIDELITY:
        describe_ppl(trial, inputs, record);
        break;
    case SSMQ_TASK_PASSKEY:
        describe_passkey(trial, inputs, record);
        break;
    case SSMQ_TASK_PROFILE:
        describe_profile(trial, inputs, &facts, record);
        break;
    case SSMQ_TASK_DRIFT:
        describe_drift(trial, inputs, record);
        break;
    case SSMQ_N_TASKS:
        break;
    }
}
