/* SPDX-License-Identifier: Apache-2.0 */
/* What must be refused or reported, with the texts of the CPU engine, and that the engine goes on
 * afterwards. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "support/tested_engine.h"

/* Segments of 128 tokens are whole chunks of both engines. */
enum { CHUNK = 128, T = 200, BAD_TOKEN = 170, MAX_NUMBERS = 8192, V = 64 };

/* The engine does what it did before. */
static void assert_goes_on(ssmq_engine *engine, const ssmq_model *model, const scored *before,
                           const cpu_run *run) {
    assert_true(engine->api->alive(engine));
    scored after = scored_run(engine, model, run);
    assert_same_scored(before, &after, "after a fault");
    scored_free(&after);
}

static void refuses_ids_outside_the_vocabulary(void **state) {
    static const struct {
        int32_t id, target;
        const char *text;
    } cases[] = {
        {V, 0, "token id 64 at place 2; the model has ids 0 to 63"},
        {-1, 0, "token id -1 at place 2; the model has ids 0 to 63"},
        {INT32_MAX, 0, "token id 2147483647 at place 2; the model has ids 0 to 63"},
        {0, V, "token id 64 at place 2; the model has ids 0 to 63"},
        {0, -2, "token id -2 at place 2; the model has ids 0 to 63"},
    };
    const struct checkpoint_options options = {.V = V};
    ssmq_model *model = cpu_fixture_model(&options);
    ssmq_engine *engine = tested_engine_load(model, "bf16");
    int32_t *sound = cpu_fixture_ids(2 * (T + 1), V, 1);
    const cpu_run run = {.ids = sound, .B = 2, .T = T, .decode_tokens = 5};
    scored before = scored_run(engine, model, &run);
    const ssmq_engine_extent extent = {.n_sequences = 1, .max_segment_tokens = 4};
    ssmq_err err = {0};
    (void)state;
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
    const int32_t first = V, forced[2] = {0, -1};
    int32_t argmax[2];
    const ssmq_decode bad_first = {.first = &first, .n_steps = 2, .argmax = argmax};
    const ssmq_decode bad_forced = {
        .first = forced, .n_steps = 2, .forced = forced, .argmax = argmax};
    ssmq_err_clear(&err);
    assert_int_equal(engine->api->decode(engine, &bad_first, &err), SSMQ_CONFIG);
    assert_string_equal(err.text, "token id 64 at place 0; the model has ids 0 to 63");
    ssmq_err_clear(&err);
    assert_int_equal(engine->api->decode(engine, &bad_forced, &err), SSMQ_CONFIG);
    assert_string_equal(err.text, "token id -1 at place 1; the model has ids 0 to 63");
    assert_goes_on(engine, model, &before, &run);
    engine->api->close(engine);
    scored_free(&before);
    ssmq_free(sound);
    ssmq_model_close(model);
}

/* The tensor's numbers in fp32, of which one is replaced; the caller keeps the buffer. */
static void poison(ssmq_tensor *tensor, float *buffer, int64_t at, float value) {
    const int64_t n = tensor->rows * tensor->columns;
    assert_in_range(n, at + 1, MAX_NUMBERS);
    ssmq_tensor_f32(tensor, 0, n, buffer);
    buffer[at] = value;
    tensor->bytes = buffer;
    tensor->dtype = SSMQ_F32;
}

/* Ids of two sequences; 9 occurs once, at BAD_TOKEN of the second. */
typedef struct text {
    int32_t ids[2][T], targets[2][T], first[2], forced[2][T];
} text;

static void fill_text(text *x) {
    for (int b = 0; b < 2; b++) {
        for (int t = 0; t < T; t++) {
            x->ids[b][t] = b == 1 && t == BAD_TOKEN ? 9 : 1 + (t + b) % 8;
            x->targets[b][t] = 1;
            if (t > 0) x->forced[b][t - 1] = x->ids[b][t];
        }
        x->forced[b][T - 1] = 1;
        x->first[b] = x->ids[b][0];
    }
}

/* What prefill, or decode, of the text says in err; then closes the engine. */
static ssmq_status run_text(ssmq_engine *engine, bool is_decode, ssmq_err *err) {
    static text x;
    static float nll[2 * T];
    static int32_t argmax[2 * T];
    const ssmq_engine_extent extent = {.n_sequences = 2, .max_segment_tokens = CHUNK};
    fill_text(&x);
    const ssmq_prefill prefill = {
        .tokens = x.ids[0], .n_tokens = T, .targets = x.targets[0], .nll = nll};
    const ssmq_decode decode = {
        .first = x.first, .n_steps = T, .forced = x.forced[0], .argmax = argmax, .nll = nll};
    ssmq_err_clear(err);
    assert_ok(engine->api->reset(engine, &extent, err), err);
    const ssmq_status status = is_decode ? engine->api->decode(engine, &decode, err)
                                         : engine->api->prefill(engine, &prefill, err);
    assert_true(engine->api->alive(engine));
    engine->api->close(engine);
    return status;
}

/* Both engines say the same of a model that is not finite; expected may be NULL. */
static void assert_same_fault(const ssmq_model *model, const char *precision,
                              const char *expected) {
    for (int is_decode = 0; is_decode < 2; is_decode++) {
        ssmq_err mine = {0}, reference = {0};
        const ssmq_status status =
            run_text(tested_engine_load(model, precision), is_decode != 0, &mine);
        (void)run_text(cpu_fixture_engine(model, precision, "all", 1), is_decode != 0, &reference);
        if (status != SSMQ_NUMERIC) {
            fail_msg("%s %s went unseen: %s", precision, is_decode != 0 ? "decode" : "prefill",
                     reference.text);
        }
        assert_string_equal(mine.text, reference.text);
        if (expected != NULL) assert_string_equal(mine.text, expected);
    }
}

static void names_the_token(void **state) {
    static float buffer[MAX_NUMBERS];
    static const char *const precisions[] = {"fp32", "fp16", "bf16"};
    static const float values[] = {NAN, INFINITY};
    const struct checkpoint_options options = {.head = CHECKPOINT_UNTIED, .V = V};
    ssmq_model *model = cpu_fixture_model(&options);
    const ssmq_tensor embeddings = model->embeddings;
    (void)state;
    for (int i = 0; i < 6; i++) {
        poison(&model->embeddings, buffer, 9 * 32 + 5, values[i % 2]);
        assert_same_fault(model, precisions[i / 2],
                          "input of layer 0: not finite at token 170 of sequence 1");
        model->embeddings = embeddings;
    }
    ssmq_model_close(model);
}

/* A fault in any tensor of layer 1 of 3 shows, in every precision: no clamp or rounding swallows
 * it. Most reach the norm of layer 2 in the first token. */
static void names_the_layer(void **state) {
    static float buffer[MAX_NUMBERS];
    static const char *const precisions[] = {"fp32", "fp16", "bf16"};
    static const char next[] = "input of layer 2: not finite at token 0 of sequence 0";
    const struct checkpoint_options options = {
        .L = 3, .has_bias = true, .dtype = SSMQ_BF16, .head = CHECKPOINT_UNTIED, .V = V};
    ssmq_model *model = cpu_fixture_model(&options);
    ssmq_layer *l = &model->layers[1];
    /* R = 64 + 64 + 16 + 16 + 4 rows of 32: one row of each block z, x, B, C, dt. */
    const struct {
        ssmq_tensor *tensor;
        int64_t at;
        const char *text;
    } places[] = {
        {&l->in_proj, 0, next},
        {&l->in_proj, 70 * 32, next},
        {&l->in_proj, 130 * 32, next},
        {&l->in_proj, 150 * 32, next},
        {&l->in_proj, 161 * 32, next},
        {&l->in_proj_bias, 162, next},
        {&l->conv, 3, next},
        {&l->conv_bias, 65, next},
        {&l->dt_bias, 1, next},
        {&l->D, 0, next},
        {&l->A_log, 2, NULL},
        {&l->gated_norm, 7, next},
        {&l->out_proj, 64 * 31, next},
        {&l->out_proj_bias, 0, next},
        {&l->norm, 31, next},
        {&model->layers[2].out_proj, 5, "final norm: not finite at token 0 of sequence 0"},
        {&model->norm_f, 0, "logits: not finite at token 0 of sequence 0"},
        {&model->lm_head, 63 * 32, "logits: not finite at token 0 of sequence 0"},
    };
    (void)state;
    for (size_t i = 0; i < 3 * sizeof places / sizeof places[0]; i++) {
        ssmq_tensor *tensor = places[i / 3].tensor;
        const ssmq_tensor sound = *tensor;
        poison(tensor, buffer, places[i / 3].at, NAN);
        assert_same_fault(model, precisions[i % 3], places[i / 3].text);
        *tensor = sound;
    }
    ssmq_model_close(model);
}

/* The tensor-core scan has ways of its own to lose a NaN, and 16 bits overflow where fp32 does
 * not. */
static void faults_of_large_heads(void **state) {
    static float buffer[1 << 17];
    const struct checkpoint_options options = {.d = 128, .P = 64, .N = 128, .V = V};
    ssmq_model *model = cpu_fixture_model(&options);
    ssmq_layer *l = &model->layers[0];
    /* Rows of 128: 256 of z, 256 of x, 128 of B, 128 of C, 4 of dt. */
    static const int64_t rows[] = {0, 300, 520, 640, 770};
    const int64_t n = l->in_proj.rows * l->in_proj.columns;
    const ssmq_tensor sound = l->in_proj;
    (void)state;
    assert_in_range(n, 1, 1 << 17);
    for (int i = 0; i < 10; i++) {
        const bool overflows = i >= 5;
        ssmq_tensor_f32(&sound, 0, n, buffer);
        if (!overflows) buffer[rows[i] * 128] = NAN;
        for (int c = 0; overflows && c < 128; c++) buffer[rows[i - 5] * 128 + c] *= 1e6f;
        l->in_proj.bytes = buffer;
        l->in_proj.dtype = SSMQ_F32;
        ssmq_err mine = {0}, reference = {0};
        const ssmq_status status = run_text(tested_engine_load(model, "fp16"), false, &mine);
        const ssmq_status expected =
            run_text(cpu_fixture_engine(model, "fp16", "all", 1), false, &reference);
        print_message("  row %lld %s: \"%s\", CPU \"%s\"\n", (long long)rows[i % 5],
                      overflows ? "large" : "NaN", mine.text, reference.text);
        if (!overflows) {
            assert_int_equal(status, SSMQ_NUMERIC);
            assert_string_equal(mine.text, reference.text);
        }
        /* Infinity or the largest number: that is a matter of a last bit, but not whether the
         * result of one engine is a number where all of the other's are far out. */
        if (overflows && expected == SSMQ_NUMERIC) assert_int_equal(status, SSMQ_NUMERIC);
        l->in_proj = sound;
    }
    ssmq_model_close(model);
}

static void refuses_calls_out_of_order(void **state) {
    const ssmq_engine_extent extent = {.n_sequences = 1, .max_segment_tokens = 8};
    const ssmq_engine_extent empty[] = {{.n_sequences = 0, .max_segment_tokens = 8},
                                        {.n_sequences = 1, .max_segment_tokens = 0}};
    const int32_t token = 0;
    int32_t argmax = 0;
    const ssmq_prefill prefill = {.tokens = &token, .n_tokens = 1};
    const ssmq_decode decode = {.first = &token, .n_steps = 1, .argmax = &argmax};
    const struct checkpoint_options options = {.V = V};
    ssmq_model *model = cpu_fixture_model(&options);
    const ssmq_spec spec = cpu_fixture_spec(model, "bf16", "all");
    ssmq_engine *engine = tested_engine_open();
    ssmq_err err = {0};
    (void)state;
    assert_int_equal(engine->api->reset(engine, &extent, &err), SSMQ_INTERNAL);
    assert_string_equal(err.text, "reset before load");
    for (int i = 0; i < 2; i++) {
        /* Before the first reset, and after another load. */
        ssmq_err_clear(&err);
        assert_ok(engine->api->load(engine, model, &spec, &err), &err);
        assert_int_equal(engine->api->prefill(engine, &prefill, &err), SSMQ_INTERNAL);
        assert_string_equal(err.text, "prefill or decode before reset");
        ssmq_err_clear(&err);
        assert_int_equal(engine->api->decode(engine, &decode, &err), SSMQ_INTERNAL);
        assert_string_equal(err.text, "prefill or decode before reset");
        ssmq_err_clear(&err);
        assert_int_equal(engine->api->reset(engine, &empty[i], &err), SSMQ_CONFIG);
        ssmq_err_clear(&err);
        assert_ok(engine->api->reset(engine, &extent, &err), &err);
        assert_ok(engine->api->prefill(engine, &prefill, &err), &err);
        assert_ok(engine->api->decode(engine, &decode, &err), &err);
    }
    assert_true(engine->api->alive(engine));
    engine->api->close(engine);
    tested_engine_api()->close(NULL);
    ssmq_model_close(model);
}

/* More memory than any card has: said so, and over with the next reset. */
static void too_large_is_no_memory(void **state) {
    enum { SEQUENCES = 65535 };
    const struct checkpoint_options options = {.d = 128, .P = 64, .N = 128, .L = 8, .V = V};
    const ssmq_engine_extent extent = {.n_sequences = SEQUENCES, .max_segment_tokens = CHUNK};
    (void)state;
    tested_engine_needs_cuda();
    ssmq_model *model = cpu_fixture_model(&options);
    ssmq_engine *engine = tested_engine_load(model, "bf16");
    int32_t *ids = cpu_fixture_ids(2 * (T + 1), V, 2);
    const cpu_run run = {.ids = ids, .B = 2, .T = T, .decode_tokens = 5};
    scored before = scored_run(engine, model, &run);
    for (int i = 0; i < 3; i++) {
        const int32_t token = 0;
        const ssmq_prefill call = {.tokens = &token, .n_tokens = 1};
        ssmq_err err = {0};
        assert_int_equal(engine->api->reset(engine, &extent, &err), SSMQ_NOMEM);
        print_message("  \"%s\"\n", err.text);
        assert_non_null(strstr(err.text, "bytes of device memory"));
        ssmq_err_clear(&err);
        assert_int_equal(engine->api->prefill(engine, &call, &err), SSMQ_INTERNAL);
        assert_goes_on(engine, model, &before, &run);
    }
    engine->api->close(engine);
    scored_free(&before);
    ssmq_free(ids);
    ssmq_model_close(model);
}

/* Precisions that are not there yet are skipped, with the reason, and spoil nothing. */
static void says_what_it_cannot(void **state) {
    static const char *const precisions[] = {
        "fp32",     "fp16",         "bf16",  "w8a8",  "fp32:w8a8",      "w4a8",    "w4a4",
        "w4a8:g64", "w4a8:channel", "w8a16", "w4a16", "fp16:w4a16:g32", "w8a8-fp8"};
    enum { N_FLOAT = 3 };
    const struct checkpoint_options options = {.d = 128, .P = 64, .N = 128, .V = V};
    ssmq_model *model = cpu_fixture_model(&options);
    int32_t *ids = cpu_fixture_ids(T + 1, V, 3);
    const cpu_run run = {.ids = ids, .B = 1, .T = T};
    ssmq_engine *engine = tested_engine_load(model, "bf16");
    scored before = scored_run(engine, model, &run);
    (void)state;
    for (size_t i = 0; i < sizeof precisions / sizeof precisions[0]; i++) {
        const ssmq_spec spec = cpu_fixture_spec(model, precisions[i], "all");
        ssmq_err err = {0};
        const ssmq_status status = engine->api->supports(engine, &model->shape, &spec, &err);
        if (status != SSMQ_OK) print_message("  %s: %s\n", precisions[i], err.text);
        assert_true(status == SSMQ_OK || (status == SSMQ_SKIP && i >= N_FLOAT));
        assert_true(status == SSMQ_OK || strlen(err.text) > 0);
        ssmq_err_clear(&err);
        assert_int_equal(engine->api->load(engine, model, &spec, &err), status);
        if (status == SSMQ_OK) {
            scored got = scored_run(engine, model, &run);
            scored_free(&got);
        }
        const ssmq_spec bf16 = cpu_fixture_spec(model, "bf16", "all");
        assert_ok(engine->api->load(engine, model, &bf16, NULL), &err);
        assert_goes_on(engine, model, &before, &run);
    }
    engine->api->close(engine);
    scored_free(&before);
    ssmq_free(ids);
    ssmq_model_close(model);
}

int main(int argc, char **argv) {
    static const engine_check checks[] = {
        {"refuses ids outside the vocabulary", refuses_ids_outside_the_vocabulary, true},
        {"names the token", names_the_token, true},
        {"names the layer", names_the_layer, true},
        {"faults of large heads", faults_of_large_heads, true},
        {"refuses calls out of order", refuses_calls_out_of_order, true},
        {"too large is no memory", too_large_is_no_memory, true},
        {"says what it cannot", says_what_it_cannot, true},
    };
    const int status = tested_engine_begin(argc, argv);
    if (status != 0) return status;
    return tested_engine_run("gpu_faults", checks, sizeof checks / sizeof checks[0], NULL, 0);
}
