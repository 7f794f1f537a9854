/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cpu: numbers that are not finite, what it does not support, memory figures and facts. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "support/cpu_fixture.h"

enum { T = 100, BAD_TOKEN = 70, MAX_NUMBERS = 8192 };

/* The tensor's numbers in fp32, of which one is replaced; the caller keeps the buffer. */
static void poison(ssmq_tensor *tensor, float *buffer, int64_t at, float value) {
    const int64_t n = tensor->rows * tensor->columns;
    assert_in_range(n, 1, MAX_NUMBERS);
    ssmq_tensor_f32(tensor, 0, n, buffer);
    buffer[at] = value;
    tensor->bytes = buffer;
    tensor->dtype = SSMQ_F32;
}

/* Prefill of two sequences, the second of which has the id 9 at BAD_TOKEN and nowhere else does it
 * occur; then the same through decode, all of it after a sound prefill of one chunk. */
static void assert_nonfinite(const ssmq_model *model, const char *precision, const char *text) {
    int32_t ids[2][T], targets[2][T], argmax[2][T], first[2], forced[2][T];
    float nll[2][T];
    ssmq_err err = {0};
    for (int b = 0; b < 2; b++) {
        for (int t = 0; t < T; t++) {
            ids[b][t] = b == 1 && t == BAD_TOKEN - 64 ? 9 : 1 + (t + b) % 8;
            targets[b][t] = 1;
            if (t > 0) forced[b][t - 1] = ids[b][t];
        }
        forced[b][T - 1] = 1;
        first[b] = ids[b][0];
    }
    int32_t sound[2][64];
    for (int i = 0; i < 128; i++) sound[i / 64][i % 64] = 1 + i % 8;
    ssmq_engine *engine = cpu_fixture_engine(model, precision, "all", 2);
    const ssmq_engine_extent extent = {.n_sequences = 2, .max_segment_tokens = 64};
    const ssmq_prefill before = {.tokens = sound[0], .n_tokens = 64};
    const ssmq_prefill prefill = {
        .tokens = ids[0], .n_tokens = T, .targets = targets[0], .nll = nll[0]};
    const ssmq_decode decode = {
        .first = first, .n_steps = T, .forced = forced[0], .argmax = argmax[0], .nll = nll[0]};
    for (int i = 0; i < 2; i++) {
        ssmq_err_clear(&err);
        assert_ok(engine->api->reset(engine, &extent, &err), &err);
        assert_ok(engine->api->prefill(engine, &before, &err), &err);
        const ssmq_status status = i == 0 ? engine->api->prefill(engine, &prefill, &err)
                                          : engine->api->decode(engine, &decode, &err);
        assert_int_equal(status, SSMQ_NUMERIC);
        assert_string_equal(err.text, text);
    }
    /* The engine goes on after a reset. */
    assert_true(engine->api->alive(engine));
    ssmq_err_clear(&err);
    assert_ok(engine->api->reset(engine, &extent, &err), &err);
    assert_ok(engine->api->prefill(engine, &before, &err), &err);
    engine->api->close(engine);
}

static void names_where_numbers_go_bad(void **state) {
    (void)state;
    static float buffer[MAX_NUMBERS];
    static const char *const precisions[] = {"fp32", "bf16", "w8a8", "w8a8-fp8", "w4a16"};
    const struct checkpoint_options options = {.head = CHECKPOINT_UNTIED};
    ssmq_model *model = cpu_fixture_model(&options);
    const ssmq_tensor embeddings = model->embeddings;
    for (size_t i = 0; i < sizeof precisions / sizeof precisions[0]; i++) {
        poison(&model->embeddings, buffer, 9 * 32 + 5, NAN);
        assert_nonfinite(model, precisions[i],
                         "input of layer 0: not finite at token 70 of sequence 1");
        model->embeddings = embeddings;
        poison(&model->embeddings, buffer, 9 * 32 + 5, INFINITY);
        assert_nonfinite(model, precisions[i],
                         "input of layer 0: not finite at token 70 of sequence 1");
        model->embeddings = embeddings;
    }
    ssmq_model_close(model);
}

/* A fault in any tensor of a layer shows, in every precision: no clamp or rounding swallows it. */
static void shows_every_fault(void **state) {
    (void)state;
    static float buffer[MAX_NUMBERS];
    static const char *const precisions[] = {"fp32",    "fp16",     "w8a8",
                                             "w4a4:g8", "w8a8-fp8", "w4a16"};
    enum { N_PRECISIONS = sizeof precisions / sizeof precisions[0] };
    const struct checkpoint_options options = {.has_bias = true, .dtype = SSMQ_BF16};
    ssmq_model *model = cpu_fixture_model(&options);
    ssmq_layer *l = &model->layers[1];
    /* R = 64 + 64 + 16 + 16 + 4 rows of 32: one row of each block z, x, B, C, dt. */
    const struct {
        ssmq_tensor *tensor;
        int64_t at;
    } places[] = {
        {&l->in_proj, 0},        {&l->in_proj, 70 * 32},
        {&l->in_proj, 130 * 32}, {&l->in_proj, 150 * 32},
        {&l->in_proj, 161 * 32}, {&l->in_proj_bias, 162},
        {&l->conv, 3},           {&l->conv_bias, 65},
        {&l->dt_bias, 1},        {&l->D, 0},
        {&l->A_log, 2},          {&l->gated_norm, 7},
        {&l->out_proj, 64 * 31}, {&l->out_proj_bias, 0},
        {&l->norm, 31},          {&model->norm_f, 0},
    };
    for (size_t i = 0; i < N_PRECISIONS * sizeof places / sizeof places[0]; i++) {
        ssmq_tensor *tensor = places[i / N_PRECISIONS].tensor;
        const ssmq_tensor sound = *tensor;
        const int32_t tokens[3] = {1, 2, 3};
        float logits[64];
        poison(tensor, buffer, places[i / N_PRECISIONS].at, NAN);
        ssmq_engine *engine = cpu_fixture_engine(model, precisions[i % N_PRECISIONS], "all", 1);
        const ssmq_engine_extent extent = {.n_sequences = 1, .max_segment_tokens = 3};
        const ssmq_prefill call = {.tokens = tokens, .n_tokens = 3, .logits = logits};
        ssmq_err err = {0};
        assert_ok(engine->api->reset(engine, &extent, &err), &err);
        if (engine->api->prefill(engine, &call, &err) != SSMQ_NUMERIC) {
            fail_msg("place %d of %s went unseen", (int)i / N_PRECISIONS,
                     precisions[i % N_PRECISIONS]);
        }
        engine->api->close(engine);
        *tensor = sound;
    }
    ssmq_model_close(model);
}

/* -infinity for a token nobody asks about is no number to go on with either. */
static void infinite_logits_are_faults(void **state) {
    (void)state;
    static float buffer[MAX_NUMBERS];
    static const float bad[] = {INFINITY, -INFINITY, NAN};
    const struct checkpoint_options options = {.head = CHECKPOINT_UNTIED};
    ssmq_model *model = cpu_fixture_model(&options);
    const ssmq_tensor sound = model->lm_head;
    for (int i = 0; i < 3; i++) {
        const int32_t tokens[3] = {1, 2, 3}, targets[3] = {-1, 3, -1};
        float nll[3];
        model->lm_head = sound;
        poison(&model->lm_head, buffer, 63 * 32, bad[i]);
        ssmq_engine *engine = cpu_fixture_engine(model, "fp32", "none", 1);
        const ssmq_engine_extent extent = {.n_sequences = 1, .max_segment_tokens = 3};
        const ssmq_prefill call = {.tokens = tokens, .n_tokens = 3, .targets = targets, .nll = nll};
        ssmq_err err = {0};
        assert_ok(engine->api->reset(engine, &extent, &err), &err);
        assert_int_equal(engine->api->prefill(engine, &call, &err), SSMQ_NUMERIC);
        assert_string_equal(err.text, "logits: not finite at token 1 of sequence 0");
        engine->api->close(engine);
    }
    model->lm_head = sound;
    ssmq_model_close(model);
}

static void skips_what_it_cannot(void **state) {
    (void)state;
    static const struct {
        const char *precision, *scope, *text;
    } cases[] = {
        {"w8a8", "only:conv1d",
         "conv1d cannot be quantized: depthwise, K values a channel; not a matrix product"},
        {"w4a8", "only:0.out_proj,1.conv1d",
         "conv1d cannot be quantized: depthwise, K values a channel; not a matrix product"},
        {"w8a8-fp8", "only:lm_head,embeddings",
         "embeddings cannot be quantized: a table look-up, not a product; shared with a tied "
         "lm_head"},
    };
    const struct checkpoint_options options = {.V = 64};
    ssmq_model *model = cpu_fixture_model(&options);
    ssmq_engine *engine = cpu_fixture_engine(model, "w4a8", "only:lm_head", 1);
    ssmq_err err = {0};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const ssmq_spec spec = cpu_fixture_spec(model, cases[i].precision, cases[i].scope);
        ssmq_err_clear(&err);
        assert_int_equal(engine->api->supports(engine, &model->shape, &spec, &err), SSMQ_SKIP);
        assert_string_equal(err.text, cases[i].text);
        ssmq_err_clear(&err);
        assert_int_equal(engine->api->load(engine, model, &spec, &err), SSMQ_SKIP);
    }
    ssmq_shape wide = model->shape;
    wide.di = 133145;
    ssmq_spec spec = cpu_fixture_spec(model, "w8a8", "all");
    ssmq_err_clear(&err);
    assert_int_equal(engine->api->supports(engine, &wide, &spec, &err), SSMQ_SKIP);
    assert_string_equal(err.text, "integer sums over 133145 columns may leave int32");
    wide.di = 133144;
    assert_int_equal(engine->api->supports(engine, &wide, &spec, NULL), SSMQ_OK);
    wide.di = SSMQ_MAX_INNER;
    spec = cpu_fixture_spec(model, "w8a8-fp8", "all");
    assert_int_equal(engine->api->supports(engine, &wide, &spec, NULL), SSMQ_OK);
    spec = cpu_fixture_spec(model, "w4a8:channel", "all");
    assert_int_equal(engine->api->supports(engine, &wide, &spec, NULL), SSMQ_OK);
    engine->api->close(engine);
    ssmq_model_close(model);
}

static void refuses_calls_out_of_order(void **state) {
    (void)state;
    const ssmq_engine_api *api = ssmq_engine_find("cpu");
    const ssmq_engine_options options = {.n_threads = 1};
    const ssmq_engine_extent extent = {.n_sequences = 1, .max_segment_tokens = 8};
    const ssmq_engine_extent empty = {.n_sequences = 0, .max_segment_tokens = 8};
    const int32_t token = 0;
    const ssmq_prefill call = {.tokens = &token, .n_tokens = 1};
    ssmq_engine *engine = NULL;
    ssmq_err err = {0};
    assert_ok(api->open(&engine, &options, &err), &err);
    assert_int_equal(api->reset(engine, &extent, &err), SSMQ_INTERNAL);
    assert_string_equal(err.text, "reset before load");
    api->close(engine);
    const struct checkpoint_options small = {.V = 64};
    ssmq_model *model = cpu_fixture_model(&small);
    engine = cpu_fixture_engine(model, "fp32", "none", 1);
    ssmq_err_clear(&err);
    assert_int_equal(api->prefill(engine, &call, &err), SSMQ_INTERNAL);
    assert_string_equal(err.text, "prefill or decode before reset");
    ssmq_err_clear(&err);
    assert_int_equal(api->reset(engine, &empty, &err), SSMQ_CONFIG);
    assert_string_equal(err.text, "an extent needs a sequence and a token");
    api->close(engine);
    api->close(NULL);
    ssmq_model_close(model);
}

/* d 32, di 64, H 4, N 16, K 4, V 64, L 2: in_proj 164 x 32, out_proj 32 x 64, conv 96 x 4. */
static void counts_what_is_stored(void **state) {
    (void)state;
    const int64_t linear = 164 * 32 + 32 * 64, head = 64 * 32;
    const int64_t others = 32 + 64 + 96 * 5, ssm = 4 * 3 * 4;
    const struct {
        const char *precision, *scope;
        int64_t bytes;
    } cases[] = {
        {"fp32", "all", 4 * head + 2 * (4 * linear + 4 * others + ssm) + 4 * 32},
        {"bf16", "all", 2 * head + 2 * (2 * linear + 2 * others + ssm) + 2 * 32},
        {"w8a8", "all", 2 * head + 2 * (linear + 4 * (164 + 32) + 2 * others + ssm) + 2 * 32},
        {"w4a8", "all", 2 * head + 2 * (linear / 2 + 4 * (164 + 32) + 2 * others + ssm) + 2 * 32},
        {"w8a8-fp8", "all", 2 * head + 2 * (linear + 4 * (164 + 32) + 2 * others + ssm) + 2 * 32},
        {"fp32:w4a16:g32", "all",
         4 * head + 2 * (linear / 2 + 4 * (164 + 2 * 32) + 4 * others + ssm) + 4 * 32},
        /* A head of its own numbers leaves the tied embeddings theirs. */
        {"w8a8", "only:lm_head",
         head + 4 * 64 + 2 * head + 2 * (2 * linear + 2 * others + ssm) + 2 * 32},
    };
    const struct checkpoint_options options = {.V = 64};
    ssmq_model *model = cpu_fixture_model(&options);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ssmq_engine *engine = cpu_fixture_engine(model, cases[i].precision, cases[i].scope, 1);
        const ssmq_engine_extent extent = {.n_sequences = 3, .max_segment_tokens = 8};
        ssmq_engine_stats stats;
        ssmq_err err = {0};
        assert_ok(engine->api->reset(engine, &extent, &err), &err);
        engine->api->take_stats(engine, &stats);
        assert_true(stats.weight_bytes == cases[i].bytes);
        /* fp32 state of 2 layers x 3 sequences: S [64, 16] and 3 columns of 96 channels. */
        assert_true(stats.state_bytes == 4 * 2 * 3 * (64 * 16 + 3 * 96));
        assert_true(stats.activation_bytes > 0 && stats.workspace_bytes > 0);
        assert_true(stats.peak_bytes == stats.weight_bytes + stats.state_bytes +
                                            stats.activation_bytes + stats.workspace_bytes);
        engine->api->close(engine);
    }
    ssmq_model_close(model);
}

static void says_what_it_is(void **state) {
    (void)state;
    assert_string_equal(ssmq_engine_find("cpu")->name, "cpu");
    assert_string_equal(ssmq_engine_find("null")->name, "null");
    assert_null(ssmq_engine_find("gpu"));
    assert_non_null(strstr(ssmq_engine_names(), "cpu"));
    ssmq_engine_facts facts;
    const ssmq_engine_options options = {.n_threads = 3};
    ssmq_engine *engine = NULL;
    ssmq_err err = {0};
    assert_ok(ssmq_engine_find("cpu")->open(&engine, &options, &err), &err);
    engine->api->describe(engine, &facts);
    assert_string_equal(facts.device, "cpu");
    assert_string_equal(facts.gpu_name, "");
    assert_string_equal(facts.cuda, "");
    assert_string_equal(facts.timer, "host clock");
    assert_string_equal(facts.memory_source, "allocator; weights as stored");
    assert_true(strncmp(facts.quant_backend, "OpenBLAS 0.", 11) == 0);
    assert_true(strncmp(facts.compute_type, "int32", 5) == 0);
    assert_true(facts.cpu_name[0] != '\0');
    assert_int_equal(facts.n_threads, 3);
    engine->api->close(engine);
    static const struct {
        const char *precision, *compute_type;
    } sums[] = {{"w8a8", "int32 (exact sgemm sums)"},
                {"w4a4:channel", "int32 (exact sgemm sums)"},
                {"w8a8-fp8", "fp32 (sgemm)"},
                {"w4a16", "fp32 (sgemm)"}};
    const struct checkpoint_options small = {.V = 64};
    ssmq_model *model = cpu_fixture_model(&small);
    for (size_t i = 0; i < sizeof sums / sizeof sums[0]; i++) {
        engine = cpu_fixture_engine(model, sums[i].precision, "all", 1);
        engine->api->describe(engine, &facts);
        assert_string_equal(facts.compute_type, sums[i].compute_type);
        engine->api->close(engine);
    }
    ssmq_model_close(model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_where_numbers_go_bad),
        cmocka_unit_test(shows_every_fault),
        cmocka_unit_test(infinite_logits_are_faults),
        cmocka_unit_test(skips_what_it_cannot),
        cmocka_unit_test(refuses_calls_out_of_order),
        cmocka_unit_test(counts_what_is_stored),
        cmocka_unit_test(says_what_it_is),
    };
    return cmocka_run_group_tests_name("cpu_faults", tests, NULL, NULL);
}
