/* SPDX-License-Identifier: Apache-2.0 */
/* The engine against the CPU engine on random checkpoints of many shapes, token by token: prefill
 * of many lengths and batches, decode with given tokens, and decode that feeds its own. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"
#include "support/closeness.h"
#include "support/tested_engine.h"

/* Every structural option at least once. */
static const struct checkpoint_options shapes[] = {
    {.seed = "plain"},
    {.G = 2, .H = 8, .P = 8, .has_bias = true, .dtype = SSMQ_F16, .seed = "G = 2, P = 8"},
    {.G = 3, .H = 6, .dtype = SSMQ_BF16, .head = CHECKPOINT_UNTIED, .seed = "G = 3, untied"},
    {.G = 4, .H = 4, .L = 3, .has_bias = true, .no_conv_bias = true, .seed = "G = 4, no conv bias"},
    {.H = 3, .has_bias = true, .dtype = SSMQ_BF16, .fp32_ssm = true, .seed = "expand 1.5"},
    {.d = 30, .P = 5, .H = 9, .N = 7, .G = 3, .V = 33, .seed = "odd sizes"},
    {.d = 33, .P = 11, .H = 3, .N = 5, .V = 35, .has_bias = true, .seed = "odd d"},
    {.d = 8, .P = 4, .H = 8, .N = 8, .G = 2, .V = 32, .seed = "expand 4"},
    {.dt_min = 0.02, .dt_max = 0.05, .G = 2, .P = 64, .d = 64, .N = 64, .seed = "dt limits"},
    {.K = 2, .N = 64, .P = 64, .d = 64, .seed = "K = 2, P = N = 64"},
    {.K = 3, .N = 128, .P = 64, .d = 64, .V = 300, .seed = "K = 3, P 64, N 128"},
    {.residual_16 = true, .P = 64, .N = 128, .d = 128, .seed = "16-bit residual"},
    {.d = 96, .P = 64, .H = 3, .N = 128, .V = 301, .has_bias = true, .seed = "H = 3, P 64, N 128"},
    {.d = 128, .P = 64, .N = 128, .G = 2, .V = 257, .head = CHECKPOINT_UNTIED, .seed = "G = 2"},
    {.d = 128, .P = 64, .H = 8, .N = 64, .G = 4, .has_bias = true, .seed = "G = 4, expand 4"},
    {.d = 64, .P = 32, .N = 128, .V = 77, .seed = "P 32, N 128"},
    {.d = 64, .P = 128, .N = 32, .V = 72, .seed = "P 128, N 32"},
    {.d = 64, .P = 64, .N = 256, .V = 80, .seed = "P 64, N 256"},
};
enum { N_SHAPES = sizeof shapes / sizeof shapes[0], MAX_B = 5, DECODE = 17, FREE = 12 };

/* Around multiples of both engines' chunks, 64 and 128. Each shape takes a third of them. */
static const int64_t lengths[] = {1,   2,   3,   5,   31,  63,  64,  65,  100, 127, 128,
                                  129, 192, 255, 256, 257, 300, 384, 511, 513, 640, 700};
enum { N_LENGTHS = sizeof lengths / sizeof lengths[0] };

typedef struct engines {
    const engine_case *c;
    ssmq_engine *tested, *reference;
    yardstick unit;
    difference nll, logits; /* the largest seen */
    double shortfall;       /* of a chosen token's logit */
    int n_wrong;
} engines;

static engines open_engines(const engine_case *c) {
    return (engines){.c = c,
                     .tested = tested_engine_load(c->model, c->precision),
                     .reference = cpu_fixture_engine(c->model, c->precision, "all", 0),
                     .unit = yardstick_of(c->model, c->precision)};
}

static void close_engines(engines *e) {
    const difference *nll = &e->nll, *logits = &e->logits;
    e->tested->api->close(e->tested);
    e->reference->api->close(e->reference);
    if (nll->n > 0) {
        print_message("  %lld NLLs: mean %.1e, rms %.1e (16 bits: %.1e), largest %.1e; "
                      "%lld logits: rms %.1e (16 bits: %.1e), largest %.1e\n",
                      (long long)nll->n, nll->mean, nll->rms, e->unit.nll, nll->largest,
                      (long long)logits->n, logits->rms, e->unit.logit, logits->largest);
    } else {
        print_message("  chosen at most %.1e below the largest logit\n", e->shortfall);
    }
    if (e->n_wrong > 0) fail_msg("%d runs differ by too much", e->n_wrong);
}

static void compare(engines *e, const cpu_run *run) {
    char what[128];
    scored a = scored_run(e->tested, e->c->model, run);
    scored b = scored_run(e->reference, e->c->model, run);
    const difference nll = difference_of(a.nll, b.nll, a.B * a.T);
    const difference logits = difference_of(a.logits, b.logits, a.B * a.V);
    (void)snprintf(what, sizeof what, "NLL of B = %lld, T = %lld, segments of %lld, %lld by decode",
                   (long long)run->B, (long long)run->T, (long long)run->segment,
                   (long long)run->decode_tokens);
    if (!is_close(&nll, e->unit.nll, what)) e->n_wrong++;
    (void)snprintf(what, sizeof what,
                   "logits of B = %lld, T = %lld, segments of %lld, %lld by decode",
                   (long long)run->B, (long long)run->T, (long long)run->segment,
                   (long long)run->decode_tokens);
    if (!is_close(&logits, e->unit.logit, what)) e->n_wrong++;
    difference_widen(&e->nll, &nll);
    difference_widen(&e->logits, &logits);
    scored_free(&a);
    scored_free(&b);
}

/* Calls look with this shape's share of lengths and batches. */
static void each_run(engines *e, void (*look)(engines *, const cpu_run *)) {
    const int i = (int)(e->c->shape - shapes);
    for (int k = (3 - i % 3) % 3; k < N_LENGTHS; k += 3) {
        const int64_t B = 1 + (i + k / 3) % MAX_B, T = lengths[k];
        int32_t *ids =
            cpu_fixture_ids(B * (T + 1), e->c->model->shape.V, 100 * (uint64_t)i + (uint64_t)k);
        const cpu_run run = {.ids = ids, .B = B, .T = T, .segment = (i + k) % 2 * 128};
        look(e, &run);
        ssmq_free(ids);
    }
}

static void prefill(void **state) {
    engines e = open_engines(*state);
    each_run(&e, compare);
    close_engines(&e);
}

static void compare_decode(engines *e, const cpu_run *run) {
    cpu_run half = *run;
    half.decode_tokens = run->T < DECODE ? run->T : DECODE;
    compare(e, &half);
}

/* The last tokens by decode; of the shorter runs all. */
static void forced_decode(void **state) {
    engines e = open_engines(*state);
    each_run(&e, compare_decode);
    close_engines(&e);
}

static void consume(ssmq_engine *engine, const cpu_run *run, const int32_t *tokens) {
    const ssmq_engine_extent extent = {.n_sequences = run->B, .max_segment_tokens = run->T};
    const ssmq_prefill call = {.tokens = tokens, .n_tokens = run->T};
    ssmq_err err = {0};
    assert_ok(engine->api->reset(engine, &extent, &err), &err);
    assert_ok(engine->api->prefill(engine, &call, &err), &err);
}

/* How far the logits of what was chosen lie below the largest, at most. */
static double shortfall(const float *logits, const int32_t *chosen, int64_t stride, int64_t B,
                        int64_t V) {
    double worst = 0.0;
    for (int64_t b = 0; b < B; b++) {
        float largest = logits[b * V];
        for (int64_t v = 1; v < V; v++) largest = fmaxf(largest, logits[b * V + v]);
        assert_in_range(chosen[b * stride], 0, V - 1);
        worst = fmax(worst, (double)largest - (double)logits[b * V + chosen[b * stride]]);
    }
    return worst;
}

/* Feeds the reference what the tested engine chose, a step a call: each choice must have the
 * reference's largest logit too, or one as near to it as the two engines' logits are. */
static void compare_free(engines *e, const cpu_run *run) {
    const int64_t B = run->B, V = e->c->model->shape.V;
    int32_t *tokens = NULL, first[MAX_B], fed[MAX_B], argmax[MAX_B], chosen[MAX_B * FREE];
    float *logits = NULL;
    ssmq_err err = {0};
    assert_int_equal(ssmq_calloc(&tokens, (size_t)(B * run->T), sizeof *tokens, NULL), SSMQ_OK);
    assert_int_equal(ssmq_calloc(&logits, (size_t)(B * V), sizeof *logits, NULL), SSMQ_OK);
    for (int64_t i = 0; i < B * run->T; i++) {
        tokens[i] = run->ids[i / run->T * (run->T + 1) + i % run->T];
    }
    for (int64_t b = 0; b < B; b++) first[b] = fed[b] = run->ids[b * (run->T + 1) + run->T];
    const ssmq_decode call = {.first = first, .n_steps = FREE, .argmax = chosen};
    consume(e->tested, run, tokens);
    assert_ok(e->tested->api->decode(e->tested, &call, &err), &err);
    consume(e->reference, run, tokens);
    for (int64_t s = 0; s < FREE; s++) {
        const ssmq_decode step = {.first = fed, .n_steps = 1, .argmax = argmax, .logits = logits};
        assert_ok(e->reference->api->decode(e->reference, &step, &err), &err);
        const double gap = shortfall(logits, chosen + s, FREE, B, V);
        e->shortfall = fmax(e->shortfall, gap);
        if (gap > 2.0 * closeness_limit(e->unit.logit)) {
            print_error("B = %lld, T = %lld, step %lld: %.3g below the largest logit\n",
                        (long long)B, (long long)run->T, (long long)s, gap);
            e->n_wrong++;
        }
        for (int64_t b = 0; b < B; b++) fed[b] = chosen[b * FREE + s];
    }
    ssmq_free(tokens);
    ssmq_free(logits);
}

static void free_decode(void **state) {
    engines e = open_engines(*state);
    each_run(&e, compare_free);
    close_engines(&e);
}

/* A published shape, whose products and scan are those of real use. */
static void published_shape(void **state) {
    (void)state;
    enum { B = 2, T = 300 };
    ssmq_model *model = NULL;
    ssmq_err err = {0};
    assert_ok(ssmq_model_open(&model, "random:mamba2-130m", &err), &err);
    int32_t *ids = cpu_fixture_ids(B * (T + 1), model->shape.V, 1);
    static const char *const precisions[] = {"fp32", "fp16", "bf16"};
    scored plain = {0};
    int n_wrong = 0;
    for (int i = 0; i < 3; i++) {
        engines e = {.tested = tested_engine_load(model, precisions[i]),
                     .reference = cpu_fixture_engine(model, precisions[i], "all", 0)};
        const cpu_run run = {.ids = ids, .B = B, .T = T, .decode_tokens = 9};
        scored a = scored_run(e.tested, model, &run);
        scored b = scored_run(e.reference, model, &run);
        e.nll = difference_of(a.nll, b.nll, B * T);
        e.logits = difference_of(a.logits, b.logits, B * model->shape.V);
        if (i > 0) {
            e.unit.nll = difference_of(b.nll, plain.nll, B * T).rms;
            e.unit.logit = difference_of(b.logits, plain.logits, B * model->shape.V).rms;
        }
        n_wrong += !is_close(&e.nll, e.unit.nll, "NLL");
        n_wrong += !is_close(&e.logits, e.unit.logit, "logits");
        print_message("  %s:", precisions[i]);
        close_engines(&e);
        scored_free(&a);
        if (i == 0) plain = b;
        if (i > 0) scored_free(&b);
    }
    scored_free(&plain);
    ssmq_free(ids);
    ssmq_model_close(model);
    assert_int_equal(n_wrong, 0);
}

int main(int argc, char **argv) {
    static const engine_check checks[] = {
        {"prefill", prefill, false},
        {"forced decode", forced_decode, false},
        {"free decode", free_decode, false},
        {"published shape", published_shape, true},
    };
    const int status = tested_engine_begin(argc, argv);
    if (status != 0) return status;
    return tested_engine_run("gpu_conformance", checks, sizeof checks / sizeof checks[0], shapes,
                             N_SHAPES);
}
