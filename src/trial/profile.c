/* SPDX-License-Identifier: Apache-2.0 */
/* The profile task: prefills of one length, each from a zero state and in one call, then decode
 * steps that go on from the last of them. Warm-up repeats come first in both phases and are not
 * measured. Ids are drawn at random, because time and memory do not depend on them. Peaks of memory
 * are restarted between the phases. The device's clocks are looked at after every measured call. */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "trial/peaks.h"
#include "trial/stats.h"
#include "trial/task.h"

static const double ns_per_ms = 1e6;
static const double bytes_per_mb = 1e6;

typedef struct profile {
    const trial_run *run;
    int64_t n_warmup, n_measure;
    int64_t B, T, gen_len;
    bool has_gemv;                        /* as of ssmq_engine_extent */
    int32_t *tokens;                      /* [B, T] */
    int32_t *argmax;                      /* [B, gen_len] */
    int64_t *step_ns;                     /* [gen_len] */
    double *prefill_ms, *host_prefill_ms; /* [n_measure] */
    double *decode_ms;                    /* [n_measure * gen_len] */
    double *host_decode_ms;               /* [n_measure], of one step */
    ssmq_engine_stats prefill_stats;      /* peaks over the measured prefills */
    ssmq_engine_stats decode_stats;
} profile;

static void profile_free(profile *p) {
    ssmq_free(p->tokens);
    ssmq_free(p->argmax);
    ssmq_free(p->step_ns);
    ssmq_free(p->prefill_ms);
    ssmq_free(p->host_prefill_ms);
    ssmq_free(p->decode_ms);
    ssmq_free(p->host_decode_ms);
}

static ssmq_status profile_init(profile *p, ssmq_err *err) {
    const size_t n_ids = (size_t)(p->B * p->T), n = (size_t)p->n_measure, g = (size_t)p->gen_len;
    SSMQ_TRY(ssmq_calloc(&p->tokens, n_ids, sizeof *p->tokens, err));
    SSMQ_TRY(ssmq_calloc(&p->argmax, (size_t)p->B * g, sizeof *p->argmax, err));
    SSMQ_TRY(ssmq_calloc(&p->step_ns, g, sizeof *p->step_ns, err));
    SSMQ_TRY(ssmq_calloc(&p->prefill_ms, n, sizeof *p->prefill_ms, err));
    SSMQ_TRY(ssmq_calloc(&p->host_prefill_ms, n, sizeof *p->host_prefill_ms, err));
    SSMQ_TRY(ssmq_calloc(&p->decode_ms, n * g, sizeof *p->decode_ms, err));
    SSMQ_TRY(ssmq_calloc(&p->host_decode_ms, n, sizeof *p->host_decode_ms, err));
    ssmq_rng rng = ssmq_rng_from_text(p->run->trial->draw);
    const uint64_t n_vocab = (uint64_t)p->run->inputs->model->shape.V;
    for (size_t i = 0; i < n_ids; i++) p->tokens[i] = (int32_t)ssmq_rng_below(&rng, n_vocab);
    return SSMQ_OK;
}

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static ssmq_status measure_prefills(profile *p, ssmq_err *err) {
    ssmq_engine *engine = p->run->engine;
    const int64_t segment = p->T < TRIAL_SEGMENT_TOKENS ? p->T : TRIAL_SEGMENT_TOKENS;
    const ssmq_engine_extent extent = {.n_sequences = p->B,
                                       .max_segment_tokens = segment,
                                       .is_timed = true,
                                       .has_gemv = p->has_gemv};
    const ssmq_prefill call = {.tokens = p->tokens, .n_tokens = p->T};
    for (int64_t i = -p->n_warmup; i < p->n_measure; i++) {
        ssmq_engine_stats stats;
        SSMQ_TRY(trial_check_deadline(p->run->deadline_ns, err));
        SSMQ_TRY(engine->api->reset(engine, &extent, err));
        engine->api->take_stats(engine, &stats);
        const int64_t start_ns = ssmq_now_ns();
        SSMQ_TRY(engine->api->prefill(engine, &call, err));
        const int64_t host_ns = ssmq_now_ns() - start_ns;
        engine->api->take_stats(engine, &stats);
        if (i < 0) continue;
        p->host_prefill_ms[i] = (double)host_ns / ns_per_ms;
        p->prefill_ms[i] = (double)stats.last_call_ns / ns_per_ms;
        ssmq_peaks_add(&p->prefill_stats, &stats);
    }
    return SSMQ_OK;
}

static ssmq_status measure_decodes(profile *p, ssmq_err *err) {
    ssmq_engine *engine = p->run->engine;
    const ssmq_decode call = {
        .first = p->tokens, .n_steps = p->gen_len, .argmax = p->argmax, .step_ns = p->step_ns};
    for (int64_t i = -p->n_warmup; i < p->n_measure; i++) {
        ssmq_engine_stats stats;
        SSMQ_TRY(trial_check_deadline(p->run->deadline_ns, err));
        const int64_t start_ns = ssmq_now_ns();
        SSMQ_TRY(engine->api->decode(engine, &call, err));
        const int64_t host_ns = ssmq_now_ns() - start_ns;
        engine->api->take_stats(engine, &stats);
        if (i < 0) continue;
        p->host_decode_ms[i] = (double)host_ns / ns_per_ms / (double)p->gen_len;
        for (int64_t s = 0; s < p->gen_len; s++) {
            p->decode_ms[i * p->gen_len + s] = (double)p->step_ns[s] / ns_per_ms;
        }
        ssmq_peaks_add(&p->decode_stats, &stats);
    }
    return SSMQ_OK;
}

static ssmq_status add_samples(const profile *p, ssmq_samples *samples, ssmq_err *err) {
    const size_t n = (size_t)p->n_measure;
    SSMQ_TRY(trial_add_series(samples, "prefill_ms", p->prefill_ms, n, err));
    SSMQ_TRY(trial_add_series(samples, "host_prefill_ms", p->host_prefill_ms, n, err));
    if (p->gen_len == 0) return SSMQ_OK;
    return trial_add_series(samples, "decode_ms", p->decode_ms, n * (size_t)p->gen_len, err);
}

/* A clock that did not move gives no rate. */
static double rate_of(double n_tokens, double duration_ms) {
    return duration_ms > 0 ? n_tokens / duration_ms * 1e3 : NAN;
}

static void report_device(const profile *p, ssmq_record *record) {
    ssmq_engine_stats both = p->prefill_stats;
    ssmq_peaks_add(&both, &p->decode_stats);
    record->sm_clock_mhz = both.sm_clock_mhz;
    record->memory_clock_mhz = both.memory_clock_mhz;
    record->temperature_c = both.temperature_c;
    record->throttle_reasons = both.throttle_reasons;
}

/* After add_samples(): percentiles sort the values. */
static void report(profile *p, ssmq_record *record) {
    const size_t n = (size_t)p->n_measure, n_steps = n * (size_t)p->gen_len;
    const ssmq_engine_stats *prefill = &p->prefill_stats, *decode = &p->decode_stats;
    record->prefill_ms = ssmq_percentile(p->prefill_ms, n, 50);
    record->prefill_ms_p10 = ssmq_percentile(p->prefill_ms, n, 10);
    record->prefill_ms_p90 = ssmq_percentile(p->prefill_ms, n, 90);
    record->host_prefill_ms = ssmq_percentile(p->host_prefill_ms, n, 50);
    record->prefill_tokens_per_s = rate_of((double)(p->B * p->T), record->prefill_ms);
    record->prefill_peak_mem_mb = (double)prefill->peak_bytes / bytes_per_mb;
    record->weight_mem_mb = (double)prefill->weight_bytes / bytes_per_mb;
    record->state_mem_mb = (double)prefill->state_bytes / bytes_per_mb;
    record->activation_mem_mb =
        (double)larger(prefill->activation_bytes, decode->activation_bytes) / bytes_per_mb;
    record->workspace_mem_mb =
        (double)larger(prefill->workspace_bytes, decode->workspace_bytes) / bytes_per_mb;
    report_device(p, record);
    if (p->gen_len == 0) return;
    record->decode_ms = ssmq_percentile(p->decode_ms, n_steps, 50);
    record->decode_ms_p10 = ssmq_percentile(p->decode_ms, n_steps, 10);
    record->decode_ms_p90 = ssmq_percentile(p->decode_ms, n_steps, 90);
    record->host_decode_ms = ssmq_percentile(p->host_decode_ms, n, 50);
    record->decode_tokens_per_s = rate_of((double)p->B, record->decode_ms);
    record->decode_peak_mem_mb = (double)decode->peak_bytes / bytes_per_mb;
}

ssmq_status trial_run_profile(const trial_run *run, ssmq_record *record, ssmq_samples *samples,
                              ssmq_err *err) {
    const ssmq_config_profile *settings = &run->inputs->config->profile;
    profile p = {
        .run = run,
        .n_warmup = settings->n_warmup,
        .n_measure = settings->n_measure,
        .B = run->trial->batch_size,
        .T = run->trial->context_length,
        .gen_len = run->trial->gen_len > 0 ? run->trial->gen_len : 0,
        .has_gemv = strcmp(settings->decode_products, "own") == 0,
    };
    SSMQ_CHECK(p.n_measure > 0 && p.n_warmup >= 0 && p.B > 0 && p.T > 0, err);
    ssmq_status status = SSMQ_OK;
    ssmq_peaks_init(&p.prefill_stats);
    ssmq_peaks_init(&p.decode_stats);
    SSMQ_TRY_OR(profile_init(&p, err), out);
    SSMQ_TRY_OR(measure_prefills(&p, err), out);
    if (p.gen_len > 0) SSMQ_TRY_OR(measure_decodes(&p, err), out);
    SSMQ_TRY_OR(add_samples(&p, samples, err), out);
    report(&p, record);
out:
    profile_free(&p);
    return status;
}
