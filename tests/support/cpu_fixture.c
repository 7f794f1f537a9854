/* SPDX-License-Identifier: Apache-2.0 */
#include "support/cpu_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"

void assert_ok(ssmq_status status, const ssmq_err *err) {
    if (status != SSMQ_OK) fail_msg("%s: %s", ssmq_status_name(status), err->text);
}

ssmq_model *cpu_fixture_model(const struct checkpoint_options *options) {
    char folder[1024];
    ssmq_err err = {0};
    ssmq_model *model = NULL;
    make_temp_folder(folder);
    write_checkpoint(folder, options);
    assert_ok(ssmq_model_open(&model, folder, &err), &err);
    remove_folder(folder);
    return model;
}

int32_t *cpu_fixture_ids(int64_t n, int64_t V, uint64_t seed) {
    int32_t *ids = NULL;
    ssmq_rng rng = ssmq_rng_from_seed(seed);
    assert_int_equal(ssmq_calloc(&ids, (size_t)n, sizeof *ids, NULL), SSMQ_OK);
    for (int64_t i = 0; i < n; i++) ids[i] = (int32_t)ssmq_rng_below(&rng, (uint64_t)V);
    return ids;
}

ssmq_spec cpu_fixture_spec(const ssmq_model *model, const char *precision, const char *scope) {
    ssmq_precision p;
    ssmq_spec spec;
    ssmq_err err = {0};
    assert_ok(ssmq_precision_parse(&p, precision, &err), &err);
    assert_ok(ssmq_spec_init(&spec, &p, scope, &model->shape, &err), &err);
    return spec;
}

ssmq_engine *cpu_fixture_engine(const ssmq_model *model, const char *precision, const char *scope,
                                int n_threads) {
    const ssmq_engine_api *api = ssmq_engine_find("cpu");
    const ssmq_engine_options options = {.n_threads = n_threads};
    const ssmq_spec spec = cpu_fixture_spec(model, precision, scope);
    ssmq_engine *engine = NULL;
    ssmq_err err = {0};
    assert_non_null(api);
    assert_ok(api->open(&engine, &options, &err), &err);
    assert_ok(api->load(engine, model, &spec, &err), &err);
    return engine;
}

/* Columns [first, first + n) of a [B, stride] table, together. */
static int32_t *columns_of(const int32_t *ids, int64_t B, int64_t stride, int64_t first,
                           int64_t n) {
    int32_t *out = NULL;
    assert_int_equal(ssmq_calloc(&out, (size_t)(B * n), sizeof *out, NULL), SSMQ_OK);
    for (int64_t i = 0; i < B * n; i++) out[i] = ids[i / n * stride + first + i % n];
    return out;
}

static void put_columns(float *nll, int64_t T, int64_t first, int64_t n, int64_t B,
                        const float *part) {
    for (int64_t i = 0; i < B * n; i++) nll[i / n * T + first + i % n] = part[i];
}

static void prefill_part(ssmq_engine *engine, const cpu_run *run, int64_t first, int64_t n,
                         float *nll, float *logits) {
    ssmq_err err = {0};
    float *part = NULL;
    int32_t *tokens = columns_of(run->ids, run->B, run->T + 1, first, n);
    int32_t *targets = columns_of(run->ids, run->B, run->T + 1, first + 1, n);
    assert_int_equal(ssmq_calloc(&part, (size_t)(run->B * n), sizeof *part, NULL), SSMQ_OK);
    const ssmq_prefill call = {
        .tokens = tokens, .n_tokens = n, .targets = targets, .nll = part, .logits = logits};
    assert_ok(engine->api->prefill(engine, &call, &err), &err);
    put_columns(nll, run->T, first, n, run->B, part);
    ssmq_free(part);
    ssmq_free(targets);
    ssmq_free(tokens);
}

static void decode_part(ssmq_engine *engine, const cpu_run *run, float *nll, float *logits) {
    const int64_t n = run->decode_tokens;
    ssmq_err err = {0};
    float *part = NULL;
    int32_t *argmax = NULL;
    int32_t *first = columns_of(run->ids, run->B, run->T + 1, run->T - n, 1);
    int32_t *forced = columns_of(run->ids, run->B, run->T + 1, run->T - n + 1, n);
    assert_int_equal(ssmq_calloc(&part, (size_t)(run->B * n), sizeof *part, NULL), SSMQ_OK);
    assert_int_equal(ssmq_calloc(&argmax, (size_t)(run->B * n), sizeof *argmax, NULL), SSMQ_OK);
    const ssmq_decode call = {.first = first,
                              .n_steps = n,
                              .forced = forced,
                              .argmax = argmax,
                              .nll = part,
                              .logits = logits};
    assert_ok(engine->api->decode(engine, &call, &err), &err);
    put_columns(nll, run->T, run->T - n, n, run->B, part);
    ssmq_free(argmax);
    ssmq_free(part);
    ssmq_free(forced);
    ssmq_free(first);
}

void cpu_fixture_score(ssmq_engine *engine, const cpu_run *run, float *nll, float *logits) {
    const ssmq_engine_extent extent = {
        .n_sequences = run->B, .max_segment_tokens = run->segment > 0 ? run->segment : run->T};
    const int64_t prefilled = run->T - run->decode_tokens;
    const int64_t step = run->call > 0 ? run->call : run->T;
    ssmq_err err = {0};
    assert_ok(engine->api->reset(engine, &extent, &err), &err);
    for (int64_t first = 0; first < prefilled; first += step) {
        const int64_t n = prefilled - first < step ? prefilled - first : step;
        prefill_part(engine, run, first, n, nll, logits);
    }
    if (run->decode_tokens > 0) decode_part(engine, run, nll, logits);
}
