/* SPDX-License-Identifier: Apache-2.0 */
#include "support/trial_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "base/str.h"
#include "engine/null/null.h"

const ssmq_model fixture_model = {
    .shape = {.d = 8,
              .di = 16,
              .H = 2,
              .P = 8,
              .N = 4,
              .G = 1,
              .K = 4,
              .L = 2,
              .V = 4096,
              .R = 42,
              .conv_dim = 24,
              .expand = 2,
              .is_tied = true},
    .name = "shape",
};

ssmq_precision fixture_precision(const char *name) {
    ssmq_precision precision;
    assert_int_equal(ssmq_precision_parse(&precision, name, NULL), SSMQ_OK);
    return precision;
}

ssmq_engine *fixture_engine(const char *script, const char *precision) {
    const ssmq_engine_options options = {.script = script};
    const ssmq_precision parsed = fixture_precision(precision);
    ssmq_engine *engine = NULL;
    ssmq_spec spec;
    ssmq_err err = {0};
    if (ssmq_engine_null.open(&engine, &options, &err) != SSMQ_OK) fail_msg("%s", err.text);
    assert_int_equal(ssmq_spec_init(&spec, &parsed, "all", &fixture_model.shape, NULL), SSMQ_OK);
    assert_int_equal(engine->api->load(engine, &fixture_model, &spec, NULL), SSMQ_OK);
    return engine;
}

void fixture_ids(int32_t *ids, int64_t n, uint64_t seed) {
    ssmq_rng rng = ssmq_rng_from_seed(seed);
    for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)ssmq_rng_below(&rng, 4096);
}

void fixture_init(fixture *f, int64_t n_text) {
    memset(f, 0, sizeof *f);
    assert_true(n_text <= (int64_t)(sizeof f->text / sizeof f->text[0]));
    fixture_ids(f->text, n_text, 7);
    ssmq_config *config = &f->config;
    ssmq_field_set(config->model.revision, sizeof config->model.revision, "rev-1");
    ssmq_field_set(config->sweep.notes, sizeof config->sweep.notes, "a note");
    config->passkey.depth = (ssmq_axis_f64){.n = 2, .values = {0.25, 0.75}};
    config->passkey.n_trials = 3;
    ssmq_field_set(config->passkey.filler, sizeof config->passkey.filler, "grass");
    config->passkey.control = true;
    config->passkey.wrong_key = true;
    config->profile.n_warmup = 1;
    config->profile.n_measure = 3;
    ssmq_inputs *inputs = &f->inputs;
    inputs->shape = fixture_model.shape;
    ssmq_field_set(inputs->model_name, sizeof inputs->model_name, "shape");
    ssmq_field_set(inputs->model_sha256, sizeof inputs->model_sha256, "aa");
    ssmq_field_set(inputs->tokenizer_sha256, sizeof inputs->tokenizer_sha256, "bb");
    ssmq_field_set(inputs->text_sha256, sizeof inputs->text_sha256, "cc");
    ssmq_field_set(inputs->device, sizeof inputs->device, "null");
    inputs->text_tokens = n_text;
    f->trial_inputs = (ssmq_trial_inputs){.config = config,
                                          .model = &fixture_model,
                                          .text_ids = f->text,
                                          .n_text_ids = n_text,
                                          .inputs = inputs};
}

/* A text that stays until the program ends. */
static const char *kept_text(const char *text) {
    static ssmq_texts texts;
    const char *out = NULL;
    ssmq_err err = {0};
    assert_int_equal(ssmq_texts_keep(&texts, text, &out, &err), SSMQ_OK);
    return out;
}

ssmq_trial fixture_trial(ssmq_task task, const char *precision, int64_t context_length) {
    ssmq_trial trial = {.task = task,
                        .protocol = SSMQ_PROTOCOL_DISJOINT,
                        .precision = fixture_precision(precision),
                        .context_length = context_length,
                        .stride = -1,
                        .batch_size = 2,
                        .gen_len = task == SSMQ_TASK_PROFILE ? 4 : -1,
                        .seed = 5};
    trial.skip = "";
    trial.scope = ssmq_precision_is_quantized(&trial.precision) ? "all" : "none";
    if (task == SSMQ_TASK_PASSKEY) {
        ssmq_field_set(trial.prompt_template, sizeof trial.prompt_template, "demo-1");
    }
    ssmq_field_set(trial.id, sizeof trial.id, "id");
    char text[SSMQ_TRIAL_KEY_BYTES];
    (void)snprintf(text, sizeof text, "%s/%lld/%s", ssmq_task_name(task), (long long)context_length,
                   precision);
    trial.key = kept_text(text);
    (void)snprintf(text, sizeof text, "%s/%lld", ssmq_task_name(task), (long long)context_length);
    trial.draw = kept_text(text);
    return trial;
}
