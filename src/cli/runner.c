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

static ssmq_status open_parts(ssmq_runner *out, const ssmq_args *args, bool with_tokenizer,
                              ssmq_err *err) {
    const char *path = ssmq_args_get(args, "model");
    const char *name = ssmq_args_get(args, "precision");
    const char *scope = ssmq_args_get(args, "scope");
    const char *device = ssmq_args_get(args, "device");
    ssmq_precision precision;
    int64_t n_threads = 0;
    if (path == NULL) return SSMQ_FAIL(err, CONFIG, "--model is missing");
    SSMQ_TRY(ssmq_precision_parse(&precision, name != NULL ? name : "fp32", err));
    if (scope != NULL) SSMQ_TRY(ssmq_scope_check(scope, err));
    SSMQ_TRY(ssmq_args_i64(args, "threads", 1, MAX_THREADS, &n_threads, err));
    SSMQ_TRY(ssmq_device_find(&out->api, device != NULL ? device : "auto", err));
    SSMQ_TRY(open_model(out, path, with_tokenizer, err));
    out->n_threads = (int)n_threads;
    if (scope == NULL) scope = "all";
    if (!ssmq_precision_is_quantized(&precision)) scope = "none";
    ssmq_field_set(out->scope, sizeof out->scope, scope);
    return ssmq_spec_init(&out->spec, &precision, scope, &out->model->shape, err);
}

ssmq_status ssmq_runner_open(ssmq_runner *out, const ssmq_args *args, bool with_tokenizer,
                             ssmq_err *err) {
    memset(out, 0, sizeof *out);
    ssmq_status status = open_parts(out, args, with_tokenizer, err);
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
