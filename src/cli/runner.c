/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/runner.h"

#include <string.h>

#include "base/str.h"
#include "cli/inputs.h"

enum { MAX_THREADS = 4096 };

static ssmq_status open_model(ssmq_runner *out, const char *path, bool with_tokenizer,
                              ssmq_err *err) {
    if (with_tokenizer && ssmq_model_path_is_random(path)) {
        return SSMQ_FAIL(err, CONFIG, "--model: %s has no tokenizer", path);
    }
    if (with_tokenizer) SSMQ_TRY(ssmq_tokenizer_open(&out->tokenizer, path, err));
    SSMQ_TRY(ssmq_model_open(&out->model, path, err));
    if (with_tokenizer &&
        ssmq_tokenizer_vocab_count(out->tokenizer) > (int64_t)out->model->shape.V) {
        return SSMQ_FAIL(err, CONFIG, "%s: tokenizer.json has %d ids, the model only %lld", path,
                         ssmq_tokenizer_vocab_count(out->tokenizer),
                         (long long)out->model->shape.V);
    }
    return SSMQ_OK;
}

ssmq_status ssmq_runner_wish_read(ssmq_runner_wish *wish, const ssmq_args *args, ssmq_err *err) {
    const struct {
        const char *option;
        const char **value;
    } texts[] = {{"model", &wish->model},
                 {"precision", &wish->precision},
                 {"scope", &wish->scope},
                 {"device", &wish->device}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const char *given = ssmq_args_get(args, texts[i].option);
        if (given != NULL) *texts[i].value = given;
    }
    int64_t n_threads = wish->n_threads;
    SSMQ_TRY(ssmq_args_i64(args, "threads", 1, MAX_THREADS, &n_threads, err));
    wish->n_threads = (int)n_threads;
    return SSMQ_OK;
}

static ssmq_status open_parts(ssmq_runner *out, const ssmq_runner_wish *wish, ssmq_err *err) {
    const char *scope = wish->scope;
    ssmq_precision precision;
    if (wish->model == NULL) return SSMQ_FAIL(err, CONFIG, "--model is missing");
    SSMQ_TRY(ssmq_precision_parse(&precision, wish->precision, err));
    if (scope != NULL) SSMQ_TRY(ssmq_scope_check(scope, err));
    SSMQ_TRY(ssmq_device_find(&out->api, wish->device, true, err));
    SSMQ_TRY(open_model(out, wish->model, wish->with_tokenizer, err));
    out->n_threads = wish->n_threads;
    if (scope == NULL) scope = "all";
    if (!ssmq_precision_is_quantized(&precision)) scope = "none";
    ssmq_field_set(out->scope, sizeof out->scope, scope);
    return ssmq_spec_init(&out->spec, &precision, scope, &out->model->shape, err);
}

ssmq_status ssmq_runner_open(ssmq_runner *out, const ssmq_runner_wish *wish, ssmq_err *err) {
    memset(out, 0, sizeof *out);
    ssmq_status status = open_parts(out, wish, err);
    if (status != SSMQ_OK) ssmq_runner_close(out);
    return status;
}

ssmq_status ssmq_runner_load(ssmq_runner *runner, ssmq_err *err) {
    ssmq_engine_options options = {.n_threads = runner->n_threads};
    SSMQ_TRY(runner->api->open(&runner->engine, &options, err));
    SSMQ_TRY(runner->api->supports(runner->engine, &runner->model->shape, &runner->spec, err));
    return runner->api->load(runner->engine, runner->model, &runner->spec, err);
}

void ssmq_runner_close(ssmq_runner *runner) {
    if (runner->engine != NULL) runner->api->close(runner->engine);
    ssmq_tokenizer_close(runner->tokenizer);
    ssmq_model_close(runner->model);
    memset(runner, 0, sizeof *runner);
}
