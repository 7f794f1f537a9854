/* SPDX-License-Identifier: Apache-2.0 */
/* Sequences that go on from one kept state, and prompts that are prefilled so: the bits are those
 * of sequences on their own, for the work of what they do not share. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "support/tested_engine.h"
#include "support/trial_fixture.h"
#include "trial/fork.h"

enum { STEP = TRIAL_FORK_STEP, MAX_B = 8, DECODE = 5, MAX_V = 512 };
/* So many sequences fill a device, whose kernels are others then. */
enum { MANY = 24, MAX_TOKENS = MANY * 6 * STEP };

/* What comes after some tokens of B sequences. */
typedef struct outcome {
    int64_t B, V;
    float logits[MAX_B * MAX_V]; /* after the last token of prefill */
    float nll[MAX_B * DECODE];   /* of forced tokens in decode */
} outcome;

static void reset(ssmq_engine *engine, int64_t B, bool is_forked) {
    const ssmq_engine_extent extent = {
        .n_sequences = B, .max_segment_tokens = 3 * STEP, .is_forked = is_forked};
    ssmq_err err = {0};
    assert_ok(engine->api->reset(engine, &extent, &err), &err);
}

static void keep(ssmq_engine *engine) {
    ssmq_err err = {0};
    assert_ok(engine->api->keep_state(engine, &err), &err);
}

/* Tokens [first, end) of ids [B, T]. */
static void feed(ssmq_engine *engine, const int32_t *ids, int64_t B, int64_t T, int64_t first,
                 int64_t end, float *logits) {
    static int32_t tokens[MAX_TOKENS];
    const int64_t n = end - first;
    ssmq_err err = {0};
    assert_true(B * n <= MAX_TOKENS);
    for (int64_t i = 0; i < B * n; i++) tokens[i] = ids[i / n * T + first + i % n];
    const ssmq_prefill call = {.tokens = tokens, .n_tokens = n, .logits = logits};
    assert_ok(engine->api->prefill(engine, &call, &err), &err);
}

static void decode(ssmq_engine *engine, outcome *o) {
    int32_t forced[MAX_B * DECODE], argmax[MAX_B * DECODE];
    ssmq_err err = {0};
    for (int64_t i = 0; i < o->B * DECODE; i++) forced[i] = (int32_t)((7 * i + 3) % o->V);
    const ssmq_decode call = {
        .first = forced, .n_steps = DECODE, .forced = forced, .argmax = argmax, .nll = o->nll};
    assert_ok(engine->api->decode(engine, &call, &err), &err);
}

static void assert_same_outcome(const outcome *a, const outcome *b, const char *what) {
    assert_same_bits(a->logits, b->logits, a->B * a->V, what);
    assert_same_bits(a->nll, b->nll, a->B * DECODE, what);
}

/* Sequences of T tokens of which the first n_shared are those of the first. */
static int32_t *ids_of(int64_t B, int64_t T, int64_t n_shared, int64_t V, uint64_t seed) {
    int32_t *ids = cpu_fixture_ids(B * T, V, seed);
    for (int64_t b = 1; b < B; b++) memcpy(ids + b * T, ids, (size_t)n_shared * sizeof *ids);
    return ids;
}

/* The state of the only sequence of `from` into each of B in `to`, over the host. */
static void copy_state(ssmq_engine *from, ssmq_engine *to, const ssmq_shape *s, int64_t B,
                       int64_t position) {
    const int64_t n_ssm = s->H * s->P * s->N, n_conv = (s->K - 1) * s->conv_dim;
    float *ssm = NULL, *conv = NULL;
    ssmq_err err = {0};
    assert_ok(ssmq_calloc(&ssm, (size_t)(B * n_ssm), sizeof *ssm, &err), &err);
    assert_ok(ssmq_calloc(&conv, (size_t)(B * n_conv), sizeof *conv, &err), &err);
    for (int64_t i = 0; i < s->L; i++) {
        assert_ok(from->api->read_state(from, i, ssm, conv, &err), &err);
        for (int64_t b = 1; b < B; b++) {
            memcpy(ssm + b * n_ssm, ssm, (size_t)n_ssm * sizeof *ssm);
            memcpy(conv + b * n_conv, conv, (size_t)n_conv * sizeof *conv);
        }
        assert_ok(to->api->write_state(to, i, position, ssm, conv, &err), &err);
    }
    ssmq_free(ssm);
    ssmq_free(conv);
}

/* Wherever it is kept, bit for bit, for any number of sequences, and as often as it is asked for;
 * also a state that was written. */
static void forks_are_the_state(void **state) {
    static const int64_t cuts[] = {1, 2, 3, 4, 5, STEP, STEP + 9}, sizes[] = {1, 2, 3, 5, 8};
    enum { T = 2 * STEP + 20 };
    static outcome expected, forked;
    const engine_case *c = *state;
    const ssmq_shape *s = &c->model->shape;
    ssmq_engine *engine = tested_engine_load(c->model, c->precision);
    ssmq_engine *from = tested_engine_load(c->model, c->precision);
    ssmq_engine *to = tested_engine_load(c->model, c->precision);
    expected.V = forked.V = s->V;
    for (size_t i = 0; i < 2 * sizeof cuts / sizeof cuts[0]; i++) {
        const int64_t cut = cuts[i / 2];
        int32_t *ids = ids_of(MAX_B, T, cut, s->V, 30 + i);
        reset(from, 1, false);
        feed(from, ids, 1, T, 0, cut, NULL);
        reset(engine, 1, false);
        if (i % 2 == 0) feed(engine, ids, 1, T, 0, cut, NULL);
        if (i % 2 == 1) copy_state(from, engine, s, 1, cut);
        keep(engine);
        for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
            const int64_t B = sizes[k];
            char what[64];
            (void)snprintf(what, sizeof what, "%lld sequences after %lld tokens", (long long)B,
                           (long long)cut);
            expected.B = forked.B = B;
            reset(to, B, false);
            copy_state(from, to, s, B, cut);
            feed(to, ids, B, T, cut, T, expected.logits);
            decode(to, &expected);
            reset(engine, B, true);
            feed(engine, ids, B, T, cut, T, forked.logits);
            decode(engine, &forked);
            assert_same_outcome(&expected, &forked, what);
        }
        ssmq_free(ids);
    }
    engine->api->close(engine);
    from->api->close(from);
    to->api->close(to);
}

/* NLLs of tokens [cut, T - 1) of each sequence, given those before. */
static void score(ssmq_engine *engine, const int32_t *ids, int64_t B, int64_t T, int64_t cut,
                  float *nll) {
    static int32_t tokens[MAX_TOKENS], targets[MAX_TOKENS];
    const int64_t n = T - 1 - cut;
    ssmq_err err = {0};
    assert_true(B * n <= MAX_TOKENS);
    for (int64_t i = 0; i < B * n; i++) {
        tokens[i] = ids[i / n * T + cut + i % n];
        targets[i] = ids[i / n * T + cut + i % n + 1];
    }
    const ssmq_prefill call = {.tokens = tokens, .n_tokens = n, .targets = targets, .nll = nll};
    assert_ok(engine->api->prefill(engine, &call, &err), &err);
}

/* After whole steps it is that of sequences that were never cut; and a step too many shows. */
static void whole_steps(void **state) {
    enum { T = 5 * STEP + 60 };
    static float whole[MANY * T], forked[MANY * T];
    const engine_case *c = *state;
    const int64_t B = tested_engine_is_cuda() ? MANY : 5;
    ssmq_engine *engine = tested_engine_load(c->model, c->precision);
    for (int64_t n = STEP; n < T; n += STEP) {
        int32_t *ids = ids_of(B, T, n, c->model->shape.V, (uint64_t)n);
        reset(engine, B, false);
        score(engine, ids, B, T, 0, whole);
        for (int64_t cut = n; cut <= n + STEP && cut < T; cut += STEP) {
            const int64_t n_after = T - 1 - cut;
            reset(engine, 1, false);
            feed(engine, ids, 1, T, 0, cut, NULL);
            keep(engine);
            reset(engine, B, true);
            score(engine, ids, B, T, cut, forked);
            for (int64_t b = 0; b < B; b++) {
                const float *expected = whole + b * (T - 1) + cut, *got = forked + b * n_after;
                if (cut == n || b == 0) {
                    assert_same_bits(expected, got, n_after, "after whole steps");
                } else {
                    assert_memory_not_equal(expected, got, (size_t)n_after * sizeof *got);
                }
            }
        }
        ssmq_free(ids);
    }
    engine->api->close(engine);
}

static void refusals(void **state) {
    (void)state;
    ssmq_model *model = cpu_fixture_model(&tested_engine_shapes[0]);
    ssmq_engine *engine = tested_engine_load(model, "fp32");
    const ssmq_engine_api *api = engine->api;
    const ssmq_spec spec = cpu_fixture_spec(model, "fp32", "all");
    const ssmq_engine_extent forked = {
        .n_sequences = 2, .max_segment_tokens = STEP, .is_forked = true};
    ssmq_err err = {0};
    assert_int_equal(api->keep_state(engine, &err), SSMQ_INTERNAL);
    assert_int_equal(api->reset(engine, &forked, &err), SSMQ_INTERNAL);
    reset(engine, 2, false);
    assert_int_equal(api->keep_state(engine, &err), SSMQ_INTERNAL);
    reset(engine, 1, false);
    keep(engine);
    assert_int_equal(api->reset(engine, &forked, &err), SSMQ_OK);
    /* Kept until a reset to zero, or other weights. */
    reset(engine, 1, false);
    assert_int_equal(api->reset(engine, &forked, &err), SSMQ_INTERNAL);
    reset(engine, 1, false);
    keep(engine);
    assert_int_equal(api->load(engine, model, &spec, &err), SSMQ_OK);
    assert_int_equal(api->reset(engine, &forked, &err), SSMQ_INTERNAL);
    ssmq_engine *null = fixture_engine("", "fp32");
    assert_null(null->api->keep_state);
    assert_int_equal(null->api->reset(null, &forked, &err), SSMQ_INTERNAL);
    null->api->close(null);
    api->close(engine);
    ssmq_model_close(model);
}

/* ---- prompts ---- */

enum { MAX_PROMPTS = 3, N_TOKENS = 900 };

/* A batch whose prompts go along one text up to `at` tokens, or, with -1, are another text. */
typedef struct prompts_case {
    int64_t B, n_seen, at[MAX_PROMPTS];
    int64_t n_computed; /* tokens, of all sequences */
} prompts_case;

/* In this order, each with the trunk that the one before has left. */
static const prompts_case cases[] = {
    /* 390 in common: 3 steps. */
    {3, 3, {400, 390, 600}, 384 + 3 * (N_TOKENS - 384)},
    {3, 3, {650, 700, 640}, 256 + 3 * (N_TOKENS - 640)},
    {3, 3, {700, 640, 690}, 3 * (N_TOKENS - 640)},
    /* A step more for two others is not enough. */
    {3, 3, {800, 800, 800}, 3 * (N_TOKENS - 640)},
    {3, 3, {200, 800, 800}, 3 * N_TOKENS},
    /* Equal prompts: all but their last tokens. */
    {2, 2, {N_TOKENS, N_TOKENS}, 896 + 2 * (N_TOKENS - 896)},
    /* The next prompt leaves the trunk; this one does not. */
    {1, 2, {N_TOKENS, 500}, N_TOKENS - 896},
    {2, 2, {-1, -1}, 896 + 2 * (N_TOKENS - 896)},
    {2, 2, {0, 0}, 2 * N_TOKENS},
    {1, 2, {600, 600}, 512 + N_TOKENS - 512},
    {1, 1, {600}, N_TOKENS - 512},
    {1, 1, {511}, N_TOKENS},
};
enum { N_CASES = sizeof cases / sizeof cases[0] };

static void fill_prompts(int32_t ids[MAX_PROMPTS][N_TOKENS], const prompts_case *c, int64_t V,
                         uint64_t seed) {
    int32_t *text = cpu_fixture_ids(N_TOKENS, V, 99), *other = cpu_fixture_ids(N_TOKENS, V, 98);
    int32_t *own = cpu_fixture_ids(MAX_PROMPTS * N_TOKENS, V, seed);
    for (int64_t i = 0; i < c->n_seen; i++) {
        const int64_t at = c->at[i];
        if (at < 0) {
            memcpy(ids[i], other, sizeof ids[i]);
            continue;
        }
        for (int64_t t = 0; t < N_TOKENS; t++) {
            ids[i][t] = t < at ? text[t] : own[i * N_TOKENS + t];
        }
        if (at < N_TOKENS) ids[i][at] = (int32_t)((text[at] + 1 + i) % V);
    }
    ssmq_free(text);
    ssmq_free(other);
    ssmq_free(own);
}

/* Prompts on an engine of its own; NULL engine if the precision is skipped. */
typedef struct prompts_run {
    ssmq_config config;
    ssmq_trial trial;
    ssmq_trial_inputs inputs;
    trial_run run;
    trial_trunk trunk;
} prompts_run;

static void prompts_run_init(prompts_run *r, const ssmq_model *model, const char *precision,
                             int64_t reuse_mb) {
    const ssmq_spec spec = cpu_fixture_spec(model, precision, "all");
    ssmq_err err = {0};
    memset(r, 0, sizeof *r);
    r->config.sweep.reuse_mb = reuse_mb;
    r->trial = fixture_trial(SSMQ_TASK_PASSKEY, precision, N_TOKENS);
    r->inputs = (ssmq_trial_inputs){.config = &r->config, .model = model};
    r->run = (trial_run){.trial = &r->trial, .inputs = &r->inputs, .engine = tested_engine_open()};
    const ssmq_status status = r->run.engine->api->load(r->run.engine, model, &spec, &err);
    if (status == SSMQ_OK) return;
    if (status != SSMQ_SKIP) assert_ok(status, &err);
    print_message("  %s: skipped: %s\n", precision, err.text);
    r->run.engine->api->close(r->run.engine);
    r->run.engine = NULL;
}

static void prompts_run_free(prompts_run *r) {
    trial_trunk_free(&r->trunk);
    if (r->run.engine != NULL) r->run.engine->api->close(r->run.engine);
}

/* Returns the tokens computed, of all sequences; -1 without an engine. */
static int64_t run_prompts(prompts_run *r, const trial_prompts *prompts, outcome *o) {
    const ssmq_shape *s = &r->inputs.model->shape;
    ssmq_engine *engine = r->run.engine;
    if (engine == NULL) return -1;
    ssmq_engine_stats stats;
    ssmq_err err = {0};
    o->B = prompts->B;
    o->V = s->V;
    engine->api->take_stats(engine, &stats);
    assert_ok(trial_prefill_prompts(&r->run, &r->trunk, prompts, o->logits, &err), &err);
    engine->api->take_stats(engine, &stats);
    decode(engine, o);
    assert_int_equal(stats.reused_layer_tokens, 0);
    assert_int_equal(stats.computed_layer_tokens % s->L, 0);
    return stats.computed_layer_tokens / s->L;
}

static void check_prompts(const ssmq_model *model, const char *precision) {
    static int32_t ids[MAX_PROMPTS][N_TOKENS];
    static outcome whole, forked;
    const int32_t *const rows[] = {ids[0], ids[1], ids[2]};
    prompts_run on, off;
    prompts_run_init(&on, model, precision, 1);
    prompts_run_init(&off, model, precision, 0);
    for (size_t i = 0; i < N_CASES && on.run.engine != NULL; i++) {
        const prompts_case *c = &cases[i];
        const trial_prompts prompts = {
            .ids = rows, .B = c->B, .n_seen = c->n_seen, .n_tokens = N_TOKENS};
        char what[64];
        (void)snprintf(what, sizeof what, "%s, batch %zu", precision, i);
        fill_prompts(ids, c, model->shape.V, i);
        assert_int_equal(run_prompts(&off, &prompts, &whole), c->B * N_TOKENS);
        const int64_t n_computed = run_prompts(&on, &prompts, &forked);
        assert_same_outcome(&whole, &forked, what);
        assert_int_equal(n_computed, c->n_computed);
    }
    assert_int_equal(off.trunk.n, 0);
    prompts_run_free(&on);
    prompts_run_free(&off);
}

static void prompts_of_types(void **state) {
    const engine_case *c = *state;
    check_prompts(c->model, c->precision);
}

/* The scale of a row of activations does not depend on other rows. */
static void prompts_of_precisions(void **state) {
    static const char *const precisions[] = {"w8a8",  "w4a8",      "w4a4",         "w8a16",
                                             "w4a16", "fp32:w4a4", "bf16:w8a8-fp8"};
    (void)state;
    ssmq_model *model = cpu_fixture_model(&tested_engine_shapes[1]);
    for (size_t i = 0; i < sizeof precisions / sizeof precisions[0]; i++) {
        check_prompts(model, precisions[i]);
    }
    ssmq_model_close(model);
}

/* More than one call on both sides of the fork. */
static void long_prompts(void **state) {
    enum { T = 2 * TRIAL_SEGMENT_TOKENS + 700, SHARED = TRIAL_SEGMENT_TOKENS + 300, B = 2 };
    static outcome whole, forked;
    (void)state;
    ssmq_model *model = cpu_fixture_model(&tested_engine_shapes[1]);
    int32_t *ids = ids_of(B, T, SHARED, model->shape.V, 5);
    const int32_t *const rows[] = {ids, ids + T};
    const trial_prompts prompts = {.ids = rows, .B = B, .n_seen = B, .n_tokens = T};
    ids[T + SHARED] = (int32_t)((ids[SHARED] + 1) % model->shape.V);
    prompts_run on, off;
    prompts_run_init(&on, model, "bf16", 1);
    prompts_run_init(&off, model, "bf16", 0);
    assert_int_equal(run_prompts(&off, &prompts, &whole), B * T);
    assert_int_equal(run_prompts(&on, &prompts, &forked), B * T - SHARED / STEP * STEP);
    assert_same_outcome(&whole, &forked, "long prompts");
    prompts_run_free(&on);
    prompts_run_free(&off);
    ssmq_free(ids);
    ssmq_model_close(model);
}

/* Where the state is rounded at the ends of calls a cut would show, and there is none. */
static void rounded_states(void **state) {
    (void)state;
    prompts_run r;
    static outcome o;
    static int32_t ids[N_TOKENS];
    const int32_t *const rows[] = {ids, ids};
    const trial_prompts prompts = {.ids = rows, .B = 2, .n_seen = 2, .n_tokens = N_TOKENS};
    ssmq_model *model = cpu_fixture_model(&tested_engine_shapes[1]);
    prompts_run_init(&r, model, "bf16", 1);
    r.trial.precision.state_dtype = SSMQ_BF16;
    assert_int_equal(run_prompts(&r, &prompts, &o), 2 * N_TOKENS);
    prompts_run_free(&r);
    ssmq_model_close(model);
}

static ssmq_status keep_without_room(ssmq_engine *engine, ssmq_err *err) {
    (void)engine;
    return SSMQ_FAIL(err, NOMEM, "no room for the state");
}

static ssmq_status fork_without_room(ssmq_engine *engine, const ssmq_engine_extent *extent,
                                     ssmq_err *err) {
    if (extent->is_forked) return SSMQ_FAIL(err, NOMEM, "no room for the forks");
    return tested_engine_api()->reset(engine, extent, err);
}

/* Where memory is short, prompts are prefilled as without forks, and none is tried again. */
static void no_room(void **state) {
    enum { SHARED = N_TOKENS / STEP * STEP };
    static int32_t ids[N_TOKENS];
    static outcome whole, got;
    const int32_t *const rows[] = {ids, ids};
    const trial_prompts prompts = {.ids = rows, .B = 2, .n_seen = 2, .n_tokens = N_TOKENS};
    (void)state;
    ssmq_model *model = cpu_fixture_model(&tested_engine_shapes[1]);
    prompts_run off;
    prompts_run_init(&off, model, "bf16", 0);
    assert_int_equal(run_prompts(&off, &prompts, &whole), 2 * N_TOKENS);
    for (int i = 0; i < 2; i++) {
        prompts_run r;
        prompts_run_init(&r, model, "bf16", 1);
        ssmq_engine_api api = *tested_engine_api();
        if (i == 0) api.keep_state = keep_without_room;
        if (i == 1) api.reset = fork_without_room;
        if (r.run.engine != NULL) r.run.engine->api = &api;
        assert_int_equal(run_prompts(&r, &prompts, &got), SHARED + 2 * N_TOKENS);
        assert_same_outcome(&whole, &got, "without room");
        assert_int_equal(run_prompts(&r, &prompts, &got), 2 * N_TOKENS);
        assert_same_outcome(&whole, &got, "without room, again");
        prompts_run_free(&r);
    }
    prompts_run_free(&off);
    ssmq_model_close(model);
}

/* A trial of the demo; batches of 2 of 3 prompts of a depth. */
static void run_demo(const ssmq_model *model, const ssmq_tokenizer *tokenizer,
                     const char *precision, int64_t reuse_mb, ssmq_record *record,
                     ssmq_samples *samples) {
    enum { CONTEXT = 700 };
    fixture f;
    ssmq_err err = {0};
    fixture_init(&f, 100);
    f.trial_inputs.model = model;
    f.trial_inputs.tokenizer = tokenizer;
    f.config.sweep.reuse_mb = reuse_mb;
    ssmq_worker worker = {.engine = tested_engine_open()};
    const ssmq_trial trial = fixture_trial(SSMQ_TASK_PASSKEY, precision, CONTEXT);
    assert_ok(ssmq_trial_run(&trial, &f.trial_inputs, &worker, record, samples, &err), &err);
    assert_string_equal(record->status_reason, "");
    worker.engine->api->close(worker.engine);
}

static void trials_of_the_demo(void **state) {
    static const char *const precisions[] = {"fp32", "bf16", "w8a8", "w4a4"};
    static const char *const series[] = {
        "passkey_depth",      "passkey_key",         "passkey_correct", "passkey_digits",
        "passkey_answer_nll", "passkey_answer_rank", "passkey_control", "passkey_wrong_key"};
    static ssmq_record on, off;
    ssmq_samples of_on, of_off;
    ssmq_model *model = NULL;
    ssmq_tokenizer *tokenizer = NULL;
    ssmq_err err = {0};
    (void)state;
    assert_ok(ssmq_model_open(&model, "configs/demo", &err), &err);
    assert_ok(ssmq_tokenizer_open(&tokenizer, "configs/demo", &err), &err);
    for (size_t i = 0; i < sizeof precisions / sizeof precisions[0]; i++) {
        run_demo(model, tokenizer, precisions[i], 1, &on, &of_on);
        run_demo(model, tokenizer, precisions[i], 0, &off, &of_off);
        for (size_t k = 0; k < sizeof series / sizeof series[0]; k++) {
            const ssmq_series *a = ssmq_samples_get(&of_on, series[k]);
            const ssmq_series *b = ssmq_samples_get(&of_off, series[k]);
            assert_int_equal(a->n, b->n);
            assert_memory_equal(a->values, b->values, a->n * sizeof *a->values);
        }
        assert_string_equal(on.prompt_hash, off.prompt_hash);
        assert_int_equal(on.max_context_tokens, off.max_context_tokens);
        print_message("  %s: %.1f %% of prefill left out\n", precisions[i], 100 * on.reused_share);
        assert_true(on.reused_share > 0.2 && off.reused_share == 0.0);
        ssmq_samples_free(&of_on);
        ssmq_samples_free(&of_off);
    }
    ssmq_tokenizer_close(tokenizer);
    ssmq_model_close(model);
}

/* Every place of a difference, in any prompt but the first. */
static void common_tokens(void **state) {
    enum { T = 3 * STEP + 1, N = 3 };
    static int32_t ids[N][T];
    const int32_t *const rows[] = {ids[0], ids[1], ids[2]};
    const trial_prompts prompts = {.ids = rows, .B = N, .n_seen = N, .n_tokens = T};
    (void)state;
    assert_int_equal(trial_common_tokens(&prompts, N), 3 * STEP);
    for (int64_t i = 1; i < N; i++) {
        for (int64_t t = 0; t < T; t++) {
            ids[i][t] = 1;
            assert_int_equal(trial_common_tokens(&prompts, N), t / STEP * STEP);
            assert_int_equal(trial_common_tokens(&prompts, i), 3 * STEP);
            ids[i][t] = 0;
        }
    }
    /* One token of each is left for the logits. */
    for (int64_t n = 1; n < T; n++) {
        const trial_prompts shorter = {.ids = rows, .B = N, .n_seen = N, .n_tokens = n};
        assert_int_equal(trial_common_tokens(&shorter, N), (n - 1) / STEP * STEP);
    }
}

int main(int argc, char **argv) {
    static const engine_check checks[] = {
        {"forks are the state", forks_are_the_state, false},
        {"whole steps", whole_steps, false},
        {"refusals", refusals, true},
        {"prompts of types", prompts_of_types, false},
        {"prompts of precisions", prompts_of_precisions, true},
        {"long prompts", long_prompts, true},
        {"rounded states", rounded_states, true},
        {"no room", no_room, true},
        {"trials of the demo", trials_of_the_demo, true},
        {"common tokens", common_tokens, true},
    };
    const int status = tested_engine_begin(argc, argv);
    if (status != 0) return status;
    return tested_engine_run("gpu_fork", checks, sizeof checks / sizeof checks[0],
                             tested_engine_shapes, TESTED_ENGINE_SHAPES);
}
