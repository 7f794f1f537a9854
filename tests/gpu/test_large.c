/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes beyond 32 bits: a segment whose activations and state hold more than 2^31 numbers, and a
 * context of hundreds of thousands of tokens. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/mem.h"
#include "support/tested_engine.h"

static const double bytes_per_gb = 1e9;
static const int64_t two_to_31 = (int64_t)1 << 31;

/* Largest number of sequences at hand, rather than tokens: an engine may cut a context as it likes,
 * but not below a chunk of 128 tokens. Rows of every block of 2^31 bytes and numbers must be what
 * they are alone. */
static void more_than_2_31_numbers(void **state) {
    enum { B = 5600, T = 128 + 37, STEPS = 3, V = 64, SEEN = 57 };
    const struct checkpoint_options options = {.d = 768, .P = 64, .N = 128, .L = 2, .V = V};
    (void)state;
    tested_engine_needs_cuda();
    ssmq_model *model = cpu_fixture_model(&options);
    const ssmq_shape *s = &model->shape;
    assert_true((int64_t)B * 128 * s->R > two_to_31);
    assert_true((int64_t)B * s->L * s->H * s->P * s->N > two_to_31);
    int32_t *ids = cpu_fixture_ids((int64_t)B * (T + 1), V, 1);
    const cpu_run run = {.ids = ids, .B = B, .T = T, .segment = 128, .decode_tokens = STEPS};
    ssmq_engine *engine = tested_engine_load(model, "bf16");
    scored all = scored_run(engine, model, &run);
    ssmq_engine_stats stats;
    engine->api->take_stats(engine, &stats);
    print_message("  %d sequences: activations %.1f GB, state %.1f GB, workspace %.1f GB\n", B,
                  (double)stats.activation_bytes / bytes_per_gb,
                  (double)stats.state_bytes / bytes_per_gb,
                  (double)stats.workspace_bytes / bytes_per_gb);
    assert_true(stats.activation_bytes > two_to_31 && stats.state_bytes > two_to_31);
    for (int64_t i = 0; i < (int64_t)B * T; i++) assert_true(isfinite(all.nll[i]));
    for (int64_t i = 0; i <= SEEN; i++) {
        char what[64];
        const int64_t b = i * (B - 1) / SEEN;
        const cpu_run one = {
            .ids = ids + b * (T + 1), .B = 1, .T = T, .segment = 128, .decode_tokens = STEPS};
        scored alone = scored_run(engine, model, &one);
        (void)snprintf(what, sizeof what, "row %lld of %d", (long long)b, B);
        assert_same_bits(all.nll + b * T, alone.nll, T, what);
        assert_same_bits(all.logits + b * V, alone.logits, V, what);
        scored_free(&alone);
    }
    engine->api->close(engine);
    scored_free(&all);
    ssmq_free(ids);
    ssmq_model_close(model);
}

/* Many sequences of long segments at a published shape, as large a segment as the engine takes. */
static void long_segments(void **state) {
    enum { B = 64, T = 8192, SEEN = 9 };
    ssmq_model *model = NULL;
    ssmq_err err = {0};
    (void)state;
    tested_engine_needs_cuda();
    assert_ok(ssmq_model_open(&model, "random:mamba2-130m", &err), &err);
    int32_t *ids = cpu_fixture_ids((int64_t)B * T, model->shape.V, 2);
    const int64_t V = model->shape.V;
    float *all = NULL, *alone = NULL;
    assert_int_equal(ssmq_calloc(&all, (size_t)(B * V), sizeof *all, NULL), SSMQ_OK);
    assert_int_equal(ssmq_calloc(&alone, (size_t)V, sizeof *alone, NULL), SSMQ_OK);
    ssmq_engine *engine = tested_engine_load(model, "bf16");
    const ssmq_engine_extent many = {.n_sequences = B, .max_segment_tokens = T};
    const ssmq_engine_extent single = {.n_sequences = 1, .max_segment_tokens = T};
    const ssmq_prefill call = {.tokens = ids, .n_tokens = T, .logits = all};
    ssmq_engine_stats stats;
    assert_ok(engine->api->reset(engine, &many, &err), &err);
    assert_ok(engine->api->prefill(engine, &call, &err), &err);
    engine->api->take_stats(engine, &stats);
    print_message("  %d x %d tokens in %.0f ms, peak %.2f GB\n", B, T,
                  (double)stats.last_call_ns * 1e-6, (double)stats.peak_bytes / bytes_per_gb);
    for (int64_t b = 0; b < B; b += SEEN) {
        char what[32];
        const ssmq_prefill one = {.tokens = ids + b * T, .n_tokens = T, .logits = alone};
        assert_ok(engine->api->reset(engine, &single, &err), &err);
        assert_ok(engine->api->prefill(engine, &one, &err), &err);
        (void)snprintf(what, sizeof what, "sequence %lld", (long long)b);
        assert_same_bits(all + b * V, alone, V, what);
    }
    engine->api->close(engine);
    ssmq_free(all);
    ssmq_free(alone);
    ssmq_free(ids);
    ssmq_model_close(model);
}

/* One sequence in segments of several sizes, by the engine's cutting and by calls, and on into
 * decode. */
static void long_context(void **state) {
    enum { T = 300000, STEPS = 8, TAIL = 256 };
    static const struct { int64_t segment, call; } cuts[] = {{8192, 0}, {2048, 0}, {1024, 65536}};
    ssmq_model *model = NULL;
    ssmq_err err = {0};
    (void)state;
    tested_engine_needs_cuda();
    assert_ok(ssmq_model_open(&model, "random:mamba2-130m", &err), &err);
    int32_t *ids = cpu_fixture_ids(T + 1, model->shape.V, 3);
    ssmq_engine *engine = tested_engine_load(model, "bf16");
    scored first = {0};
    for (int i = 0; i < 3; i++) {
        char what[64];
        double mean = 0.0;
        ssmq_engine_stats stats;
        const cpu_run run = {.ids = ids,
                             .B = 1,
                             .T = T,
                             .segment = cuts[i].segment,
                             .call = cuts[i].call,
                             .decode_tokens = STEPS};
        scored got = scored_run(engine, model, &run);
        engine->api->take_stats(engine, &stats);
        for (int64_t t = 0; t < T; t++) {
            assert_true(isfinite(got.nll[t]) && got.nll[t] > 0.0f);
            mean += (double)got.nll[t] / T;
        }
        (void)snprintf(what, sizeof what, "segments of %lld", (long long)cuts[i].segment);
        print_message("  %s: mean NLL %.4f, peak %.2f GB\n", what, mean,
                      (double)stats.peak_bytes / bytes_per_gb);
        if (i > 0) assert_same_scored(&first, &got, what);
        if (i == 0) first = got;
        if (i > 0) scored_free(&got);
    }
    /* The end alone, from nothing: a state that was not carried would give this. */
    const cpu_run tail = {.ids = ids + T - TAIL, .B = 1, .T = TAIL, .decode_tokens = STEPS};
    scored alone = scored_run(engine, model, &tail);
    int n_different = 0;
    for (int64_t t = 0; t < TAIL; t++) n_different += alone.nll[t] != first.nll[T - TAIL + t];
    assert_true(n_different > TAIL / 2);
    engine->api->close(engine);
    scored_free(&alone);
    scored_free(&first);
    ssmq_free(ids);
    ssmq_model_close(model);
}

int main(int argc, char **argv) {
    static const engine_check checks[] = {
        {"more than 2^31 numbers", more_than_2_31_numbers, true},
        {"long segments", long_segments, true},
        {"long context", long_context, true},
    };
    const int status = tested_engine_begin(argc, argv);
    if (status != 0) return status;
    return tested_engine_run("gpu_large", checks, sizeof checks / sizeof checks[0], NULL, 0);
}
