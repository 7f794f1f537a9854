/* SPDX-License-Identifier: Apache-2.0 */
/* What must not change a bit of a prefill: a second run, segments, the other rows of a batch, what
 * was asked for, what the engine did before; and what may change only low bits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"
#include "support/closeness.h"
#include "support/tested_engine.h"

/* CHUNK is the larger of both engines' chunks. */
enum { CHUNK = 128, B = 3, T = 5 * CHUNK + 60, DECODE = 20 };

/* Ids of B rows and the run over them. */
static cpu_run run_of(const engine_case *c, uint64_t seed) {
    return (cpu_run){.ids = cpu_fixture_ids(B * (T + 1), c->model->shape.V, seed), .B = B, .T = T};
}

static void run_free(cpu_run *run) {
    int32_t *ids = (int32_t *)(uintptr_t)run->ids;
    ssmq_free(ids);
}

/* On the same engine, and on another one. */
static void two_runs(void **state) {
    const engine_case *c = *state;
    cpu_run run = run_of(c, 1);
    run.decode_tokens = DECODE;
    ssmq_engine *engine = tested_engine_load(c->model, c->precision);
    scored first = scored_run(engine, c->model, &run);
    scored second = scored_run(engine, c->model, &run);
    assert_same_scored(&first, &second, "second run");
    engine->api->close(engine);
    engine = tested_engine_load(c->model, c->precision);
    scored third = scored_run(engine, c->model, &run);
    assert_same_scored(&first, &third, "run of another engine");
    engine->api->close(engine);
    scored_free(&first);
    scored_free(&second);
    scored_free(&third);
    run_free(&run);
}

/* Cut by the engine, by calls, and by both. */
static void segments(void **state) {
    static const struct {
        int64_t segment, call;
    } cuts[] = {
        {CHUNK, 0},     {2 * CHUNK, 0},         {4 * CHUNK, 0},     {1, 0}, {100, 0}, {0, CHUNK},
        {0, 3 * CHUNK}, {2 * CHUNK, 3 * CHUNK}, {CHUNK, 5 * CHUNK},
    };
    const engine_case *c = *state;
    const cpu_run whole = run_of(c, 2);
    ssmq_engine *engine = tested_engine_load(c->model, c->precision);
    scored expected = scored_run(engine, c->model, &whole);
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        char what[64];
        cpu_run run = whole;
        run.segment = cuts[i].segment;
        run.call = cuts[i].call;
        (void)snprintf(what, sizeof what, "segments of %lld, calls of %lld",
                       (long long)cuts[i].segment, (long long)cuts[i].call);
        scored got = scored_run(engine, c->model, &run);
        assert_same_scored(&expected, &got, what);
        scored_free(&got);
    }
    engine->api->close(engine);
    scored_free(&expected);
    cpu_run last = whole;
    run_free(&last);
}

/* A prefix of whole chunks scores the same, however long what follows it. */
static void what_follows(void **state) {
    static const int64_t lengths[] = {1, 5, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 4 * CHUNK + 7};
    const engine_case *c = *state;
    int32_t *ids = cpu_fixture_ids(T + 1, c->model->shape.V, 3);
    const cpu_run whole = {.ids = ids, .B = 1, .T = T};
    ssmq_engine *engine = tested_engine_load(c->model, c->precision);
    const yardstick unit = yardstick_of(c->model, c->precision);
    scored expected = scored_run(engine, c->model, &whole);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        const cpu_run run = {.ids = ids, .B = 1, .T = lengths[i]};
        scored got = scored_run(engine, c->model, &run);
        const difference d = difference_of(got.nll, expected.nll, lengths[i]);
        assert_same_bits(expected.nll, got.nll, lengths[i] / CHUNK * CHUNK, "whole chunks");
        assert_close(&d, unit.nll, "chunk that is cut short");
        scored_free(&got);
    }
    engine->api->close(engine);
    scored_free(&expected);
    ssmq_free(ids);
}

/* Row b of a batch of n, with other neighbours than in the batch of B. */
static scored row_among(ssmq_engine *engine, const engine_case *c, const int32_t *row, int64_t b,
                        int64_t n) {
    int32_t *ids = cpu_fixture_ids(n * (T + 1), c->model->shape.V, (uint64_t)(1000 * n + b));
    for (int64_t t = 0; t <= T; t++) ids[b * (T + 1) + t] = row[t];
    const cpu_run run = {.ids = ids, .B = n, .T = T, .decode_tokens = DECODE};
    scored all = scored_run(engine, c->model, &run);
    ssmq_free(ids);
    return all;
}

static void batch_rows(void **state) {
    /* From 24 on, all tested shapes fill a device whose kernels for many sequences are others. */
    static const int64_t sizes[] = {1, 2, 3, 5, 8, 24};
    const engine_case *c = *state;
    int32_t *row = cpu_fixture_ids(T + 1, c->model->shape.V, 4);
    ssmq_engine *engine = tested_engine_load(c->model, c->precision);
    scored alone = row_among(engine, c, row, 0, 1);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const int64_t n = sizes[i], V = c->model->shape.V;
        for (int64_t b = 0; b<n; b += n> 1 ? n - 1 : 1) {
            char what[64];
            scored all = row_among(engine, c, row, b, n);
            (void)snprintf(what, sizeof what, "row %lld of %lld", (long long)b, (long long)n);
            assert_same_bits(alone.nll, all.nll + b * T, T - DECODE, what);
            (void)snprintf(what, sizeof what, "row %lld of %lld in decode", (long long)b,
                           (long long)n);
            assert_same_bits(alone.nll + T - DECODE, all.nll + b * T + T - DECODE, DECODE, what);
            assert_same_bits(alone.logits, all.logits + b * V, V, what);
            scored_free(&all);
        }
    }
    engine->api->close(engine);
    scored_free(&alone);
    ssmq_free(row);
}

/* Scoring every seventh token, or none, gives what scoring all gives there. */
static void what_is_asked_for(void **state) {
    const engine_case *c = *state;
    int32_t *ids = cpu_fixture_ids(T + 1, c->model->shape.V, 5);
    const cpu_run run = {.ids = ids, .B = 1, .T = T};
    const ssmq_engine_extent extent = {.n_sequences = 1, .max_segment_tokens = 2 * CHUNK};
    ssmq_engine *engine = tested_engine_load(c->model, c->precision);
    scored all = scored_run(engine, c->model, &run);
    int32_t targets[T];
    float nll[T], logits[512];
    ssmq_err err = {0};
    assert_in_range(c->model->shape.V, 1, 512);
    for (int t = 0; t < T; t++) targets[t] = t % 7 == 3 ? ids[t + 1] : -1;
    const ssmq_prefill some = {.tokens = ids, .n_tokens = T, .targets = targets, .nll = nll};
    const ssmq_prefill none = {.tokens = ids, .n_tokens = T, .logits = logits};
    assert_ok(engine->api->reset(engine, &extent, &err), &err);
    assert_ok(engine->api->prefill(engine, &some, &err), &err);
    for (int t = 0; t < T; t++) {
        const float expected = targets[t] >= 0 ? all.nll[t] : 0.0f;
        assert_same_bits(&expected, &nll[t], 1, targets[t] >= 0 ? "scored" : "not scored");
    }
    assert_ok(engine->api->reset(engine, &extent, &err), &err);
    assert_ok(engine->api->prefill(engine, &none, &err), &err);
    assert_same_bits(all.logits, logits, c->model->shape.V, "logits without scores");
    engine->api->close(engine);
    scored_free(&all);
    ssmq_free(ids);
}

static void load(ssmq_engine *engine, const ssmq_model *model, const char *precision) {
    const ssmq_spec spec = cpu_fixture_spec(model, precision, "all");
    ssmq_err err = {0};
    assert_ok(engine->api->load(engine, model, &spec, &err), &err);
}

/* Whatever the engine did before, reset and load begin anew. */
static void what_was_before(void **state) {
    static const struct checkpoint_options other_shape = {.d = 64, .G = 2, .H = 8, .L = 3, .V = 90};
    const engine_case *c = *state;
    cpu_run run = run_of(c, 6);
    cpu_run junk = {.ids = run.ids + 17, .B = 2, .T = 150, .decode_tokens = 7};
    run.decode_tokens = DECODE;
    ssmq_engine *engine = tested_engine_load(c->model, c->precision);
    scored expected = scored_run(engine, c->model, &run);
    scored other = scored_run(engine, c->model, &junk);
    scored_free(&other);
    scored got = scored_run(engine, c->model, &run);
    assert_same_scored(&expected, &got, "after another extent");
    scored_free(&got);
    load(engine, c->model, c->precision[0] == 'b' ? "fp32" : "bf16");
    other = scored_run(engine, c->model, &junk);
    scored_free(&other);
    load(engine, c->model, c->precision);
    got = scored_run(engine, c->model, &run);
    assert_same_scored(&expected, &got, "after another precision");
    scored_free(&got);
    ssmq_model *model = cpu_fixture_model(&other_shape);
    int32_t *ids = cpu_fixture_ids(2 * 151, model->shape.V, 7);
    junk.ids = ids;
    load(engine, model, "bf16");
    other = scored_run(engine, model, &junk);
    scored_free(&other);
    load(engine, c->model, c->precision);
    ssmq_model_close(model);
    got = scored_run(engine, c->model, &run);
    assert_same_scored(&expected, &got, "after another model");
    scored_free(&got);
    engine->api->close(engine);
    scored_free(&expected);
    ssmq_free(ids);
    run_free(&run);
}

/* Decode continues what prefill began. */
static void decode_continues_prefill(void **state) {
    const engine_case *c = *state;
    cpu_run run = run_of(c, 8);
    ssmq_engine *engine = tested_engine_load(c->model, c->precision);
    const yardstick unit = yardstick_of(c->model, c->precision);
    scored whole = scored_run(engine, c->model, &run);
    static const int64_t steps[] = {1, 2, 3, 60, 61, 200};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        run.decode_tokens = steps[i];
        scored got = scored_run(engine, c->model, &run);
        const difference nll = difference_of(got.nll, whole.nll, B * T);
        const difference logits = difference_of(got.logits, whole.logits, B * whole.V);
        print_message("  %lld steps: NLL rms %.1e, largest %.1e\n", (long long)steps[i], nll.rms,
                      nll.largest);
        assert_close(&nll, unit.nll, "NLL with decode");
        assert_close(&logits, unit.logit, "logits with decode");
        for (int b = 0; b < B; b++) {
            assert_same_bits(whole.nll + b * T, got.nll + b * T, (T - steps[i]) / CHUNK * CHUNK,
                             "before decode");
        }
        scored_free(&got);
    }
    engine->api->close(engine);
    scored_free(&whole);
    run_free(&run);
}

/* Prefill of T - DECODE tokens and DECODE steps under an extent. */
static void run_with(ssmq_engine *engine, const ssmq_engine_extent *extent, const cpu_run *run,
                     float *nll, float *step_nll) {
    const int64_t n = T - DECODE;
    int32_t tokens[B * T], targets[B * T], first[B], forced[B * DECODE], argmax[B * DECODE];
    ssmq_err err = {0};
    for (int64_t i = 0; i < B * n; i++) {
        tokens[i] = run->ids[i / n * (T + 1) + i % n];
        targets[i] = run->ids[i / n * (T + 1) + i % n + 1];
    }
    for (int64_t b = 0; b < B; b++) first[b] = run->ids[b * (T + 1) + n];
    for (int64_t i = 0; i < B * DECODE; i++) {
        forced[i] = run->ids[i / DECODE * (T + 1) + n + 1 + i % DECODE];
    }
    const ssmq_prefill prefill = {.tokens = tokens, .n_tokens = n, .targets = targets, .nll = nll};
    const ssmq_decode decode = {
        .first = first, .n_steps = DECODE, .forced = forced, .argmax = argmax, .nll = step_nll};
    assert_ok(engine->api->reset(engine, extent, &err), &err);
    assert_ok(engine->api->prefill(engine, &prefill, &err), &err);
    assert_ok(engine->api->decode(engine, &decode, &err), &err);
}

/* Measured algorithms may sum in another order; times by stage may change nothing. */
static void timed_and_staged(void **state) {
    static float nll[3][B * T], step_nll[3][B * DECODE];
    const engine_case *c = *state;
    cpu_run run = run_of(c, 9);
    const yardstick unit = yardstick_of(c->model, c->precision);
    ssmq_engine *engine = tested_engine_load(c->model, c->precision);
    for (int i = 0; i < 3; i++) {
        const ssmq_engine_extent extent = {
            .n_sequences = B, .max_segment_tokens = T, .is_timed = i == 1, .has_stages = i == 2};
        run_with(engine, &extent, &run, nll[i], step_nll[i]);
    }
    const difference prefill = difference_of(nll[1], nll[0], B * (T - DECODE));
    const difference decode = difference_of(step_nll[1], step_nll[0], B * DECODE);
    print_message("  measured algorithms: prefill rms %.1e, decode rms %.1e\n", prefill.rms,
                  decode.rms);
    assert_close(&prefill, unit.nll, "prefill with measured algorithms");
    assert_close(&decode, unit.nll, "decode with measured algorithms");
    assert_same_bits(nll[0], nll[2], B * (T - DECODE), "prefill with stages");
    assert_same_bits(step_nll[0], step_nll[2], B * DECODE, "decode with stages");
    engine->api->close(engine);
    run_free(&run);
}

int main(int argc, char **argv) {
    static const engine_check checks[] = {
        {"two runs", two_runs, false},
        {"segments", segments, false},
        {"what follows", what_follows, false},
        {"rows of a batch", batch_rows, false},
        {"what is asked for", what_is_asked_for, false},
        {"what was before", what_was_before, false},
        {"decode continues prefill", decode_continues_prefill, false},
        {"timed and staged", timed_and_staged, false},
    };
    const int status = tested_engine_begin(argc, argv);
    if (status != 0) return status;
    return tested_engine_run("gpu_invariants", checks, sizeof checks / sizeof checks[0],
                             tested_engine_shapes, TESTED_ENGINE_SHAPES);
}
