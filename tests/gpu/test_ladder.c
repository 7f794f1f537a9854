/* SPDX-License-Identifier: Apache-2.0 */
/* Every precision and many scopes on the engine against the CPU engine: random checkpoints token by
 * token, and the sums of the demo text against those of an independent implementation. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "model/tokenizer.h"
#include "support/closeness.h"
#include "support/tested_engine.h"
#include "trial/score.h"

static const struct checkpoint_options shapes[] = {
    {.seed = "plain"},
    {.d = 33, .P = 11, .H = 3, .N = 5, .V = 35, .has_bias = true, .seed = "odd d"},
    {.d = 30, .P = 5, .H = 9, .N = 7, .G = 3, .V = 33, .seed = "odd sizes"},
    {.d = 128, .P = 64, .N = 128, .V = 300, .L = 3, .seed = "tensor cores"},
    {.d = 128, .P = 64, .N = 64, .G = 2, .V = 333, .has_bias = true, .seed = "groups"},
};
enum { N_SHAPES = sizeof shapes / sizeof shapes[0], B = 2, T = 300, DECODE = 9 };

static const struct rung {
    const char *precision, *scope;
} rungs[] = {
    {"fp32:w8a8", "all"},
    {"fp32:w4a8", "all"},
    {"fp32:w4a4", "all"},
    {"fp32:w4a8:g7", "all"},
    {"fp32:w8a8:g16", "except:in_proj.dt"},
    {"fp32:w4a8:channel", "only:1.out_proj"},
    {"fp32:w8a16", "all"},
    {"fp32:w4a16:g5", "except:0.in_proj.x"},
    {"fp16:w8a8", "only:in_proj.x,in_proj.C"},
    {"fp16:w4a16", "all"},
    {"bf16:w8a8", "all"},
    {"bf16:w8a8", "only:in_proj.dt"},
    {"bf16:w4a8", "except:0.out_proj"},
    {"bf16:w4a4", "only:0"},
    {"bf16:w8a16", "only:in_proj.z,in_proj.B"},
    {"fp32:w8a8-fp8", "all"},
    {"bf16:w8a8-fp8", "except:in_proj.B"},
};
enum { N_RUNGS = sizeof rungs / sizeof rungs[0] };

/* An engine with a precision and a scope loaded; NULL, with a printed line, if it skips them. */
static ssmq_engine *load(const ssmq_engine_api *api, const ssmq_model *model,
                         const struct rung *rung) {
    const ssmq_engine_options options = {0};
    const ssmq_spec spec = cpu_fixture_spec(model, rung->precision, rung->scope);
    ssmq_engine *engine = NULL;
    ssmq_err err = {0};
    assert_ok(api->open(&engine, &options, &err), &err);
    const ssmq_status status = api->load(engine, model, &spec, &err);
    if (status == SSMQ_OK) return engine;
    if (status != SSMQ_SKIP) assert_ok(status, &err);
    print_message("  %s: %s: skipped: %s\n", rung->precision, api->name, err.text);
    engine->api->close(engine);
    return NULL;
}

typedef struct runs {
    scored prefill, decode;
} runs;

static runs run_of(ssmq_engine *engine, const ssmq_model *model, const int32_t *ids) {
    const cpu_run prefill = {.ids = ids, .B = B, .T = T, .segment = 128};
    const cpu_run decode = {.ids = ids, .B = B, .T = T, .decode_tokens = DECODE};
    const runs r = {scored_run(engine, model, &prefill), scored_run(engine, model, &decode)};
    return r;
}

static void runs_free(runs *r) {
    scored_free(&r->prefill);
    scored_free(&r->decode);
}

/* What quantization itself does to a number is the yardstick: the CPU engine's distance from fp32.
 * With exact sums in fp32 the engines differ where noise moves an activation over the boundary of
 * two codes, which is rare; in 16 bits rounding is noise of the size of codes, and fp8 tensor cores
 * keep fewer bits of a sum than fp32 has. */
static bool close_enough(const scored *got, const scored *expected, const scored *plain,
                         const char *what, bool is_strict) {
    const int64_t n = got->B * got->T;
    const difference d = difference_of(got->nll, expected->nll, n);
    const double unit = difference_of(expected->nll, plain->nll, n).rms;
    print_message("  %s: rms %.2e, largest %.2e; quantization: rms %.2e\n", what, d.rms, d.largest,
                  unit);
    if (unit > 0.0 && is_strict && d.rms > 0.25 * unit + 1e-5) {
        print_error("%s: off by %.3g rms\n", what, d.rms);
        return false;
    }
    return is_close(&d, unit, what);
}

static int compare(const ssmq_model *model, const struct rung *rung, const int32_t *ids,
                   const runs *plain) {
    char what[128];
    ssmq_engine *tested = load(tested_engine_api(), model, rung);
    ssmq_engine *reference = load(ssmq_engine_find("cpu"), model, rung);
    int n_wrong = 0;
    if (tested != NULL && reference != NULL) {
        const bool is_strict =
            strncmp(rung->precision, "fp32", 4) == 0 && strstr(rung->precision, "fp8") == NULL;
        runs a = run_of(tested, model, ids), b = run_of(reference, model, ids);
        (void)snprintf(what, sizeof what, "%s %s, prefill", rung->precision, rung->scope);
        n_wrong += !close_enough(&a.prefill, &b.prefill, &plain->prefill, what, is_strict);
        (void)snprintf(what, sizeof what, "%s %s, decode", rung->precision, rung->scope);
        n_wrong += !close_enough(&a.decode, &b.decode, &plain->decode, what, is_strict);
        runs_free(&a);
        runs_free(&b);
    }
    if (tested != NULL) tested->api->close(tested);
    if (reference != NULL) reference->api->close(reference);
    return n_wrong;
}

static void precisions_and_scopes(void **state) {
    int n_wrong = 0;
    (void)state;
    for (int i = 0; i < N_SHAPES; i++) {
        ssmq_model *model = cpu_fixture_model(&shapes[i]);
        int32_t *ids = cpu_fixture_ids((int64_t)B * (T + 1), model->shape.V, (uint64_t)i);
        ssmq_engine *engine = cpu_fixture_engine(model, "fp32", "all", 0);
        runs plain = run_of(engine, model, ids);
        engine->api->close(engine);
        print_message(" %s\n", shapes[i].seed);
        for (int k = 0; k < N_RUNGS; k++) n_wrong += compare(model, &rungs[k], ids, &plain);
        runs_free(&plain);
        ssmq_free(ids);
        ssmq_model_close(model);
    }
    if (n_wrong > 0) fail_msg("%d runs differ by too much", n_wrong);
}

/* 130m: in_proj of 3352 rows, of which dt are 24. */
static void published_shape(void **state) {
    static const struct rung published[] = {{"bf16:w8a8", "all"},
                                            {"bf16:w8a8", "only:in_proj.dt"},
                                            {"bf16:w4a8", "all"},
                                            {"bf16:w4a16", "all"},
                                            {"bf16:w8a8-fp8", "all"}};
    ssmq_model *model = NULL;
    ssmq_err err = {0};
    int n_wrong = 0;
    (void)state;
    assert_ok(ssmq_model_open(&model, "random:mamba2-130m", &err), &err);
    int32_t *ids = cpu_fixture_ids((int64_t)B * (T + 1), model->shape.V, 1);
    ssmq_engine *engine = cpu_fixture_engine(model, "fp32", "all", 0);
    runs plain = run_of(engine, model, ids);
    engine->api->close(engine);
    for (size_t i = 0; i < sizeof published / sizeof published[0]; i++) {
        n_wrong += compare(model, &published[i], ids, &plain);
    }
    runs_free(&plain);
    ssmq_free(ids);
    ssmq_model_close(model);
    assert_int_equal(n_wrong, 0);
}

enum { SEQ_LEN = 2048, N_SCORED = 55269, MAX_TEXT_BYTES = 1 << 24 };

static ssmq_ids demo_ids(void) {
    ssmq_ids ids = {0};
    char *text = NULL;
    size_t n_bytes = 0;
    ssmq_tokenizer *tokenizer = NULL;
    ssmq_err err = {0};
    assert_ok(ssmq_tokenizer_open(&tokenizer, "configs/demo", &err), &err);
    assert_ok(ssmq_file_read(&text, &n_bytes, "configs/demo/demo-text.txt", MAX_TEXT_BYTES, &err),
              &err);
    assert_ok(ssmq_tokenizer_encode(tokenizer, text, n_bytes, &ids, &err), &err);
    ssmq_tokenizer_close(tokenizer);
    ssmq_free(text);
    return ids;
}

static double *score_text(ssmq_engine *engine, const ssmq_ids *ids, int64_t batch_size) {
    const ssmq_protocol_spec spec = {
        .protocol = SSMQ_PROTOCOL_DISJOINT, .seq_len = SEQ_LEN, .batch_size = batch_size};
    double *nll = NULL;
    ssmq_err err = {0};
    assert_int_equal(ssmq_calloc(&nll, ids->n, sizeof *nll, NULL), SSMQ_OK);
    assert_ok(ssmq_score_text(engine, &spec, ids->ids, (int64_t)ids->n, nll, &err), &err);
    return nll;
}

/* Two engines' NLL of the same text agree if their sums do within 0.05 %; or, where rounding noise
 * flips so many codes that single tokens go apart (4-bit activations), if the difference is within
 * four standard errors of zero, from the sums of windows. */
static bool sums_agree(const double *got, const double *expected, int64_t n, const char *what) {
    const double limit = 5e-4, errors = 4.0;
    double sum = 0.0, total = 0.0, squares = 0.0, of_window = 0.0;
    const int64_t n_windows = n / SEQ_LEN;
    for (int64_t i = 0; i < n_windows * SEQ_LEN; i++) {
        if (i % SEQ_LEN == 0) of_window = 0.0;
        if (!isnan(got[i])) of_window += got[i] - expected[i];
        if (!isnan(got[i])) sum += expected[i];
        if (i % SEQ_LEN != SEQ_LEN - 1) continue;
        total += of_window;
        squares += of_window * of_window;
    }
    const double mean = total / (double)n_windows;
    const double variance = (squares / (double)n_windows - mean * mean) / (double)(n_windows - 1);
    const double error = (double)n_windows * sqrt(variance);
    print_message("  %s: %+.3f of %.3f from the CPU engine, %.1e; standard error %.1e\n", what,
                  total, sum, total / sum, error / sum);
    const double allowed = limit * sum > errors * error ? limit * sum : errors * error;
    return fabs(total) <= allowed;
}

static double *score_on(const ssmq_engine_api *api, const ssmq_model *model,
                        const struct rung *rung, const ssmq_ids *ids, int64_t batch_size) {
    ssmq_engine *engine = load(api, model, rung);
    assert_non_null(engine);
    double *nll = score_text(engine, ids, batch_size);
    engine->api->close(engine);
    return nll;
}

/* Against disjoint windows of 2048 by an independent PyTorch implementation, see
 * configs/demo/README.md, and against the CPU engine. Batches change no bit. */
static void sums_of_the_text(void **state) {
    static const struct {
        struct rung rung;
        double ppl; /* 0: nobody else has it, or it is not resolved */
        bool has_cpu;
    } texts[] = {
        {{"fp32:w8a8", "all"}, 32.0783, false},
        {{"bf16:w8a8", "all"}, 32.0915, true},
        {{"fp32:w4a8", "all"}, 33.7668, false},
        {{"bf16:w4a8", "all"}, 33.7815, true},
        {{"fp32:w4a8:channel", "all"}, 34.3213, false},
        {{"bf16:w4a8:channel", "all"}, 34.3248, false},
        {{"fp32:w4a4", "all"}, 0.0, true},
        {{"bf16:w4a4", "all"}, 45.1304, true},
        {{"bf16:w8a16", "all"}, 0.0, true},
        {{"bf16:w4a16", "all"}, 0.0, true},
        {{"bf16:w8a8-fp8", "all"}, 0.0, true},
    };
    const double limit = 5e-4;
    ssmq_ids ids = demo_ids();
    ssmq_model *model = NULL;
    ssmq_err err = {0};
    int n_wrong = 0;
    (void)state;
    tested_engine_needs_cuda();
    assert_ok(ssmq_model_open(&model, "configs/demo", &err), &err);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const struct rung *rung = &texts[i].rung;
        double *one = score_on(tested_engine_api(), model, rung, &ids, 1);
        double *five = score_on(tested_engine_api(), model, rung, &ids, 5);
        const ssmq_score sum = ssmq_score_sum(one, (int64_t)ids.n);
        const double expected = texts[i].ppl > 0.0 ? N_SCORED * log(texts[i].ppl) : sum.nll_sum;
        const double error = fabs(sum.nll_sum - expected) / expected;
        print_message("  %s: sum %.3f, ppl %.4f, %.1e from the reference\n", rung->precision,
                      sum.nll_sum, sum.ppl, error);
        assert_int_equal(sum.n_tokens, N_SCORED);
        n_wrong += !(error <= limit);
        assert_memory_equal(one, five, ids.n * sizeof *one);
        if (texts[i].has_cpu) {
            double *cpu = score_on(ssmq_engine_find("cpu"), model, rung, &ids, 5);
            n_wrong += !sums_agree(one, cpu, (int64_t)ids.n, rung->precision);
            ssmq_free(cpu);
        }
        ssmq_free(one);
        ssmq_free(five);
    }
    ssmq_ids_free(&ids);
    ssmq_model_close(model);
    assert_int_equal(n_wrong, 0);
}

static void expect_skip(ssmq_engine *engine, const ssmq_model *model, const struct rung *rung,
                        const char *text) {
    const ssmq_spec spec = cpu_fixture_spec(model, rung->precision, rung->scope);
    ssmq_err err = {0};
    assert_int_equal(engine->api->supports(engine, &model->shape, &spec, &err), SSMQ_SKIP);
    assert_string_equal(err.text, text);
}

static void what_cannot_run_says_why(void **state) {
    const struct rung head = {"w8a8", "only:lm_head"}, conv = {"w8a8", "only:conv1d"},
                      embeddings = {"w8a8", "only:embeddings"};
    ssmq_model *model = cpu_fixture_model(&shapes[0]);
    ssmq_engine *engine = NULL;
    (void)state;
    tested_engine_needs_cuda();
    engine = tested_engine_open();
    expect_skip(engine, model, &head, "the CUDA engine does not quantize lm_head");
    expect_skip(engine, model, &conv, "conv1d is not quantized: it is no matrix product");
    expect_skip(engine, model, &embeddings,
                "embeddings are not quantized: a look-up is no product");
    engine->api->close(engine);
    ssmq_model_close(model);
}

int main(int argc, char **argv) {
    static const engine_check checks[] = {
        {"precisions and scopes", precisions_and_scopes, true},
        {"published shape", published_shape, true},
        {"sums of the text", sums_of_the_text, true},
        {"what cannot run says why", what_cannot_run_says_why, true},
    };
    const int status = tested_engine_begin(argc, argv);
    if (status != 0) return status;
    return tested_engine_run("gpu_ladder", checks, sizeof checks / sizeof checks[0], NULL, 0);
}
