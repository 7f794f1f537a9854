/* SPDX-License-Identifier: Apache-2.0 */
/* The embedded model on the embedded text: sums of NLL against those of Transformers in fp32,
 * batches, and single tokens against the CPU engine, which rounds where 16 bits are stored. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "model/tokenizer.h"
#include "support/closeness.h"
#include "support/tested_engine.h"
#include "trial/score.h"

enum { SEQ_LEN = 2048, N_SCORED = 55269, MAX_TEXT_BYTES = 1 << 24, SEEN_WINDOWS = 2 };

/* By Transformers in fp32, disjoint windows of 2048; see configs/demo/README.md. */
static const double expected_sum = 191598.705;

typedef struct demo {
    ssmq_model *model;
    ssmq_ids ids;
} demo;

static demo demo_open(void) {
    demo d = {0};
    char *text = NULL;
    size_t n_bytes = 0;
    ssmq_tokenizer *tokenizer = NULL;
    ssmq_err err = {0};
    assert_ok(ssmq_model_open(&d.model, "configs/demo", &err), &err);
    assert_ok(ssmq_tokenizer_open(&tokenizer, "configs/demo", &err), &err);
    assert_ok(ssmq_file_read(&text, &n_bytes, "configs/demo/demo-text.txt", MAX_TEXT_BYTES, &err),
              &err);
    assert_ok(ssmq_tokenizer_encode(tokenizer, text, n_bytes, &d.ids, &err), &err);
    ssmq_tokenizer_close(tokenizer);
    ssmq_free(text);
    return d;
}

static void demo_close(demo *d) {
    ssmq_ids_free(&d->ids);
    ssmq_model_close(d->model);
}

/* nll of every token of the text, in windows, batch_size of them together. */
static double *score_text(ssmq_engine *engine, const demo *d, int64_t batch_size) {
    const ssmq_protocol_spec spec = {
        .protocol = SSMQ_PROTOCOL_DISJOINT, .seq_len = SEQ_LEN, .batch_size = batch_size};
    double *nll = NULL;
    ssmq_err err = {0};
    assert_int_equal(ssmq_calloc(&nll, d->ids.n, sizeof *nll, NULL), SSMQ_OK);
    assert_ok(ssmq_score_text(engine, &spec, d->ids.ids, (int64_t)d->ids.n, nll, &err), &err);
    return nll;
}

/* fp32 within 1e-4 of the reference, 16 bits within 0.1 %; batches change no bit. */
static void sums_of_the_text(void **state) {
    static const struct {
        const char *precision;
        double limit;
    } cases[] = {{"fp32", 1e-4}, {"fp16", 1e-3}, {"bf16", 1e-3}};
    demo d = demo_open();
    (void)state;
    /* On a CPU each costs a minute. */
    const size_t n_cases = tested_engine_is_cuda() ? sizeof cases / sizeof cases[0] : 1;
    for (size_t i = 0; i < n_cases; i++) {
        ssmq_engine *engine = tested_engine_load(d.model, cases[i].precision);
        double *one = score_text(engine, &d, 1);
        double *seven = score_text(engine, &d, 7);
        const ssmq_score sum = ssmq_score_sum(one, (int64_t)d.ids.n);
        const double error = fabs(sum.nll_sum - expected_sum) / expected_sum;
        print_message("  %s: sum %.3f, ppl %.4f, %.1e from the reference\n", cases[i].precision,
                      sum.nll_sum, sum.ppl, error);
        assert_int_equal(sum.n_tokens, N_SCORED);
        if (!(error <= cases[i].limit)) fail_msg("%s: %.3g off", cases[i].precision, error);
        assert_memory_equal(one, seven, d.ids.n * sizeof *one);
        engine->api->close(engine);
        ssmq_free(one);
        ssmq_free(seven);
    }
    demo_close(&d);
}

/* Windows of SEQ_LEN ids, the last of each only a target. */
static scored score_windows(ssmq_engine *engine, const demo *d) {
    const cpu_run run = {.ids = d->ids.ids, .B = SEEN_WINDOWS, .T = SEQ_LEN - 1};
    return scored_run(engine, d->model, &run);
}

static void tokens_of_two_windows(void **state) {
    static const char *const precisions[] = {"fp32", "fp16", "bf16"};
    enum { N = SEEN_WINDOWS * (SEQ_LEN - 1) };
    demo d = demo_open();
    scored plain = {0};
    (void)state;
    for (int i = 0; i < 3; i++) {
        ssmq_engine *engine = tested_engine_load(d.model, precisions[i]);
        ssmq_engine *reference = cpu_fixture_engine(d.model, precisions[i], "all", 0);
        scored got = score_windows(engine, &d), expected = score_windows(reference, &d);
        const difference nll = difference_of(got.nll, expected.nll, N);
        const difference logits = difference_of(got.logits, expected.logits, SEEN_WINDOWS * got.V);
        yardstick unit = {0};
        if (i > 0) {
            unit.nll = difference_of(expected.nll, plain.nll, N).rms;
            unit.logit = difference_of(expected.logits, plain.logits, SEEN_WINDOWS * got.V).rms;
        }
        print_message("  %s: |NLL - NLL of the CPU engine| over %d tokens: mean %.2e, rms %.2e, "
                      "max %.2e; of 16 bits against fp32: rms %.2e\n",
                      precisions[i], N, nll.mean, nll.rms, nll.largest, unit.nll);
        assert_close(&nll, unit.nll, "NLL");
        assert_close(&logits, unit.logit, "logits");
        engine->api->close(engine);
        reference->api->close(reference);
        scored_free(&got);
        if (i == 0) plain = expected;
        if (i > 0) scored_free(&expected);
    }
    scored_free(&plain);
    demo_close(&d);
}

int main(int argc, char **argv) {
    static const engine_check checks[] = {
        {"sums of the text", sums_of_the_text, true},
        {"tokens of two windows", tokens_of_two_windows, true},
    };
    const int status = tested_engine_begin(argc, argv);
    if (status != 0) return status;
    return tested_engine_run("gpu_demo", checks, sizeof checks / sizeof checks[0], NULL, 0);
}
