/* SPDX-License-Identifier: Apache-2.0 */
/* Decode: the choice of tokens, calls of any number of steps, batches of any size, and the types
 * that the recurrent state may be kept in. */
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

/* BLOCK is what the CUDA engine runs between two looks of the host. */
enum { B = 3, BLOCK = 256, STEPS = 2 * BLOCK + 30, MAX_V = 512 };

typedef struct decoded {
    int32_t argmax[B * STEPS];
    float nll[B * STEPS]; /* 0 without forced tokens */
    float logits[B * MAX_V];
} decoded;

/* STEPS steps from nothing in calls of `call` steps; forced may be NULL. */
static void decode_in_calls(ssmq_engine *engine, const int32_t *forced, int64_t call,
                            decoded *out) {
    const ssmq_engine_extent extent = {.n_sequences = B, .max_segment_tokens = 1};
    static int32_t part_forced[B * STEPS], part_argmax[B * STEPS];
    static float part_nll[B * STEPS];
    int32_t first[B] = {3, 4, 5};
    ssmq_err err = {0};
    *out = (decoded){0};
    assert_ok(engine->api->reset(engine, &extent, &err), &err);
    for (int64_t done = 0, n = 0; done < STEPS; done += n) {
        n = STEPS - done < call ? STEPS - done : call;
        for (int64_t i = 0; forced != NULL && i < B * n; i++) {
            part_forced[i] = forced[i / n * STEPS + done + i % n];
        }
        const ssmq_decode part = {.first = first,
                                  .n_steps = n,
                                  .forced = forced != NULL ? part_forced : NULL,
                                  .argmax = part_argmax,
                                  .nll = forced != NULL ? part_nll : NULL,
                                  .logits = out->logits};
        assert_ok(engine->api->decode(engine, &part, &err), &err);
        for (int64_t i = 0; i < B * n; i++) {
            const int64_t at = i / n * STEPS + done + i % n;
            out->argmax[at] = part_argmax[i];
            if (forced != NULL) out->nll[at] = part_nll[i];
            if (i % n == n - 1) first[i / n] = forced != NULL ? forced[at] : part_argmax[i];
        }
    }
}

static void calls_of_any_length(void **state) {
    static const int64_t calls[] = {1, 7, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK};
    static decoded whole, parts;
    const engine_case *c = *state;
    int32_t *forced = cpu_fixture_ids((int64_t)B * STEPS, c->model->shape.V, 1);
    ssmq_engine *engine = tested_engine_load(c->model, c->precision);
    for (int has_forced = 0; has_forced < 2; has_forced++) {
        const int32_t *tokens = has_forced ? forced : NULL;
        decode_in_calls(engine, tokens, STEPS, &whole);
        for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
            char what[64];
            (void)snprintf(what, sizeof what, "calls of %lld steps", (long long)calls[i]);
            decode_in_calls(engine, tokens, calls[i], &parts);
            assert_memory_equal(whole.argmax, parts.argmax, sizeof whole.argmax);
            assert_same_bits(whole.nll, parts.nll, (int64_t)B * STEPS, what);
            assert_same_bits(whole.logits, parts.logits, B * c->model->shape.V, what);
        }
    }
    engine->api->close(engine);
    ssmq_free(forced);
}

/* Forcing the tokens that were chosen gives the same; each choice is the lowest id of the largest
 * logit, and its NLL follows from the logits. */
static void chooses_the_largest(void **state) {
    enum { SEEN = 40 };
    static decoded chosen, forced;
    const engine_case *c = *state;
    const int64_t V = c->model->shape.V;
    const ssmq_engine_extent extent = {.n_sequences = B, .max_segment_tokens = 1};
    ssmq_engine *engine = tested_engine_load(c->model, c->precision);
    int32_t fed[B] = {3, 4, 5}, argmax[B];
    static float logits[B * MAX_V];
    int64_t step_ns = 0;
    ssmq_err err = {0};
    decode_in_calls(engine, NULL, STEPS, &chosen);
    decode_in_calls(engine, chosen.argmax, STEPS, &forced);
    assert_memory_equal(chosen.argmax, forced.argmax, sizeof chosen.argmax);
    assert_ok(engine->api->reset(engine, &extent, &err), &err);
    for (int s = 0; s < SEEN; s++) {
        const ssmq_decode call = {
            .first = fed, .n_steps = 1, .argmax = argmax, .logits = logits, .step_ns = &step_ns};
        assert_ok(engine->api->decode(engine, &call, &err), &err);
        assert_true(step_ns > 0);
        for (int b = 0; b < B; b++) {
            const float *row = logits + b * V;
            double sum = 0.0;
            assert_int_equal(argmax[b], chosen.argmax[b * STEPS + s]);
            for (int v = 0; v < V; v++) {
                assert_true(v < argmax[b] ? row[v] < row[argmax[b]] : row[v] <= row[argmax[b]]);
                sum += exp((double)row[v] - (double)row[argmax[b]]);
            }
            const double error = fabs(log(sum) - (double)forced.nll[b * STEPS + s]);
            if (error > 1e-5) fail_msg("step %d: NLL is off by %.3g", s, error);
            fed[b] = argmax[b];
        }
    }
    engine->api->close(engine);
}

/* Each half of the vocabulary holds the same rows: the lower id wins. */
static void ties_go_to_the_lowest_id(void **state) {
    enum { V = 1200, D = 32, TIED_B = 70, TIED_STEPS = 20 };
    static int32_t argmax[TIED_B * TIED_STEPS];
    static float logits[TIED_B * V];
    const struct checkpoint_options options = {.V = V};
    ssmq_model *model = cpu_fixture_model(&options);
    const ssmq_tensor embeddings = model->embeddings;
    float *twice = NULL;
    ssmq_err err = {0};
    (void)state;
    assert_int_equal(ssmq_calloc(&twice, (size_t)V * D, sizeof *twice, NULL), SSMQ_OK);
    ssmq_tensor_f32(&embeddings, 0, (int64_t)V / 2 * D, twice);
    ssmq_tensor_f32(&embeddings, 0, (int64_t)V / 2 * D, twice + (size_t)V / 2 * D);
    model->embeddings.bytes = twice;
    model->lm_head = model->embeddings;
    int32_t *first = cpu_fixture_ids(TIED_B, V, 2);
    ssmq_engine *engine = tested_engine_load(model, "bf16");
    const ssmq_engine_extent extent = {.n_sequences = TIED_B, .max_segment_tokens = 1};
    const ssmq_decode call = {
        .first = first, .n_steps = TIED_STEPS, .argmax = argmax, .logits = logits};
    assert_ok(engine->api->reset(engine, &extent, &err), &err);
    assert_ok(engine->api->decode(engine, &call, &err), &err);
    for (int i = 0; i < TIED_B * TIED_STEPS; i++) assert_in_range(argmax[i], 0, V / 2 - 1);
    for (int64_t b = 0; b < TIED_B; b++) {
        assert_same_bits(logits + b * V, logits + b * V + V / 2, V / 2, "halves");
    }
    engine->api->close(engine);
    model->embeddings = embeddings;
    model->lm_head = embeddings;
    ssmq_free(first);
    ssmq_free(twice);
    ssmq_model_close(model);
}

/* A row alone gives what it gives among up to 256, where kernels and products may be cut
 * otherwise. */
static void batches_of_any_size(void **state) {
    enum { LARGEST = 256, T = 30, BY_DECODE = 12 };
    static const int64_t sizes[] = {2,  3,  4,  5,  8,  9,   16,  17,
                                    31, 32, 33, 64, 65, 128, 200, LARGEST};
    const engine_case *c = *state;
    const int64_t V = c->model->shape.V;
    int32_t *ids = cpu_fixture_ids((int64_t)LARGEST * (T + 1), V, 3);
    ssmq_engine *engine = tested_engine_load(c->model, c->precision);
    const cpu_run full = {.ids = ids, .B = LARGEST, .T = T, .decode_tokens = BY_DECODE};
    scored all = scored_run(engine, c->model, &full);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char what[64];
        const cpu_run run = {.ids = ids, .B = sizes[i], .T = T, .decode_tokens = BY_DECODE};
        scored some = scored_run(engine, c->model, &run);
        (void)snprintf(what, sizeof what, "B = %lld among %d", (long long)sizes[i], LARGEST);
        assert_same_bits(all.nll, some.nll, sizes[i] * T, what);
        assert_same_bits(all.logits, some.logits, sizes[i] * V, what);
        scored_free(&some);
    }
    static const int64_t rows[] = {0, 1, 63, 100, LARGEST - 1};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char what[64];
        const cpu_run run = {
            .ids = ids + rows[i] * (T + 1), .B = 1, .T = T, .decode_tokens = BY_DECODE};
        scored alone = scored_run(engine, c->model, &run);
        (void)snprintf(what, sizeof what, "row %lld alone", (long long)rows[i]);
        assert_same_bits(all.nll + rows[i] * T, alone.nll, T, what);
        assert_same_bits(all.logits + rows[i] * V, alone.logits, V, what);
        scored_free(&alone);
    }
    engine->api->close(engine);
    scored_free(&all);
    ssmq_free(ids);
}

/* The state is rounded once a step or segment. Emulated on the CPU engine, that moved NLLs by up to
 * 1.6e-4 (bf16) and 2e-5 (fp16) in the mean where everything else is fp32, and by up to 0.3 of the
 * yardstick more where numbers of 16 bits then fall on other sides of rounding boundaries. */
static void state_in_16_bits(void **state) {
    enum { T = 400, BY_DECODE = 150 };
    static const struct {
        ssmq_dtype dtype;
        double limit;
    } types[] = {{SSMQ_BF16, 6e-4}, {SSMQ_F16, 8e-5}};
    const engine_case *c = *state;
    tested_engine_needs_cuda();
    int32_t *ids = cpu_fixture_ids(B * (T + 1), c->model->shape.V, 4);
    const cpu_run run = {.ids = ids, .B = B, .T = T, .segment = 128, .decode_tokens = BY_DECODE};
    ssmq_engine *engine = tested_engine_load(c->model, c->precision);
    const yardstick unit = yardstick_of(c->model, c->precision);
    scored plain = scored_run(engine, c->model, &run);
    for (int i = 0; i < 2; i++) {
        ssmq_spec spec = cpu_fixture_spec(c->model, c->precision, "all");
        ssmq_engine_stats stats;
        ssmq_err err = {0};
        spec.precision.state_dtype = types[i].dtype;
        assert_ok(engine->api->load(engine, c->model, &spec, &err), &err);
        scored got = scored_run(engine, c->model, &run);
        scored again = scored_run(engine, c->model, &run);
        engine->api->take_stats(engine, &stats);
        assert_same_scored(&got, &again, "second run");
        const difference nll = difference_of(got.nll, plain.nll, B * T);
        print_message("  state in %s: NLL mean %.1e, rms %.1e (16 bits: %.1e), largest %.1e\n",
                      ssmq_dtype_name(types[i].dtype), nll.mean, nll.rms, unit.nll, nll.largest);
        const double limit = types[i].limit + 0.6 * unit.nll;
        if (!(nll.mean <= limit)) fail_msg("mean of %.3g; allowed is %.3g", nll.mean, limit);
        /* A type that is ignored would change nothing. */
        assert_true(nll.largest > 0.0);
        assert_true(stats.state_bytes > 0);
        scored_free(&got);
        scored_free(&again);
    }
    engine->api->close(engine);
    scored_free(&plain);
    ssmq_free(ids);
}

int main(int argc, char **argv) {
    static const engine_check checks[] = {
        {"calls of any length", calls_of_any_length, false},
        {"chooses the largest", chooses_the_largest, false},
        {"ties go to the lowest id", ties_go_to_the_lowest_id, true},
        {"batches of any size", batches_of_any_size, false},
        {"state in 16 bits", state_in_16_bits, false},
    };
    const int status = tested_engine_begin(argc, argv);
    if (status != 0) return status;
    return tested_engine_run("gpu_decode", checks, sizeof checks / sizeof checks[0],
                             tested_engine_shapes, TESTED_ENGINE_SHAPES);
}
