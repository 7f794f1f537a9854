/* SPDX-License-Identifier: Apache-2.0 */
/* trial/: every task and every status through the null engine, and passkey sums against an engine
 * that copies from its prompt, with known mistakes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/str.h"
#include "engine/null/null.h"
#include "support/copy_engine.h"
#include "support/trial_fixture.h"
#include "trial/score.h"
#include "trial/stats.h"

static ssmq_tokenizer *tokenizer;

static const double *series(const ssmq_samples *samples, const char *name, size_t n) {
    for (size_t i = 0; i < samples->n_series; i++) {
        if (strcmp(samples->series[i].name, name) != 0) continue;
        assert_int_equal(samples->series[i].n, n);
        return samples->series[i].values;
    }
    fail_msg("no series %s", name);
    return NULL;
}

static ssmq_engine *null_engine(const char *script) {
    const ssmq_engine_options options = {.script = script};
    ssmq_engine *engine = NULL;
    assert_int_equal(ssmq_engine_null.open(&engine, &options, NULL), SSMQ_OK);
    return engine;
}

/* Runs a trial on a fresh null engine; the record's status must be this. */
typedef struct run {
    fixture fixture;
    ssmq_worker worker;
    ssmq_record record;
    ssmq_samples samples;
    ssmq_err err;
} run;

static void begin(run *r, const char *script) {
    memset(r, 0, sizeof *r);
    fixture_init(&r->fixture, 100);
    r->fixture.trial_inputs.tokenizer = tokenizer;
    r->worker.engine = null_engine(script);
}

static void end(run *r) {
    ssmq_samples_free(&r->samples);
    r->worker.engine->api->close(r->worker.engine);
}

static ssmq_status go(run *r, const ssmq_trial *trial) {
    ssmq_samples_free(&r->samples);
    ssmq_err_clear(&r->err);
    return ssmq_trial_run(trial, &r->fixture.trial_inputs, &r->worker, &r->record, &r->samples,
                          &r->err);
}

static void assert_ok(const run *r) {
    assert_string_equal(r->record.status, "ok");
    assert_string_equal(r->record.status_reason, "");
}

/* Whatever happened: who the trial is stays, results are null. */
static void assert_failed(const run *r, const ssmq_trial *trial, const char *status,
                          const char *reason) {
    const ssmq_record *record = &r->record;
    assert_string_equal(record->status, status);
    assert_string_equal(record->status_reason, reason);
    assert_string_equal(record->trial_id, trial->id);
    assert_string_equal(record->trial_key, trial->key);
    assert_string_equal(record->precision, trial->precision.name);
    assert_string_equal(record->scope, trial->scope);
    assert_string_equal(record->model_sha256, "aa");
    assert_string_equal(record->notes, "a note");
    assert_int_equal(record->context_length, trial->context_length);
    assert_int_equal(record->batch_size, trial->batch_size);
    assert_int_equal(record->seed, 5);
    assert_false(isnan(record->storage_bits));
    assert_int_equal(r->samples.n_series, 0);
    for (size_t i = 0; i < ssmq_record_n_fields(); i++) {
        const ssmq_field *field = ssmq_record_field(i);
        const char *at = (const char *)record + field->offset;
        if (field->kind != SSMQ_KIND_RESULT && field->kind != SSMQ_KIND_MEASURED) continue;
        if (strncmp(field->name, "status", 6) == 0) continue;
        if (field->type == SSMQ_FIELD_STR) assert_string_equal(at, "");
        if (field->type == SSMQ_FIELD_I64) assert_true(*(const int64_t *)(const void *)at == -1);
        if (field->type == SSMQ_FIELD_F64) assert_true(isnan(*(const double *)(const void *)at));
    }
}

static void ppl_reports_its_protocol(void **state) {
    (void)state;
    run r;
    begin(&r, NULL);
    ssmq_trial trial = fixture_trial(SSMQ_TASK_PPL, "w8a8", 16);
    assert_int_equal(go(&r, &trial), SSMQ_OK);
    assert_ok(&r);
    const ssmq_record *record = &r.record;
    assert_string_equal(record->task, "ppl");
    assert_string_equal(record->protocol, "disjoint");
    assert_string_equal(record->precision, "w8a8");
    assert_string_equal(record->dtype, "bf16");
    assert_string_equal(record->w_format, "int8");
    assert_string_equal(record->text_sha256, "cc");
    assert_string_equal(record->quant_backend, "null: a hash");
    assert_int_equal(record->w_bits, 8);
    assert_int_equal(record->per_channel, 1);
    assert_int_equal(record->seq_len, 16);
    assert_int_equal(record->max_context_tokens, 16);
    assert_int_equal(record->n_windows, 6);
    assert_int_equal(record->n_tokens, 90);
    assert_true(record->runtime_s >= 0);

    double nll[100];
    const ssmq_protocol_spec spec = {
        .protocol = SSMQ_PROTOCOL_DISJOINT, .seq_len = 16, .batch_size = 1};
    assert_int_equal(ssmq_score_text(r.worker.engine, &spec, r.fixture.text, 100, nll, NULL),
                     SSMQ_OK);
    double sum = 0, means[6] = {0}, buckets[4] = {0};
    for (int t = 0; t < 96; t++) {
        if (t % 16 == 0) continue;
        sum += nll[t];
        means[t / 16] += nll[t] / 15;
        const int at = t % 16;
        if (at >= 8)
            buckets[3] += nll[t] / 48;
        else if (at >= 4)
            buckets[2] += nll[t] / 24;
        else if (at >= 2)
            buckets[1] += nll[t] / 12;
        else
            buckets[0] += nll[t] / 6;
    }
    assert_true(record->nll_sum == sum && record->nll_mean == sum / 90);
    assert_true(record->ppl == exp(sum / 90));
    assert_true(fabs(record->nll_sem - ssmq_sem(means, 6)) < 1e-12);
    const double *got = series(&r.samples, "nll_window", 6);
    for (int i = 0; i < 6; i++) assert_true(fabs(got[i] - means[i]) < 1e-12);
    got = series(&r.samples, "nll_bucket_mean", 4);
    for (int i = 0; i < 4; i++) assert_true(fabs(got[i] - buckets[i]) < 1e-12);
    got = series(&r.samples, "nll_bucket_tokens", 4);
    assert_true(got[0] == 6 && got[1] == 12 && got[2] == 24 && got[3] == 48);
    end(&r);
}

static void ppl_of_a_stream(void **state) {
    (void)state;
    run r;
    begin(&r, NULL);
    ssmq_trial trial = fixture_trial(SSMQ_TASK_PPL, "fp32", 32);
    trial.protocol = SSMQ_PROTOCOL_STREAM;
    assert_int_equal(go(&r, &trial), SSMQ_OK);
    assert_ok(&r);
    assert_int_equal(r.record.n_windows, 1);
    assert_int_equal(r.record.n_tokens, 99);
    assert_int_equal(r.record.max_context_tokens, 100);
    assert_int_equal(r.record.group_size, -1);
    assert_string_equal(r.record.compute_type, "");
    assert_true(r.record.storage_bits == 32);
    /* Pieces of 32 tokens stand for windows: 31, 32, 32 and 4 tokens. */
    assert_true(r.record.nll_sem > 0);
    (void)series(&r.samples, "nll_window", 4);
    (void)series(&r.samples, "nll_bucket_mean", 7);
    end(&r);
}

static bool results_equal(const ssmq_record *a, const ssmq_record *b) {
    for (size_t i = 0; i < ssmq_record_n_fields(); i++) {
        const ssmq_field *field = ssmq_record_field(i);
        if (field->kind != SSMQ_KIND_RESULT) continue;
        if (memcmp((const char *)a + field->offset, (const char *)b + field->offset,
                   field->bytes) != 0) {
            print_error("%s differs\n", field->name);
            return false;
        }
    }
    return true;
}

static void results_do_not_depend_on_batches(void **state) {
    (void)state;
    static const ssmq_task tasks[] = {SSMQ_TASK_PPL, SSMQ_TASK_PASSKEY};
    for (int k = 0; k < 2; k++) {
        run r;
        begin(&r, NULL);
        ssmq_trial trial = fixture_trial(tasks[k], "bf16", k == 0 ? 16 : 120);
        trial.batch_size = 1;
        assert_int_equal(go(&r, &trial), SSMQ_OK);
        assert_ok(&r);
        const ssmq_record alone = r.record;
        for (trial.batch_size = 2; trial.batch_size <= 8; trial.batch_size++) {
            assert_int_equal(go(&r, &trial), SSMQ_OK);
            assert_true(results_equal(&alone, &r.record));
        }
        end(&r);
    }
}

/* What the copying engine makes of a key, from the ids of its text. */
typedef struct expectation {
    int64_t n_ids;  /* of " K." */
    int n_mistakes; /* ids of " K" it gets wrong; each of them holds one digit */
    int rank;
} expectation;

static expectation expect(double key) {
    expectation e = {.rank = 1};
    char text[16];
    ssmq_ids ids = {0};
    const int n_bytes = snprintf(text, sizeof text, " %.0f.", key);
    assert_int_equal(n_bytes, 7);
    assert_int_equal(ssmq_tokenizer_encode(tokenizer, text, 7, &ids, NULL), SSMQ_OK);
    e.n_ids = (int64_t)ids.n;
    for (size_t i = 0; i < ids.n; i++) e.n_mistakes += ids.ids[i] == COPY_ENGINE_NINE;
    if (ids.ids[0] == COPY_ENGINE_ONE) {
        e.n_mistakes++;
        e.rank = 2;
    }
    ssmq_ids_free(&ids);
    return e;
}

static void begin_copying(run *r) {
    begin(r, NULL);
    r->worker.engine->api->close(r->worker.engine);
    r->worker.engine = copy_engine_open();
    r->fixture.config.passkey.n_trials = 10;
    const ssmq_trial trial = fixture_trial(SSMQ_TASK_PASSKEY, "fp32", 150);
    assert_int_equal(go(r, &trial), SSMQ_OK);
    assert_ok(r);
}

static void passkey_counts_what_an_engine_knows(void **state) {
    (void)state;
    run r;
    begin_copying(&r);
    const ssmq_record *record = &r.record;
    const double *key = series(&r.samples, "passkey_key", 20);
    const double *correct = series(&r.samples, "passkey_correct", 20);
    const double *digits = series(&r.samples, "passkey_digits", 20);
    const double *rank = series(&r.samples, "passkey_answer_rank", 20);
    const double *depth = series(&r.samples, "passkey_depth", 20);
    const double *control = series(&r.samples, "passkey_control", 20);
    int64_t n_correct = 0, longest = 0;
    double n_digits = 0, ranks = 0;
    for (int i = 0; i < 20; i++) {
        const expectation e = expect(key[i]);
        assert_true(depth[i] == (i < 10 ? 0.25 : 0.75));
        assert_true(correct[i] == (e.n_mistakes == 0 ? 1 : 0));
        assert_true(digits[i] == 5 - e.n_mistakes);
        assert_true(rank[i] == e.rank);
        assert_true(control[i] == 0);
        n_correct += e.n_mistakes == 0;
        n_digits += 5 - e.n_mistakes;
        ranks += e.rank;
        if (e.n_ids > longest) longest = e.n_ids;
    }
    /* The draw holds both kinds. */
    assert_in_range(n_correct, 1, 19);
    assert_true(ranks > 20);
    const ssmq_interval interval = ssmq_wilson(n_correct, 20);
    assert_int_equal(record->n_trials, 20);
    assert_int_equal(record->n_correct, n_correct);
    assert_true(record->accuracy == (double)n_correct / 20);
    assert_true(record->accuracy_ci_low == interval.low);
    assert_true(record->accuracy_ci_high == interval.high);
    assert_true(fabs(record->digit_accuracy - n_digits / 100) < 1e-15);
    assert_true(fabs(record->answer_rank_mean - ranks / 20) < 1e-15);
    assert_true(record->control_accuracy == 0);
    assert_string_equal(record->generation, "greedy");
    assert_string_equal(record->prompt_template_version, "demo-1");
    assert_int_equal(strlen(record->prompt_template_hash), 64);
    assert_int_equal(strlen(record->prompt_hash), 64);
    /* The last id of an answer is never fed. */
    assert_int_equal(record->max_context_tokens, 150 + longest - 1);
    end(&r);
}

static void passkey_nll_is_the_engines(void **state) {
    (void)state;
    run r;
    begin_copying(&r);
    const double *key = series(&r.samples, "passkey_key", 20);
    const double *nll = series(&r.samples, "passkey_answer_nll", 20);
    const double log_sum = log(exp(4) + exp(3) + 4094);
    double sum = 0;
    int64_t n_ids = 0;
    for (int i = 0; i < 20; i++) {
        const expectation e = expect(key[i]);
        const double all = log_sum - (e.rank == 1 ? 4 : 3) + 0.5 * (double)(e.n_ids - 1);
        assert_true(fabs(nll[i] - all / (double)e.n_ids) < 1e-12);
        sum += all;
        n_ids += e.n_ids;
    }
    assert_true(fabs(r.record.answer_nll_mean - sum / (double)n_ids) < 1e-12);
    end(&r);
}

static void prompts_are_the_same_for_all_precisions(void **state) {
    (void)state;
    run r;
    begin(&r, NULL);
    ssmq_trial trial = fixture_trial(SSMQ_TASK_PASSKEY, "fp32", 120);
    assert_int_equal(go(&r, &trial), SSMQ_OK);
    const ssmq_record fp32 = r.record;
    trial = fixture_trial(SSMQ_TASK_PASSKEY, "w4a4", 120);
    assert_int_equal(go(&r, &trial), SSMQ_OK);
    assert_string_equal(r.record.prompt_hash, fp32.prompt_hash);
    trial = fixture_trial(SSMQ_TASK_PASSKEY, "w4a4", 121);
    assert_int_equal(go(&r, &trial), SSMQ_OK);
    assert_string_not_equal(r.record.prompt_hash, fp32.prompt_hash);
    end(&r);
}

static void profile_keeps_every_sample(void **state) {
    (void)state;
    run r;
    begin(&r, "delay:2ms");
    ssmq_trial trial = fixture_trial(SSMQ_TASK_PROFILE, "w4a8", 64);
    assert_int_equal(go(&r, &trial), SSMQ_OK);
    assert_ok(&r);
    const ssmq_record *record = &r.record;
    double prefill[3];
    memcpy(prefill, series(&r.samples, "prefill_ms", 3), sizeof prefill);
    (void)series(&r.samples, "host_prefill_ms", 3);
    (void)series(&r.samples, "decode_ms", 12);
    assert_true(prefill[0] >= 2 && record->prefill_ms >= 2);
    assert_true(record->prefill_ms == ssmq_percentile(prefill, 3, 50));
    assert_true(record->prefill_ms_p10 == ssmq_percentile(prefill, 3, 10));
    assert_true(record->prefill_ms_p90 == ssmq_percentile(prefill, 3, 90));
    assert_true(fabs(record->prefill_tokens_per_s * record->prefill_ms / 1e3 - 128) < 1e-9);
    assert_true(record->host_prefill_ms >= record->prefill_ms);
    assert_true(record->host_decode_ms >= 0.5);
    /* The formula of the null engine's memory: 2 sequences, 2 layers of 2*8*4 + 24*3 floats. */
    assert_true(record->state_mem_mb == 2 * 2 * 4 * (64 + 72) / 1e6);
    assert_true(record->activation_mem_mb == 2 * 64 * 42 * 4 / 1e6);
    assert_true(record->prefill_peak_mem_mb == record->decode_peak_mem_mb);
    assert_true(record->weight_mem_mb > 0);
    assert_true(record->sm_clock_mhz == -1 && record->memory_clock_mhz == -1);
    assert_true(record->temperature_c == -1 && record->throttle_reasons == -1);
    assert_string_equal(record->gemm_algorithms, "");
    assert_string_equal(record->timer, "host clock");
    assert_string_equal(record->memory_source, "formula");
    assert_int_equal(record->n_warmup, 1);
    assert_int_equal(record->n_measure, 3);
    assert_int_equal(record->max_context_tokens, 64 + 4 * 4);
    assert_int_equal(record->group_size, 128);
    assert_int_equal(record->per_channel, 0);
    end(&r);
}

/* The null engine on a device that gets warmer and slower with each look. */
static struct { int n_looks, n_timed, n_untimed, n_own; } hot;

static ssmq_status reset_hot(ssmq_engine *engine, const ssmq_engine_extent *extent, ssmq_err *err) {
    hot.n_timed += extent->is_timed;
    hot.n_untimed += !extent->is_timed;
    hot.n_own += extent->has_gemv;
    return ssmq_engine_null.reset(engine, extent, err);
}

static void take_stats_hot(ssmq_engine *engine, ssmq_engine_stats *out) {
    ssmq_engine_null.take_stats(engine, out);
    const int i = hot.n_looks++;
    out->sm_clock_mhz = 1980 - 15 * i;
    /* One call of NVML fails once. */
    out->memory_clock_mhz = i == 5 ? -1 : 2619;
    out->temperature_c = 40 + i;
    out->throttle_reasons = 1 << i;
}

static void describe_hot(ssmq_engine *engine, ssmq_engine_facts *out) {
    ssmq_engine_null.describe(engine, out);
    ssmq_field_set(out->algorithms, sizeof out->algorithms,
                   hot.n_untimed > 0 ? "fixed" : "measured");
    ssmq_field_set(out->decode_products, sizeof out->decode_products, hot.n_own ? "both" : "");
}

static void begin_hot(run *r) {
    static ssmq_engine_api api;
    api = ssmq_engine_null;
    api.reset = reset_hot;
    api.take_stats = take_stats_hot;
    api.describe = describe_hot;
    memset(&hot, 0, sizeof hot);
    begin(r, NULL);
    r->worker.engine->api = &api;
}

static void profile_watches_the_device(void **state) {
    (void)state;
    run r;
    begin_hot(&r);
    ssmq_field_set(r.fixture.config.profile.decode_products, sizeof "own", "own");
    ssmq_trial trial = fixture_trial(SSMQ_TASK_PROFILE, "bf16", 16);
    assert_int_equal(go(&r, &trial), SSMQ_OK);
    assert_ok(&r);
    /* 1 + 3 prefills with two looks each, the second after the call; 1 + 3 decodes with one. */
    assert_int_equal(hot.n_looks, 12);
    assert_true(hot.n_timed == 4 && hot.n_own == 4 && hot.n_untimed == 0);
    /* Measured are the looks 3, 5, 7 and 9, 10, 11. */
    assert_int_equal(r.record.sm_clock_mhz, 1980 - 15 * 11);
    assert_int_equal(r.record.memory_clock_mhz, 2619);
    assert_int_equal(r.record.temperature_c, 40 + 11);
    assert_int_equal(r.record.throttle_reasons,
                     1 << 3 | 1 << 5 | 1 << 7 | 1 << 9 | 1 << 10 | 1 << 11);
    assert_string_equal(r.record.gemm_algorithms, "measured");
    assert_string_equal(r.record.decode_products, "both");
    end(&r);
}

/* What is to be right takes the fixed algorithms, and looks at no clock. */
static void accuracy_is_not_timed(void **state) {
    (void)state;
    static const ssmq_task tasks[] = {SSMQ_TASK_PPL, SSMQ_TASK_PASSKEY};
    for (size_t i = 0; i < sizeof tasks / sizeof tasks[0]; i++) {
        run r;
        begin_hot(&r);
        ssmq_trial trial = fixture_trial(tasks[i], "bf16", tasks[i] == SSMQ_TASK_PPL ? 16 : 120);
        assert_int_equal(go(&r, &trial), SSMQ_OK);
        assert_ok(&r);
        assert_true(hot.n_untimed > 0);
        assert_int_equal(hot.n_timed + hot.n_own, 0);
        assert_string_equal(r.record.gemm_algorithms, "fixed");
        assert_int_equal(r.record.sm_clock_mhz, -1);
        assert_int_equal(r.record.throttle_reasons, -1);
        end(&r);
    }
}

static void every_failure_has_its_record(void **state) {
    (void)state;
    static const struct {
        const char *script;
        ssmq_task task;
        int64_t context;
        const char *status, *reason;
    } cases[] = {
        {"skip@precision=w8a8", SSMQ_TASK_PPL, 16, "skipped",
         "null script: precision w8a8 is skipped"},
        {"oom@context=16", SSMQ_TASK_PPL, 16, "oom", "null script: out of memory at 16 tokens"},
        {"oom", SSMQ_TASK_PROFILE, 16, "oom", "null script: out of memory at 0 tokens"},
        {"nan@context>=10", SSMQ_TASK_PPL, 16, "nonfinite",
         "null script: NaN in layer 0 at token 16"},
        {"inf@reset=2", SSMQ_TASK_PPL, 16, "nonfinite",
         "30 of 90 scored tokens have an infinite or NaN NLL, the first at token 33"},
        {"inf", SSMQ_TASK_PASSKEY, 120, "nonfinite",
         "prompt 0: logit 0 after the prompt is not finite"},
        {"inf@context>=121", SSMQ_TASK_PASSKEY, 120, "nonfinite",
         "prompt 0: NLL of answer token 1 is not finite"},
        {"device@reset=2", SSMQ_TASK_PASSKEY, 120, "device_error", "null script: device error"},
        {NULL, SSMQ_TASK_PASSKEY, 80, "skipped",
         "a prompt of 80 tokens is too short: template demo-1 needs at least 85"},
        {NULL, SSMQ_TASK_PPL, 101, "skipped",
         "100 tokens hold no window to score: protocol disjoint, seq_len 101, stride -1, "
         "batch_size 2"},
        {NULL, SSMQ_N_TASKS, 16, "internal", "trial of an unknown task 5"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        run r;
        begin(&r, cases[i].script);
        ssmq_trial trial =
            fixture_trial(cases[i].task == SSMQ_N_TASKS ? SSMQ_TASK_PPL : cases[i].task, "w8a8",
                          cases[i].context);
        trial.task = cases[i].task == SSMQ_N_TASKS ? (ssmq_task)SSMQ_N_TASKS : trial.task;
        assert_int_equal(go(&r, &trial), SSMQ_OK);
        assert_failed(&r, &trial, cases[i].status, cases[i].reason);
        assert_false(r.worker.is_retired);
        end(&r);
    }
}

static void a_grids_skip_is_recorded_not_run(void **state) {
    (void)state;
    run r;
    begin(&r, "kill");
    ssmq_trial trial = fixture_trial(SSMQ_TASK_PPL, "w8a8", 16);
    trial.skip = "no such thing";
    assert_int_equal(go(&r, &trial), SSMQ_OK);
    assert_failed(&r, &trial, "skipped", "no such thing");
    end(&r);
}

static void a_slow_trial_times_out(void **state) {
    (void)state;
    static const ssmq_task tasks[] = {SSMQ_TASK_PPL, SSMQ_TASK_PASSKEY, SSMQ_TASK_PROFILE};
    for (int k = 0; k < 3; k++) {
        run r;
        begin(&r, "delay:15ms");
        r.fixture.config.sweep.max_trial_s = 0.01;
        ssmq_trial trial = fixture_trial(tasks[k], "fp32", 100);
        trial.context_length = k == 0 ? 16 : 100;
        assert_int_equal(go(&r, &trial), SSMQ_OK);
        assert_failed(&r, &trial, "timeout", "not finished after sweep.max_trial_s = 0.01");
        /* One slow call is no reason to retire. */
        r.fixture.config.sweep.max_trial_s = 0;
        assert_int_equal(go(&r, &trial), SSMQ_OK);
        assert_ok(&r);
        end(&r);
    }
}

static void a_lost_device_retires_its_worker(void **state) {
    (void)state;
    run r;
    begin(&r, "poison@reset=2");
    ssmq_trial trial = fixture_trial(SSMQ_TASK_PPL, "fp32", 16);
    assert_int_equal(go(&r, &trial), SSMQ_POISONED);
    assert_string_equal(r.err.text, "null script: device lost");
    assert_failed(&r, &trial, "device_lost", "null script: device lost");
    assert_true(r.worker.is_retired);
    assert_int_equal(go(&r, &trial), SSMQ_POISONED);
    assert_failed(&r, &trial, "device_lost", "the device was lost in an earlier trial");
    end(&r);
}

static void workers_go_on_after_failures(void **state) {
    (void)state;
    run r;
    begin(&r, "device@reset=1,oom@reset=2,nan@reset=3");
    ssmq_trial trial = fixture_trial(SSMQ_TASK_PPL, "fp32", 16);
    static const char *const expected[] = {"device_error", "oom", "nonfinite", "ok"};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(go(&r, &trial), SSMQ_OK);
        assert_string_equal(r.record.status, expected[i]);
    }
    end(&r);
}

static void equal_weights_are_loaded_once(void **state) {
    (void)state;
    run r;
    begin(&r, NULL);
    r.worker.engine->api->close(r.worker.engine);
    r.worker.engine = copy_engine_open();
    static const struct {
        const char *precision, *scope;
        int n_loads;
    } steps[] = {{"fp32", "none", 1},
                 {"fp32", "none", 1},
                 {"w8a8", "all", 2},
                 {"w8a8", "only:1.out_proj", 3},
                 {"w8a8", "only:1.out_proj", 3},
                 {"w4a8", "only:1.out_proj", 4},
                 {"fp32", "none", 5}};
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        ssmq_trial trial = fixture_trial(SSMQ_TASK_PASSKEY, steps[i].precision, 100);
        trial.scope = steps[i].scope;
        assert_int_equal(go(&r, &trial), SSMQ_OK);
        assert_ok(&r);
        assert_int_equal(copy_engine_n_loads(r.worker.engine), steps[i].n_loads);
    }
    end(&r);
}

static int open_demo(void **state) {
    (void)state;
    ssmq_err err = {0};
    if (ssmq_tokenizer_open(&tokenizer, "configs/demo", &err) == SSMQ_OK) return 0;
    print_error("%s\n", err.text);
    return -1;
}

static int close_demo(void **state) {
    (void)state;
    ssmq_tokenizer_close(tokenizer);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ppl_reports_its_protocol),
        cmocka_unit_test(ppl_of_a_stream),
        cmocka_unit_test(results_do_not_depend_on_batches),
        cmocka_unit_test(passkey_counts_what_an_engine_knows),
        cmocka_unit_test(passkey_nll_is_the_engines),
        cmocka_unit_test(prompts_are_the_same_for_all_precisions),
        cmocka_unit_test(profile_keeps_every_sample),
        cmocka_unit_test(profile_watches_the_device),
        cmocka_unit_test(accuracy_is_not_timed),
        cmocka_unit_test(every_failure_has_its_record),
        cmocka_unit_test(a_grids_skip_is_recorded_not_run),
        cmocka_unit_test(a_slow_trial_times_out),
        cmocka_unit_test(a_lost_device_retires_its_worker),
        cmocka_unit_test(workers_go_on_after_failures),
        cmocka_unit_test(equal_weights_are_loaded_once),
    };
    return cmocka_run_group_tests_name("trial", tests, open_demo, close_demo);
}
