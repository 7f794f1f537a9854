/* SPDX-License-Identifier: Apache-2.0 */
/* cli/bench_run: what is called, and what comes of it, on a null engine with a scripted clock. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/bench_run.h"
#include "engine/null/null.h"
#include "support/trial_fixture.h"

enum { MS = 1000000 };

/* What the engine saw. Call i (from 1, prefills and decodes together) takes i ms; step s of it
 * takes 100 i + s ms. */
static struct {
    int n_resets, n_staged, n_prefills, n_decodes, n_calls;
    int64_t n_sequences, segment_tokens, n_tokens, first_steps, last_steps;
    bool has_stages;
    bool is_untimed; /* some reset was */
} seen;

static ssmq_status reset_seen(ssmq_engine *engine, const ssmq_engine_extent *extent,
                              ssmq_err *err) {
    seen.n_resets++;
    seen.n_staged += extent->has_stages;
    seen.has_stages = extent->has_stages;
    seen.is_untimed |= !extent->is_timed;
    seen.n_sequences = extent->n_sequences;
    seen.segment_tokens = extent->max_segment_tokens;
    return ssmq_engine_null.reset(engine, extent, err);
}

static ssmq_status prefill_seen(ssmq_engine *engine, const ssmq_prefill *call, ssmq_err *err) {
    seen.n_prefills++;
    seen.n_calls++;
    seen.n_tokens = call->n_tokens;
    assert_non_null(call->logits);
    assert_null(call->targets);
    return ssmq_engine_null.prefill(engine, call, err);
}

static ssmq_status decode_seen(ssmq_engine *engine, const ssmq_decode *call, ssmq_err *err) {
    if (seen.n_decodes++ == 0) seen.first_steps = call->n_steps;
    seen.last_steps = call->n_steps;
    seen.n_calls++;
    const ssmq_status status = ssmq_engine_null.decode(engine, call, err);
    for (int64_t s = 0; s < call->n_steps; s++) {
        call->step_ns[s] = (100 * seen.n_calls + s) * (int64_t)MS;
    }
    return status;
}

static void take_stats_seen(ssmq_engine *engine, ssmq_engine_stats *out) {
    ssmq_engine_null.take_stats(engine, out);
    out->last_call_ns = seen.n_calls * (int64_t)MS;
    out->sm_clock_mhz = 1980 - seen.n_calls;
    for (int k = 0; seen.has_stages && k < SSMQ_N_STAGES; k++) {
        out->stage_ns[k] = (int64_t)(k + 1) * seen.n_calls * MS;
    }
}

static const ssmq_engine_api *api_with_stages(bool has_stages) {
    static ssmq_engine_api api;
    api = ssmq_engine_null;
    api.reset = reset_seen;
    api.prefill = prefill_seen;
    api.decode = decode_seen;
    if (has_stages) api.take_stats = take_stats_seen;
    return &api;
}

/* A loaded runner. */
static ssmq_runner runner_with(const char *script, bool has_stages) {
    ssmq_runner runner = {0};
    const ssmq_precision bf16 = fixture_precision("bf16");
    memset(&seen, 0, sizeof seen);
    /* The model is only read. */
    runner.model = (ssmq_model *)(uintptr_t)&fixture_model;
    runner.engine = fixture_engine(script, "bf16");
    runner.api = api_with_stages(has_stages);
    runner.engine->api = runner.api;
    assert_int_equal(ssmq_spec_init(&runner.spec, &bf16, "none", &fixture_model.shape, NULL),
                     SSMQ_OK);
    return runner;
}

static void assert_near(double value, double expected) {
    if (!(fabs(value - expected) <= 1e-9 * expected)) fail_msg("%.9g is not %.9g", value, expected);
}

static void prefill_is_measured(void **state) {
    (void)state;
    const ssmq_bench_settings settings = {.n_repeat = 5, .n_steps = 4, .segment_tokens = 32};
    ssmq_runner runner = runner_with(NULL, true);
    ssmq_bench_result r;
    ssmq_err err = {0};
    assert_int_equal(ssmq_bench_prefill(&runner, &settings, 48, &r, &err), SSMQ_OK);
    assert_int_equal(seen.n_resets, 3 + 5);
    assert_int_equal(seen.n_prefills, 3 + 5);
    assert_int_equal(seen.n_decodes, 0);
    assert_int_equal(seen.n_staged, 0);
    assert_false(seen.is_untimed);
    assert_int_equal(seen.n_sequences, 1);
    assert_int_equal(seen.segment_tokens, 32);
    assert_int_equal(seen.n_tokens, 48);
    /* Calls 4 to 8 are measured. */
    assert_true(r.median_ms == 6);
    assert_near(r.p10_ms, 4.4);
    assert_near(r.p90_ms, 7.6);
    assert_near(r.tokens_per_s, 48 / 6e-3);
    assert_int_equal(r.peaks.sm_clock_mhz, 1980 - 8);
    assert_true(r.n_warmup == 3 && r.n_measure == 5 && r.status == SSMQ_OK);
    assert_true(isnan(r.staged_ms) && isnan(r.stage_ms[SSMQ_STAGE_SSD]));
    assert_true(r.work.flops > 0 && r.work.bytes > 0);
    runner.api->close(runner.engine);
}

static void decode_is_measured(void **state) {
    (void)state;
    const ssmq_bench_settings settings = {.n_repeat = 3, .n_steps = 4, .segment_tokens = 2048};
    ssmq_runner runner = runner_with(NULL, true);
    ssmq_bench_result r;
    ssmq_err err = {0};
    assert_int_equal(ssmq_bench_decode(&runner, &settings, 7, &r, &err), SSMQ_OK);
    assert_int_equal(seen.n_resets, 1);
    assert_int_equal(seen.n_prefills, 1);
    assert_int_equal(seen.n_decodes, 1 + 3);
    assert_int_equal(seen.first_steps, SSMQ_BENCH_WARMUP_STEPS);
    assert_int_equal(seen.last_steps, 4);
    assert_int_equal(seen.n_sequences, 7);
    assert_int_equal(seen.segment_tokens, SSMQ_BENCH_PROMPT_TOKENS);
    assert_false(seen.is_untimed);
    /* Calls 3, 4 and 5: steps of 300 to 303, 400 to 403 and 500 to 503 ms. */
    assert_near(r.median_ms, 401.5);
    assert_near(r.p10_ms, 301.1);
    assert_near(r.p90_ms, 501.9);
    assert_near(r.tokens_per_s, 7 / 401.5e-3);
    assert_int_equal(r.n_measure, 12);
    assert_true(r.work.flops == 0 && r.work.bytes > 0);
    runner.api->close(runner.engine);
}

static void stages_have_a_pass_of_their_own(void **state) {
    (void)state;
    const ssmq_bench_settings settings = {
        .n_repeat = 5, .n_steps = 20, .segment_tokens = 32, .has_stages = true};
    ssmq_runner runner = runner_with(NULL, true);
    ssmq_bench_result r;
    ssmq_err err = {0};
    assert_int_equal(ssmq_bench_prefill(&runner, &settings, 8, &r, &err), SSMQ_OK);
    assert_int_equal(seen.n_resets, 3 + 5 + 4);
    assert_int_equal(seen.n_staged, 4);
    /* The measured ones are calls 4 to 8 as before; of the staged calls 9 to 12 the first is not
     * counted. */
    assert_true(r.median_ms == 6);
    assert_int_equal(r.peaks.sm_clock_mhz, 1980 - 8);
    assert_near(r.staged_ms, 11);
    assert_near(r.stage_ms[SSMQ_STAGE_EMBED], 11);
    assert_near(r.stage_ms[SSMQ_STAGE_HEAD], 8 * 11);
    runner.api->close(runner.engine);

    /* Each staged pass is a prefill and a decode of 16 steps; only the latter counts, by step:
     * calls 1 and 2, then 3 to 7, and 8 to 15 of which 11, 13 and 15 count. */
    runner = runner_with(NULL, true);
    assert_int_equal(ssmq_bench_decode(&runner, &settings, 2, &r, &err), SSMQ_OK);
    assert_int_equal(seen.last_steps, 16);
    assert_int_equal(seen.n_calls, 15);
    assert_near(r.staged_ms, 13.0 / 16);
    assert_near(r.stage_ms[SSMQ_STAGE_NORM], 2 * 13.0 / 16);
    runner.api->close(runner.engine);

    /* An engine that has none. */
    runner = runner_with(NULL, false);
    assert_int_equal(ssmq_bench_prefill(&runner, &settings, 8, &r, &err), SSMQ_OK);
    assert_int_equal(seen.n_staged, 4);
    assert_true(isnan(r.staged_ms) && isnan(r.stage_ms[SSMQ_STAGE_HEAD]));
    runner.api->close(runner.engine);
}

static void failures(void **state) {
    (void)state;
    const ssmq_bench_settings settings = {.n_repeat = 2, .n_steps = 4, .segment_tokens = 32};
    static const struct {
        const char *script, *reason;
        ssmq_status status, returned;
    } cases[] = {
        {"oom@context>=40", "null script: out of memory at 40 tokens", SSMQ_NOMEM, SSMQ_OK},
        {"oom", "null script: out of memory at 0 tokens", SSMQ_NOMEM, SSMQ_OK},
        {"nan", "null script: NaN in layer 0 at token 40", SSMQ_NUMERIC, SSMQ_OK},
        {"device", "", SSMQ_DEVICE, SSMQ_DEVICE},
        {"poison", "", SSMQ_DEVICE, SSMQ_DEVICE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ssmq_runner runner = runner_with(cases[i].script, true);
        ssmq_bench_result r;
        ssmq_err err = {0};
        assert_int_equal(ssmq_bench_prefill(&runner, &settings, 40, &r, &err), cases[i].returned);
        assert_int_equal(r.status, cases[i].status);
        assert_string_equal(r.reason, cases[i].reason);
        assert_int_equal(err.status, cases[i].returned);
        assert_true(isnan(r.median_ms) && isnan(r.tokens_per_s));
        assert_int_equal(r.peaks.peak_bytes, 0);
        runner.api->close(runner.engine);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prefill_is_measured),
        cmocka_unit_test(decode_is_measured),
        cmocka_unit_test(stages_have_a_pass_of_their_own),
        cmocka_unit_test(failures),
    };
    return cmocka_run_group_tests_name("bench_run", tests, NULL, NULL);
}
