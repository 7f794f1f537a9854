/* SPDX-License-Identifier: Apache-2.0 */
/* Warm-ups come first, then every measured call is followed by a look at memory and clocks. Stages
 * are timed in a pass of their own, because that slows the whole down. */
#include "cli/bench_run.h"

#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "trial/peaks.h"
#include "trial/stats.h"

enum { STAGED_CALLS = 3, MAX_STAGED_STEPS = 16 };
static const double ns_per_ms = 1e6;

/* A measurement under way. */
typedef struct bench {
    const ssmq_runner *runner;
    const ssmq_bench_settings *settings;
    ssmq_bench_result *result;
    ssmq_engine_extent extent;
    int64_t n_steps;  /* of a decode call; 0 in prefill */
    int32_t *tokens;  /* [B, T] */
    float *logits;    /* [B, V] */
    int32_t *argmax;  /* [B, most steps of a call] */
    int64_t *step_ns; /* [most steps of a call] */
    double *ms;       /* [n_measure] */
    double *host_ms;  /* [n_repeat] */
} bench;

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static void bench_free(bench *b) {
    ssmq_free(b->tokens);
    ssmq_free(b->logits);
    ssmq_free(b->argmax);
    ssmq_free(b->step_ns);
    ssmq_free(b->ms);
    ssmq_free(b->host_ms);
}

static ssmq_status bench_init(bench *b, ssmq_err *err) {
    const ssmq_bench_result *r = b->result;
    const size_t n_ids = (size_t)(r->B * r->T), B = (size_t)r->B;
    const size_t V = (size_t)b->runner->model->shape.V;
    const size_t n_steps = (size_t)larger(b->n_steps, SSMQ_BENCH_WARMUP_STEPS);
    SSMQ_TRY(ssmq_calloc(&b->tokens, n_ids, sizeof *b->tokens, err));
    SSMQ_TRY(ssmq_calloc_aligned(&b->logits, B * V, sizeof *b->logits, err));
    SSMQ_TRY(ssmq_calloc(&b->argmax, B * n_steps, sizeof *b->argmax, err));
    SSMQ_TRY(ssmq_calloc(&b->step_ns, n_steps, sizeof *b->step_ns, err));
    SSMQ_TRY(ssmq_calloc(&b->ms, (size_t)r->n_measure, sizeof *b->ms, err));
    SSMQ_TRY(ssmq_calloc(&b->host_ms, (size_t)b->settings->n_repeat, sizeof *b->host_ms, err));
    ssmq_rng rng = ssmq_rng_from_seed(1);
    for (size_t i = 0; i < n_ids; i++) b->tokens[i] = (int32_t)ssmq_rng_below(&rng, V);
    return SSMQ_OK;
}

static ssmq_status reset(const bench *b, bool has_stages, ssmq_err *err) {
    ssmq_engine_extent extent = b->extent;
    extent.has_stages = has_stages;
    return b->runner->engine->api->reset(b->runner->engine, &extent, err);
}

static ssmq_status prefill(const bench *b, ssmq_err *err) {
    const ssmq_prefill call = {.tokens = b->tokens, .n_tokens = b->result->T, .logits = b->logits};
    return b->runner->engine->api->prefill(b->runner->engine, &call, err);
}

static ssmq_status decode(const bench *b, int64_t n_steps, ssmq_err *err) {
    const ssmq_decode call = {
        .first = b->tokens, .n_steps = n_steps, .argmax = b->argmax, .step_ns = b->step_ns};
    return b->runner->engine->api->decode(b->runner->engine, &call, err);
}

/* One measured call and what it took; restarts the peaks before it. */
static ssmq_status measure(const bench *b, ssmq_engine_stats *stats, int64_t *host_ns,
                           ssmq_err *err) {
    ssmq_engine *engine = b->runner->engine;
    if (b->n_steps == 0) SSMQ_TRY(reset(b, false, err));
    engine->api->take_stats(engine, stats);
    const int64_t start_ns = ssmq_now_ns();
    SSMQ_TRY(b->n_steps == 0 ? prefill(b, err) : decode(b, b->n_steps, err));
    *host_ns = ssmq_now_ns() - start_ns;
    engine->api->take_stats(engine, stats);
    return SSMQ_OK;
}

static ssmq_status warm_up(const bench *b, ssmq_err *err) {
    SSMQ_TRY(reset(b, false, err));
    SSMQ_TRY(prefill(b, err));
    if (b->n_steps > 0) return decode(b, SSMQ_BENCH_WARMUP_STEPS, err);
    for (int64_t i = 1; i < SSMQ_BENCH_WARMUP_PREFILLS; i++) {
        SSMQ_TRY(reset(b, false, err));
        SSMQ_TRY(prefill(b, err));
    }
    return SSMQ_OK;
}

static ssmq_status measure_all(bench *b, ssmq_err *err) {
    SSMQ_TRY(warm_up(b, err));
    for (int64_t i = 0; i < b->settings->n_repeat; i++) {
        ssmq_engine_stats stats;
        int64_t host_ns = 0;
        SSMQ_TRY(measure(b, &stats, &host_ns, err));
        b->host_ms[i] = (double)host_ns / ns_per_ms / (double)larger(b->n_steps, 1);
        if (b->n_steps == 0) b->ms[i] = (double)stats.last_call_ns / ns_per_ms;
        for (int64_t s = 0; s < b->n_steps; s++) {
            b->ms[i * b->n_steps + s] = (double)b->step_ns[s] / ns_per_ms;
        }
        ssmq_peaks_add(&b->result->peaks, &stats);
    }
    return SSMQ_OK;
}

/* Medians over a few calls; decode's are divided by its steps. */
static ssmq_status measure_stages(bench *b, ssmq_err *err) {
    ssmq_engine *engine = b->runner->engine;
    double ms[SSMQ_N_STAGES][STAGED_CALLS], whole_ms[STAGED_CALLS];
    const int64_t n_steps = smaller(b->n_steps, MAX_STAGED_STEPS);
    int64_t sum_ns = 0;
    /* The first call is not counted. */
    for (int64_t i = -1; i < STAGED_CALLS; i++) {
        ssmq_engine_stats stats;
        SSMQ_TRY(reset(b, true, err));
        SSMQ_TRY(prefill(b, err));
        if (n_steps > 0) SSMQ_TRY(decode(b, n_steps, err));
        engine->api->take_stats(engine, &stats);
        if (i < 0) continue;
        const double scale = 1.0 / ns_per_ms / (double)larger(n_steps, 1);
        whole_ms[i] = (double)stats.last_call_ns * scale;
        for (int k = 0; k < SSMQ_N_STAGES; k++) {
            ms[k][i] = (double)stats.stage_ns[k] * scale;
            sum_ns += stats.stage_ns[k];
        }
    }
    if (sum_ns == 0) return SSMQ_OK; /* an engine without stages */
    b->result->staged_ms = ssmq_percentile(whole_ms, STAGED_CALLS, 50);
    for (int k = 0; k < SSMQ_N_STAGES; k++) {
        b->result->stage_ms[k] = ssmq_percentile(ms[k], STAGED_CALLS, 50);
    }
    return SSMQ_OK;
}

static void report(bench *b) {
    ssmq_bench_result *r = b->result;
    ssmq_engine *engine = b->runner->engine;
    const size_t n = (size_t)r->n_measure;
    ssmq_engine_facts facts;
    r->median_ms = ssmq_percentile(b->ms, n, 50);
    r->p10_ms = ssmq_percentile(b->ms, n, 10);
    r->p90_ms = ssmq_percentile(b->ms, n, 90);
    r->host_ms = ssmq_percentile(b->host_ms, (size_t)b->settings->n_repeat, 50);
    const int64_t n_tokens = r->is_decode ? r->B : r->B * r->T;
    if (r->median_ms > 0) r->tokens_per_s = (double)n_tokens / r->median_ms * 1e3;
    memset(&facts, 0, sizeof facts);
    engine->api->describe(engine, &facts);
    ssmq_field_set(r->algorithms, sizeof r->algorithms, facts.algorithms);
    if (!r->is_decode) return;
    ssmq_field_set(r->decode_products, sizeof r->decode_products, facts.decode_products);
}

static void result_init(ssmq_bench_result *out, bool is_decode, int64_t B, int64_t T) {
    memset(out, 0, sizeof *out);
    out->is_decode = is_decode;
    out->B = B;
    out->T = T;
    out->median_ms = out->p10_ms = out->p90_ms = out->host_ms = NAN;
    out->tokens_per_s = out->floor_ms = out->staged_ms = NAN;
    for (int k = 0; k < SSMQ_N_STAGES; k++) out->stage_ms[k] = NAN;
    ssmq_peaks_init(&out->peaks);
}

/* What one size cannot do, others may. */
static ssmq_status outcome(ssmq_bench_result *out, ssmq_status status, const ssmq_runner *runner,
                           ssmq_err *err) {
    out->status = status;
    if (status == SSMQ_OK) return SSMQ_OK;
    if (!runner->api->alive(runner->engine)) return status;
    if (status != SSMQ_NOMEM && status != SSMQ_SKIP && status != SSMQ_NUMERIC) return status;
    ssmq_field_set(out->reason, sizeof out->reason, err->text);
    ssmq_err_clear(err);
    return SSMQ_OK;
}

static ssmq_status run(bench *b, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    SSMQ_TRY_OR(bench_init(b, err), out);
    SSMQ_TRY_OR(measure_all(b, err), out);
    report(b);
    if (b->settings->has_stages) SSMQ_TRY_OR(measure_stages(b, err), out);
out:
    bench_free(b);
    return outcome(b->result, status, b->runner, err);
}

ssmq_status ssmq_bench_prefill(const ssmq_runner *runner, const ssmq_bench_settings *settings,
                               int64_t T, ssmq_bench_result *out, ssmq_err *err) {
    result_init(out, false, 1, T);
    out->n_warmup = SSMQ_BENCH_WARMUP_PREFILLS;
    out->n_measure = settings->n_repeat;
    out->work = ssmq_bench_prefill_work(&runner->model->shape, &runner->spec, 1, T);
    bench b = {
        .runner = runner,
        .settings = settings,
        .result = out,
        .extent = {.n_sequences = 1,
                   .max_segment_tokens = smaller(T, settings->segment_tokens),
                   .is_timed = true},
    };
    return run(&b, err);
}

ssmq_status ssmq_bench_decode(const ssmq_runner *runner, const ssmq_bench_settings *settings,
                              int64_t B, ssmq_bench_result *out, ssmq_err *err) {
    result_init(out, true, B, SSMQ_BENCH_PROMPT_TOKENS);
    out->n_warmup = SSMQ_BENCH_WARMUP_STEPS;
    out->n_measure = settings->n_repeat * settings->n_steps;
    out->work = ssmq_bench_decode_work(&runner->model->shape, &runner->spec, B);
    bench b = {
        .runner = runner,
        .settings = settings,
        .result = out,
        .extent = {.n_sequences = B,
                   .max_segment_tokens = smaller(out->T, settings->segment_tokens),
                   .is_timed = true,
                   .has_gemv = settings->has_gemv},
        .n_steps = settings->n_steps,
    };
    return run(&b, err);
}
