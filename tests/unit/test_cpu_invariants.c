/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cpu: what must not change a bit (segments, batch, threads, a second run), what must be
 * refused, and what is reported. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "support/cpu_fixture.h"

enum { CHUNK = 64, B = 3, T = 200 };

static const char *const precisions[] = {"fp32",    "bf16",     "fp16", "w8a8",
                                         "w4a4:g8", "w8a8-fp8", "w4a16"};
enum { N_PRECISIONS = sizeof precisions / sizeof precisions[0] };

/* Odd sizes, so that rows begin at every alignment; narrow blocks, so that products are small. */
static const struct checkpoint_options small_shape = {
    .d = 30, .P = 5, .H = 9, .N = 7, .G = 3, .V = 33, .has_bias = true};
/* Large enough for tiles of every height. */
static const struct checkpoint_options large_shape = {
    .d = 192, .P = 32, .N = 64, .G = 2, .V = 700, .L = 1, .head = CHECKPOINT_UNTIED};

typedef struct outcome {
    float nll[B * T];
    float logits[B * 700];
} outcome;

static void run(ssmq_engine *engine, const cpu_run *r, outcome *out) {
    memset(out, 0, sizeof *out);
    assert_in_range(r->B * r->T, 1, B * T);
    cpu_fixture_score(engine, r, out->nll, out->logits);
    assert_true(out->nll[0] > 0.0f && out->logits[0] != 0.0f);
}

static void assert_same(const outcome *a, const outcome *b) {
    assert_memory_equal(a->nll, b->nll, sizeof a->nll);
    assert_memory_equal(a->logits, b->logits, sizeof a->logits);
}

/* One-shot and segmented prefill give the same bits where segments are whole chunks: by the
 * engine's own cutting, and by calls. */
static void segments(const ssmq_model *model, const char *precision) {
    static outcome whole, cut;
    int32_t *ids = cpu_fixture_ids(B * (T + 1), model->shape.V, 1);
    ssmq_engine *engine = cpu_fixture_engine(model, precision, "all", 2);
    const cpu_run one_shot = {.ids = ids, .B = B, .T = T};
    const cpu_run others[] = {
        {.ids = ids, .B = B, .T = T, .segment = 1},
        {.ids = ids, .B = B, .T = T, .segment = CHUNK},
        {.ids = ids, .B = B, .T = T, .segment = 2 * CHUNK},
        {.ids = ids, .B = B, .T = T, .segment = 10 * CHUNK},
        {.ids = ids, .B = B, .T = T, .call = CHUNK},
        {.ids = ids, .B = B, .T = T, .call = 2 * CHUNK, .segment = CHUNK},
    };
    run(engine, &one_shot, &whole);
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        run(engine, &others[i], &cut);
        assert_same(&whole, &cut);
    }
    engine->api->close(engine);
    ssmq_free(ids);
}

/* A sequence alone gives what it gives among others, in prefill and in decode. */
static void batch(const ssmq_model *model, const char *precision) {
    static outcome together, alone;
    int32_t *ids = cpu_fixture_ids(B * (T + 1), model->shape.V, 2);
    ssmq_engine *engine = cpu_fixture_engine(model, precision, "all", 2);
    for (int64_t decode_tokens = 0; decode_tokens < 20; decode_tokens += 10) {
        const cpu_run all = {.ids = ids, .B = B, .T = T, .decode_tokens = decode_tokens};
        run(engine, &all, &together);
        for (int64_t b = 0; b < B; b++) {
            cpu_run one = all;
            one.ids = ids + b * (T + 1);
            one.B = 1;
            run(engine, &one, &alone);
            assert_memory_equal(alone.nll, together.nll + b * T, T * sizeof alone.nll[0]);
            assert_memory_equal(alone.logits, together.logits + b * model->shape.V,
                                (size_t)model->shape.V * sizeof alone.logits[0]);
        }
    }
    engine->api->close(engine);
    ssmq_free(ids);
}

static void threads(const ssmq_model *model, const char *precision) {
    static outcome one, more;
    int32_t *ids = cpu_fixture_ids(B * (T + 1), model->shape.V, 3);
    const cpu_run r = {.ids = ids, .B = B, .T = T, .decode_tokens = 10};
    for (int n_threads = 1; n_threads <= 3; n_threads++) {
        ssmq_engine *engine = cpu_fixture_engine(model, precision, "except:in_proj.x", n_threads);
        run(engine, &r, n_threads == 1 ? &one : &more);
        /* A second run on the same engine starts from nothing. */
        run(engine, &r, &more);
        assert_same(&one, &more);
        engine->api->close(engine);
    }
    ssmq_free(ids);
}

/* A prefix scores the same, however long what follows it. */
static void prefixes(const ssmq_model *model, const char *precision) {
    static outcome whole, part;
    static const int64_t lengths[] = {1, 5, CHUNK, CHUNK + 1, 2 * CHUNK, 199};
    int32_t *ids = cpu_fixture_ids(T + 1, model->shape.V, 4);
    ssmq_engine *engine = cpu_fixture_engine(model, precision, "all", 2);
    const cpu_run all = {.ids = ids, .B = 1, .T = T};
    run(engine, &all, &whole);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        const cpu_run r = {.ids = ids, .B = 1, .T = lengths[i]};
        /* Sums inside a chunk that is cut short may be taken in another order. */
        const int64_t whole_chunks = lengths[i] / CHUNK * CHUNK;
        run(engine, &r, &part);
        assert_memory_equal(whole.nll, part.nll, (size_t)whole_chunks * sizeof whole.nll[0]);
    }
    engine->api->close(engine);
    ssmq_free(ids);
}

static void for_all(void (*check)(const ssmq_model *, const char *)) {
    const struct checkpoint_options *const shapes[] = {&small_shape, &large_shape};
    for (int i = 0; i < 2; i++) {
        ssmq_model *model = cpu_fixture_model(shapes[i]);
        for (int p = 0; p < N_PRECISIONS; p++) check(model, precisions[p]);
        ssmq_model_close(model);
    }
}

static void segments_change_nothing(void **state) {
    (void)state;
    for_all(segments);
}

static void batch_neighbours_change_nothing(void **state) {
    (void)state;
    for_all(batch);
}

static void threads_change_nothing(void **state) {
    (void)state;
    for_all(threads);
}

static void what_follows_changes_nothing(void **state) {
    (void)state;
    for_all(prefixes);
}

/* Only targets that are not -1 are scored; the rest does not depend on which. */
static void scores_what_is_asked_for(void **state) {
    (void)state;
    static outcome all;
    ssmq_err err = {0};
    float nll[T], logits[700];
    int32_t targets[T];
    ssmq_model *model = cpu_fixture_model(&large_shape);
    int32_t *ids = cpu_fixture_ids(T + 1, model->shape.V, 5);
    ssmq_engine *engine = cpu_fixture_engine(model, "fp32", "none", 2);
    const cpu_run r = {.ids = ids, .B = 1, .T = T};
    const ssmq_engine_extent extent = {.n_sequences = 1, .max_segment_tokens = 128};
    run(engine, &r, &all);
    for (int t = 0; t < T; t++) targets[t] = t % 7 == 3 ? ids[t + 1] : -1;
    const ssmq_prefill call = {.tokens = ids, .n_tokens = T, .targets = targets, .nll = nll};
    assert_ok(engine->api->reset(engine, &extent, &err), &err);
    assert_ok(engine->api->prefill(engine, &call, &err), &err);
    for (int t = 0; t < T; t++) {
        const float expected = t % 7 == 3 ? all.nll[t] : 0.0f;
        assert_memory_equal(&nll[t], &expected, sizeof expected);
    }
    const ssmq_prefill only_logits = {.tokens = ids, .n_tokens = T, .logits = logits};
    assert_ok(engine->api->reset(engine, &extent, &err), &err);
    assert_ok(engine->api->prefill(engine, &only_logits, &err), &err);
    assert_memory_equal(logits, all.logits, (size_t)model->shape.V * sizeof logits[0]);
    engine->api->close(engine);
    ssmq_free(ids);
    ssmq_model_close(model);
}

/* Greedy decoding feeds its own argmax: forcing those tokens gives the same, and the argmax is the
 * lowest id of the largest logit. */
static void decodes_greedily(void **state) {
    (void)state;
    enum { STEPS = 12 };
    ssmq_err err = {0};
    int32_t greedy[2 * STEPS], forced[2 * STEPS], first[2] = {3, 4};
    float nll[2 * STEPS], logits[2 * 33];
    int64_t step_ns[STEPS];
    ssmq_model *model = cpu_fixture_model(&small_shape);
    ssmq_engine *engine = cpu_fixture_engine(model, "fp32", "none", 2);
    const ssmq_engine_extent extent = {.n_sequences = 2, .max_segment_tokens = 1};
    const ssmq_decode free_call = {
        .first = first, .n_steps = STEPS, .argmax = greedy, .logits = logits, .step_ns = step_ns};
    const ssmq_decode forced_call = {
        .first = first, .n_steps = STEPS, .forced = greedy, .argmax = forced, .nll = nll};
    assert_ok(engine->api->reset(engine, &extent, &err), &err);
    assert_ok(engine->api->decode(engine, &free_call, &err), &err);
    assert_ok(engine->api->reset(engine, &extent, &err), &err);
    assert_ok(engine->api->decode(engine, &forced_call, &err), &err);
    assert_memory_equal(greedy, forced, sizeof greedy);
    for (int b = 0; b < 2; b++) {
        const float *row = logits + b * 33;
        const int32_t last = greedy[b * STEPS + STEPS - 1];
        double sum = 0.0;
        for (int v = 0; v < 33; v++) {
            assert_true(v < last ? row[v] < row[last] : row[v] <= row[last]);
            sum += exp((double)row[v] - (double)row[last]);
        }
        assert_true(fabs(log(sum) - (double)nll[b * STEPS + STEPS - 1]) < 1e-6);
    }
    int64_t total_ns = 0;
    ssmq_engine_stats stats;
    for (int i = 0; i < STEPS; i++) {
        assert_true(step_ns[i] > 0);
        total_ns += step_ns[i];
    }
    assert_ok(engine->api->reset(engine, &extent, &err), &err);
    assert_ok(engine->api->decode(engine, &free_call, &err), &err);
    engine->api->take_stats(engine, &stats);
    assert_true(stats.last_call_ns > 0 && total_ns > 0);
    assert_true(stats.sm_clock_mhz == -1 && stats.memory_clock_mhz == -1);
    assert_true(stats.temperature_c == -1 && stats.throttle_reasons == -1);
    engine->api->close(engine);
    ssmq_model_close(model);
}

/* The first and the last largest logit are the same number: the lower id wins. */
static void ties_go_to_the_lowest_id(void **state) {
    (void)state;
    ssmq_err err = {0};
    const struct checkpoint_options options = {.V = 40};
    ssmq_model *model = cpu_fixture_model(&options);
    const ssmq_tensor embeddings = model->embeddings;
    float *twice = NULL;
    int32_t first = 1, argmax = -1;
    float logits[40];
    assert_int_equal(ssmq_calloc(&twice, 40 * 32, sizeof *twice, NULL), SSMQ_OK);
    ssmq_tensor_f32(&embeddings, 0, (int64_t)20 * 32, twice);
    ssmq_tensor_f32(&embeddings, 0, (int64_t)20 * 32, twice + 20 * 32);
    model->embeddings.bytes = twice;
    model->lm_head = model->embeddings;
    ssmq_engine *engine = cpu_fixture_engine(model, "fp32", "none", 1);
    const ssmq_engine_extent extent = {.n_sequences = 1, .max_segment_tokens = 1};
    const ssmq_decode call = {.first = &first, .n_steps = 1, .argmax = &argmax, .logits = logits};
    assert_ok(engine->api->reset(engine, &extent, &err), &err);
    assert_ok(engine->api->decode(engine, &call, &err), &err);
    assert_in_range(argmax, 0, 19);
    assert_memory_equal(&logits[argmax], &logits[argmax + 20], sizeof logits[0]);
    engine->api->close(engine);
    model->embeddings = embeddings;
    model->lm_head = embeddings;
    ssmq_free(twice);
    ssmq_model_close(model);
}

static void refuses_ids_outside_the_vocabulary(void **state) {
    (void)state;
    static const struct {
        int32_t id, target;
        const char *text;
    } cases[] = {
        {33, 0, "token id 33 at place 2; the model has ids 0 to 32"},
        {-1, 0, "token id -1 at place 2; the model has ids 0 to 32"},
        {0, 33, "token id 33 at place 2; the model has ids 0 to 32"},
        {0, -2, "token id -2 at place 2; the model has ids 0 to 32"},
    };
    ssmq_model *model = cpu_fixture_model(&small_shape);
    ssmq_engine *engine = cpu_fixture_engine(model, "fp32", "none", 1);
    const ssmq_engine_extent extent = {.n_sequences = 1, .max_segment_tokens = 4};
    ssmq_err err = {0};
    assert_ok(engine->api->reset(engine, &extent, &err), &err);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int32_t ids[4] = {1, 2, cases[i].id, 3};
        const int32_t targets[4] = {2, 1, cases[i].target, -1};
        float nll[4];
        const ssmq_prefill call = {.tokens = ids, .n_tokens = 4, .targets = targets, .nll = nll};
        ssmq_err_clear(&err);
        assert_int_equal(engine->api->prefill(engine, &call, &err), SSMQ_CONFIG);
        assert_string_equal(err.text, cases[i].text);
    }
    const int32_t first = 40;
    const int32_t forced[2] = {0, -1};
    int32_t argmax[2];
    const ssmq_decode bad_first = {.first = &first, .n_steps = 2, .argmax = argmax};
    const ssmq_decode bad_forced = {
        .first = forced, .n_steps = 2, .forced = forced, .argmax = argmax};
    ssmq_err_clear(&err);
    assert_int_equal(engine->api->decode(engine, &bad_first, &err), SSMQ_CONFIG);
    assert_string_equal(err.text, "token id 40 at place 0; the model has ids 0 to 32");
    ssmq_err_clear(&err);
    assert_int_equal(engine->api->decode(engine, &bad_forced, &err), SSMQ_CONFIG);
    assert_string_equal(err.text, "token id -1 at place 1; the model has ids 0 to 32");
    engine->api->close(engine);
    ssmq_model_close(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(segments_change_nothing),
        cmocka_unit_test(batch_neighbours_change_nothing),
        cmocka_unit_test(threads_change_nothing),
        cmocka_unit_test(what_follows_changes_nothing),
        cmocka_unit_test(scores_what_is_asked_for),
        cmocka_unit_test(decodes_greedily),
        cmocka_unit_test(ties_go_to_the_lowest_id),
        cmocka_unit_test(refuses_ids_outside_the_vocabulary),
    };
    return cmocka_run_group_tests_name("cpu_invariants", tests, NULL, NULL);
}
