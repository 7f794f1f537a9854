/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stddef.h>

#include "base/mem.h"
#include "base/rng.h"
#include "trial/fidelity.h"
#include "trial/positions.h"
#include "trial/stats.h"
#include "trial/task.h"

enum { WORST_OF = 20 /* one token in so many is of the worst 5 % */ };

/* A percentile and the field it goes to. */
typedef struct level {
    double q;
    size_t offset;
} level;

#define LEVEL(q, field)                                                                            \
    { (q), offsetof(ssmq_record, field) }
static const level kl_levels[] = {
    LEVEL(0, kl_min),  LEVEL(0.1, kl_p001),  LEVEL(1, kl_p01),   LEVEL(5, kl_p05),
    LEVEL(10, kl_p10), LEVEL(50, kl_p50),    LEVEL(90, kl_p90),  LEVEL(95, kl_p95),
    LEVEL(99, kl_p99), LEVEL(99.9, kl_p999), LEVEL(100, kl_max),
};
static const level delta_p_levels[] = {
    LEVEL(0, delta_p_min),   LEVEL(0.1, delta_p_p001), LEVEL(1, delta_p_p01),
    LEVEL(5, delta_p_p05),   LEVEL(10, delta_p_p10),   LEVEL(25, delta_p_p25),
    LEVEL(50, delta_p_p50),  LEVEL(75, delta_p_p75),   LEVEL(90, delta_p_p90),
    LEVEL(95, delta_p_p95),  LEVEL(99, delta_p_p99),   LEVEL(99.9, delta_p_p999),
    LEVEL(100, delta_p_max),
};

/* Sums over the tokens of a block or of a bucket. */
typedef struct sums {
    size_t n; /* in use */
    double *kl, *nll, *delta_nll, *same_top;
    int64_t *counts;
    double *slab;
} sums;

/* Scored tokens in order of windows. */
typedef struct report {
    const trial_fidelity *result;
    int64_t n;
    double *values; /* [n_tokens] one number of each scored token */
    double *kl;     /* [n_tokens] */
    sums blocks, buckets;
    trial_positions nll, delta_nll;
} report;

static ssmq_status sums_init(sums *s, size_t n, ssmq_err *err) {
    enum { N_COLUMNS = 4 };
    SSMQ_TRY(ssmq_calloc(&s->counts, n, sizeof *s->counts, err));
    SSMQ_TRY(ssmq_calloc(&s->slab, N_COLUMNS * n, sizeof *s->slab, err));
    s->kl = s->slab;
    s->nll = s->kl + n;
    s->delta_nll = s->nll + n;
    s->same_top = s->delta_nll + n;
    return SSMQ_OK;
}

static void sums_free(sums *s) {
    ssmq_free(s->counts);
    ssmq_free(s->slab);
}

static void sums_add(sums *s, size_t at, const ssmq_divergence *token) {
    s->kl[at] += token->kl;
    s->nll[at] += token->nll;
    s->delta_nll[at] += token->nll - token->baseline_nll;
    s->same_top[at] += token->has_same_top ? 1.0 : 0.0;
    s->counts[at]++;
    if (at + 1 > s->n) s->n = at + 1;
}

/* The scored tokens' kl, blocks and buckets. */
static void sort_tokens(report *r) {
    const ssmq_protocol_spec *spec = r->result->spec;
    const int64_t n_windows = ssmq_protocol_n_windows(spec, r->result->n_tokens);
    const bool is_stream = spec->protocol == SSMQ_PROTOCOL_STREAM;
    for (int64_t i = 0; i < n_windows; i++) {
        const ssmq_window window = ssmq_protocol_window(spec, r->result->n_tokens, i);
        for (int64_t t = window.first_target; t < window.end; t++) {
            const ssmq_divergence *token = &r->result->tokens[t];
            r->kl[r->n++] = token->kl;
            const size_t block = (size_t)(is_stream ? t / spec->seq_len : i);
            const size_t bucket = trial_bucket_of(t - window.begin);
            sums_add(&r->blocks, block, token);
            sums_add(&r->buckets, bucket, token);
            trial_positions_add(&r->nll, bucket, block, token->nll);
            trial_positions_add(&r->delta_nll, bucket, block, token->nll - token->baseline_nll);
        }
    }
}

/* A number of every scored token into r->values; r->n of them. */
static void take(report *r, size_t offset) {
    const ssmq_protocol_spec *spec = r->result->spec;
    const int64_t n_windows = ssmq_protocol_n_windows(spec, r->result->n_tokens);
    int64_t n = 0;
    for (int64_t i = 0; i < n_windows; i++) {
        const ssmq_window window = ssmq_protocol_window(spec, r->result->n_tokens, i);
        for (int64_t t = window.first_target; t < window.end; t++) {
            const char *token = (const char *)&r->result->tokens[t];
            r->values[n++] = *(const double *)(const void *)(token + offset);
        }
    }
}

static double mean_of(report *r, size_t offset) {
    take(r, offset);
    return ssmq_mean(r->values, (size_t)r->n);
}

static void set_levels(ssmq_record *record, const level *levels, size_t n_levels, double *values,
                       size_t n) {
    for (size_t i = 0; i < n_levels; i++) {
        double *field = (double *)(void *)((char *)record + levels[i].offset);
        *field = ssmq_percentile(values, n, levels[i].q);
    }
}

static void report_kl(report *r, ssmq_record *record) {
    const size_t n = (size_t)r->n;
    record->kl_mean = ssmq_mean(r->kl, n);
    record->kl_sem = ssmq_ratio_sem(r->blocks.kl, r->blocks.counts, r->blocks.n);
    /* Percentiles leave the values sorted. */
    set_levels(record, kl_levels, sizeof kl_levels / sizeof kl_levels[0], r->kl, n);
    const size_t n_worst = (n + WORST_OF - 1) / WORST_OF;
    record->kl_worst5_mean = ssmq_mean(r->kl + (n - n_worst), n_worst);
    record->reverse_kl_mean = mean_of(r, offsetof(ssmq_divergence, reverse_kl));
    record->jsd_mean = mean_of(r, offsetof(ssmq_divergence, jsd));
}

static void report_delta_p(report *r, ssmq_record *record) {
    const size_t n = (size_t)r->n;
    double squares = 0.0;
    record->delta_p_mean = mean_of(r, offsetof(ssmq_divergence, delta_p));
    for (size_t i = 0; i < n; i++) squares += r->values[i] * r->values[i];
    record->delta_p_rms = sqrt(squares / (double)n);
    set_levels(record, delta_p_levels, sizeof delta_p_levels / sizeof delta_p_levels[0], r->values,
               n);
    record->top5_overlap = mean_of(r, offsetof(ssmq_divergence, top5_overlap));
}

/* Pearson correlation of the two NLLs; NaN if all of one are equal, which rounding of their mean
 * would hide. */
static double correlation(const report *r, double nll_mean, double baseline_mean) {
    const ssmq_protocol_spec *spec = r->result->spec;
    const int64_t n_windows = ssmq_protocol_n_windows(spec, r->result->n_tokens);
    double both = 0.0, squares = 0.0, baseline_squares = 0.0;
    bool has_spread = false, baseline_has_spread = false;
    const ssmq_divergence *one =
        r->result->tokens + ssmq_protocol_window(spec, r->result->n_tokens, 0).first_target;
    for (int64_t i = 0; i < n_windows; i++) {
        const ssmq_window window = ssmq_protocol_window(spec, r->result->n_tokens, i);
        for (int64_t t = window.first_target; t < window.end; t++) {
            const ssmq_divergence *token = &r->result->tokens[t];
            const double x = token->nll - nll_mean;
            const double y = token->baseline_nll - baseline_mean;
            has_spread |= token->nll != one->nll;
            baseline_has_spread |= token->baseline_nll != one->baseline_nll;
            both += x * y;
            squares += x * x;
            baseline_squares += y * y;
        }
    }
    if (!has_spread || !baseline_has_spread) return NAN;
    return both / sqrt(squares * baseline_squares);
}

static void report_nll(report *r, ssmq_record *record) {
    const sums *b = &r->blocks;
    double sum = 0.0;
    for (size_t i = 0; i < b->n; i++) sum += b->delta_nll[i];
    record->baseline_nll_mean = mean_of(r, offsetof(ssmq_divergence, baseline_nll));
    record->baseline_ppl = exp(record->baseline_nll_mean);
    record->nll_mean = mean_of(r, offsetof(ssmq_divergence, nll));
    record->nll_sum = record->nll_mean * (double)r->n;
    record->ppl = exp(record->nll_mean);
    record->nll_sem = ssmq_ratio_sem(b->nll, b->counts, b->n);
    record->delta_nll_mean = sum / (double)r->n;
    record->delta_nll_sem = ssmq_ratio_sem(b->delta_nll, b->counts, b->n);
    record->ppl_ratio = exp(record->delta_nll_mean);
    record->nll_correlation = correlation(r, record->nll_mean, record->baseline_nll_mean);
}

/* Every interval draws the same blocks. */
static void report_intervals(const report *r, ssmq_record *record) {
    const sums *b = &r->blocks;
    const ssmq_rng rng = ssmq_rng_from_text(r->result->draw);
    double n_same = 0.0;
    for (size_t i = 0; i < b->n; i++) n_same += b->same_top[i];
    record->same_top_share = n_same / (double)r->n;
    const ssmq_interval kl = ssmq_block_bootstrap(b->kl, b->counts, b->n, rng);
    const ssmq_interval delta = ssmq_block_bootstrap(b->delta_nll, b->counts, b->n, rng);
    const ssmq_interval same = ssmq_block_bootstrap(b->same_top, b->counts, b->n, rng);
    record->kl_mean_ci_low = kl.low;
    record->kl_mean_ci_high = kl.high;
    record->delta_nll_ci_low = delta.low;
    record->delta_nll_ci_high = delta.high;
    record->same_top_ci_low = same.low;
    record->same_top_ci_high = same.high;
}

/* sums / counts as a series; NaN where there is no token. */
static ssmq_status add_means(ssmq_samples *samples, const char *name, const sums *s,
                             const double *column, ssmq_err *err) {
    double *means = NULL;
    SSMQ_TRY(ssmq_calloc(&means, s->n, sizeof *means, err));
    for (size_t i = 0; i < s->n; i++) {
        means[i] = s->counts[i] > 0 ? column[i] / (double)s->counts[i] : NAN;
    }
    const ssmq_status status = trial_add_series(samples, name, means, s->n, err);
    ssmq_free(means);
    return status;
}

static ssmq_status add_counts(ssmq_samples *samples, const char *name, const sums *s,
                              ssmq_err *err) {
    double *counts = NULL;
    SSMQ_TRY(ssmq_calloc(&counts, s->n, sizeof *counts, err));
    for (size_t i = 0; i < s->n; i++) counts[i] = (double)s->counts[i];
    const ssmq_status status = trial_add_series(samples, name, counts, s->n, err);
    ssmq_free(counts);
    return status;
}

static ssmq_status add_sems(const report *r, ssmq_samples *samples, ssmq_err *err) {
    double sems[TRIAL_MAX_BUCKETS];
    SSMQ_TRY(trial_positions_sem(&r->nll, r->buckets.n, sems, err));
    SSMQ_TRY(trial_add_series(samples, "nll_bucket_sem", sems, r->buckets.n, err));
    SSMQ_TRY(trial_positions_sem(&r->delta_nll, r->buckets.n, sems, err));
    return trial_add_series(samples, "delta_nll_bucket_sem", sems, r->buckets.n, err);
}

static ssmq_status add_series(const report *r, ssmq_samples *samples, ssmq_err *err) {
    const sums *blocks = &r->blocks, *buckets = &r->buckets;
    SSMQ_TRY(add_means(samples, "nll_window", blocks, blocks->nll, err));
    SSMQ_TRY(add_counts(samples, "nll_window_tokens", blocks, err));
    SSMQ_TRY(add_means(samples, "kl_window", blocks, blocks->kl, err));
    SSMQ_TRY(add_means(samples, "delta_nll_window", blocks, blocks->delta_nll, err));
    SSMQ_TRY(add_means(samples, "nll_bucket_mean", buckets, buckets->nll, err));
    SSMQ_TRY(add_means(samples, "kl_bucket_mean", buckets, buckets->kl, err));
    SSMQ_TRY(add_means(samples, "delta_nll_bucket_mean", buckets, buckets->delta_nll, err));
    SSMQ_TRY(add_sems(r, samples, err));
    return add_counts(samples, "nll_bucket_tokens", buckets, err);
}

ssmq_status trial_report_fidelity(const trial_fidelity *result, ssmq_record *record,
                                  ssmq_samples *samples, ssmq_err *err) {
    const ssmq_protocol_spec *spec = result->spec;
    const int64_t n_tokens = result->n_tokens;
    const int64_t n_windows = ssmq_protocol_n_windows(spec, n_tokens);
    report r = {.result = result};
    if (n_windows == 0) return SSMQ_OK;
    const int64_t n_blocks = spec->protocol == SSMQ_PROTOCOL_STREAM
                                 ? (n_tokens + spec->seq_len - 1) / spec->seq_len
                                 : n_windows;
    ssmq_status status = SSMQ_OK;
    SSMQ_TRY_OR(ssmq_calloc(&r.values, (size_t)n_tokens, sizeof *r.values, err), out);
    SSMQ_TRY_OR(ssmq_calloc(&r.kl, (size_t)n_tokens, sizeof *r.kl, err), out);
    SSMQ_TRY_OR(sums_init(&r.blocks, (size_t)n_blocks, err), out);
    SSMQ_TRY_OR(sums_init(&r.buckets, TRIAL_MAX_BUCKETS, err), out);
    SSMQ_TRY_OR(trial_positions_init(&r.nll, n_tokens + 1, (size_t)n_blocks, err), out);
    SSMQ_TRY_OR(trial_positions_init(&r.delta_nll, n_tokens + 1, (size_t)n_blocks, err), out);
    sort_tokens(&r);
    record->n_tokens = r.n;
    record->n_windows = n_windows;
    report_kl(&r, record);
    report_delta_p(&r, record);
    report_nll(&r, record);
    report_intervals(&r, record);
    status = add_series(&r, samples, err);
out:
    ssmq_free(r.values);
    ssmq_free(r.kl);
    sums_free(&r.blocks);
    sums_free(&r.buckets);
    trial_positions_free(&r.nll);
    trial_positions_free(&r.delta_nll);
    return status;
}
