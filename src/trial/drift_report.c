/* SPDX-License-Identifier: Apache-2.0 */
#include <float.h>
#include <math.h>
#include <stddef.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "trial/drift.h"
#include "trial/regression.h"
#include "trial/stats.h"
#include "trial/task.h"

/* Which heads a root mean square is over: of all steps, sequences and layers those that fit. */
typedef struct where {
    int64_t step, sequence, layer; /* -1: all */
    int bin;                       /* of half-lives; -1: all */
} where;

typedef struct report {
    const trial_drift *d;
    double *values;      /* [most values of a series] */
    double *xs, *ys;     /* [S * B] points of a line */
    int *bins;           /* [L, H] bin of each head */
    double *square_sums; /* [B] */
    int64_t *counts;     /* [B] */
} report;

/* floor(log2(half-life)), half-lives under a token among those of one. */
static int bin_of(double half_life) {
    if (!(half_life >= 2.0)) return 0;
    const double bin = floor(log2(half_life));
    return bin < DRIFT_MAX_BINS - 1 ? (int)bin : DRIFT_MAX_BINS - 1;
}

static double rms_of(const report *r, const drift_distance *heads, where w) {
    const trial_drift *d = r->d;
    double squares = 0.0;
    int64_t n = 0;
    for (int64_t b = w.sequence < 0 ? 0 : w.sequence; b < d->B; b++) {
        for (int64_t i = 0; i < d->L * d->H; i++) {
            if (w.layer >= 0 && i / d->H != w.layer) continue;
            if (w.bin >= 0 && r->bins[i] != w.bin) continue;
            const double error = heads[(w.step * d->B + b) * d->L * d->H + i].error;
            squares += error * error;
            n++;
        }
        if (w.sequence >= 0) break;
    }
    return sqrt(squares / (double)n);
}

/* The line through ln error over ln t, of a layer or of all (-1); *n_points of them. */
static ssmq_line growth_of(const report *r, int64_t layer, int64_t *n_points) {
    const trial_drift *d = r->d;
    size_t n = 0;
    for (int64_t i = 0; i < d->S * d->B; i++) {
        const where w = {.step = i / d->B, .sequence = i % d->B, .layer = layer, .bin = -1};
        const double error = rms_of(r, d->heads, w);
        if (!(error > rms_of(r, d->floors, w)) || !isfinite(error)) continue;
        r->xs[n] = log((double)d->steps[w.step]);
        r->ys[n++] = log(error);
    }
    *n_points = (int64_t)n;
    return ssmq_line_fit(r->xs, r->ys, n);
}

static void report_final(const report *r, ssmq_record *record) {
    const trial_drift *d = r->d;
    where w = {.step = d->S - 1, .sequence = -1, .layer = -1, .bin = -1};
    record->drift_error_final = rms_of(r, d->heads, w);
    record->drift_injected_error_final = rms_of(r, d->injected_heads, w);
    record->drift_floor = rms_of(r, d->floors, w);
    const bool is_resolved = record->drift_error_final > record->drift_floor;
    ssmq_field_set(record->drift_verdict, sizeof record->drift_verdict,
                   is_resolved ? "resolved" : "not resolved");
    double worst = 0.0, conv_squares = 0.0;
    for (w.layer = 0; w.layer < d->L; w.layer++) {
        const double error = rms_of(r, d->heads, w);
        if (!(error > worst)) continue;
        worst = error;
        record->drift_worst_layer = w.layer;
    }
    const int64_t n_layers = d->B * d->L;
    for (int64_t i = 0; i < n_layers; i++) {
        const double error = d->convs[w.step * n_layers + i].error;
        conv_squares += error * error;
    }
    record->drift_conv_error_final = sqrt(conv_squares / (double)n_layers);
    w.layer = -1;
    for (w.sequence = 0; w.sequence < d->B; w.sequence++) {
        const double error = rms_of(r, d->heads, w);
        r->square_sums[w.sequence] = error * error;
        r->counts[w.sequence] = 1;
    }
    const ssmq_interval squares =
        ssmq_block_bootstrap(r->square_sums, r->counts, (size_t)d->B, ssmq_rng_from_text(d->draw));
    record->drift_error_final_ci_low = sqrt(squares.low);
    record->drift_error_final_ci_high = sqrt(squares.high);
}

/* Heads that are farther from the baseline than the two paths are from each other. */
static int64_t count_resolved(const trial_drift *d) {
    const int64_t n_heads = d->L * d->H, first = (d->S - 1) * d->B * n_heads;
    int64_t n = 0;
    for (int64_t i = 0; i < n_heads; i++) {
        double error = 0.0, floor = 0.0;
        for (int64_t b = 0; b < d->B; b++) {
            const int64_t at = first + b * n_heads + i;
            error += d->heads[at].error * d->heads[at].error;
            floor += d->floors[at].error * d->floors[at].error;
        }
        n += error > floor ? 1 : 0;
    }
    return n;
}

static int64_t largest_of(const double *counts, int64_t n) {
    double largest = 0.0;
    for (int64_t i = 0; i < n; i++) largest = fmax(largest, counts[i]);
    return (int64_t)largest;
}

static void report_record(const report *r, ssmq_record *record) {
    const trial_drift *d = r->d;
    const size_t n_tokens = (size_t)(d->S * d->B);
    report_final(r, record);
    const ssmq_line line = growth_of(r, -1, &record->drift_n_points);
    record->drift_exponent = line.slope;
    record->drift_exponent_ci_low = line.slope_low;
    record->drift_exponent_ci_high = line.slope_high;
    record->drift_n_heads = d->L * d->H;
    record->drift_n_resolved = count_resolved(d);
    record->drift_kl_mean = ssmq_mean(d->kl, n_tokens);
    record->drift_same_top_share = ssmq_mean(d->same_top, n_tokens);
    record->drift_n_nonfinite = largest_of(d->n_nonfinite, d->S * d->B * d->L);
    record->drift_n_saturated = largest_of(d->n_saturated, d->S * d->B * d->L);
}

static ssmq_status add_heads(const report *r, ssmq_samples *samples, ssmq_err *err) {
    const trial_drift *d = r->d;
    const size_t n_layers = (size_t)(d->S * d->B * d->L), n = n_layers * (size_t)d->H;
    const struct {
        const char *name;
        const drift_distance *from;
        size_t n, offset;
    } series[] = {
        {"drift_error", d->heads, n, offsetof(drift_distance, error)},
        {"drift_cosine", d->heads, n, offsetof(drift_distance, cosine)},
        {"drift_norm_ratio", d->heads, n, offsetof(drift_distance, norm_ratio)},
        {"drift_injected_error", d->injected_heads, n, offsetof(drift_distance, error)},
        {"drift_floor", d->floors, n, offsetof(drift_distance, error)},
        {"drift_conv_error", d->convs, n_layers, offsetof(drift_distance, error)},
        {"drift_conv_injected_error", d->injected_convs, n_layers, offsetof(drift_distance, error)},
        {"drift_conv_floor", d->conv_floors, n_layers, offsetof(drift_distance, error)},
    };
    for (size_t i = 0; i < sizeof series / sizeof series[0]; i++) {
        for (size_t k = 0; k < series[i].n; k++) {
            const char *distance = (const char *)&series[i].from[k];
            r->values[k] = *(const double *)(const void *)(distance + series[i].offset);
        }
        SSMQ_TRY(ssmq_samples_add(samples, series[i].name, r->values, series[i].n, err));
    }
    return SSMQ_OK;
}

static ssmq_status add_plain(const report *r, ssmq_samples *samples, ssmq_err *err) {
    const trial_drift *d = r->d;
    const size_t n = (size_t)(d->S * d->B), n_layers = n * (size_t)d->L;
    for (int64_t s = 0; s < d->S; s++) r->values[s] = (double)d->steps[s];
    SSMQ_TRY(ssmq_samples_add(samples, "drift_step", r->values, (size_t)d->S, err));
    SSMQ_TRY(ssmq_samples_add(samples, "drift_kl", d->kl, n, err));
    SSMQ_TRY(ssmq_samples_add(samples, "drift_injected_kl", d->injected_kl, n, err));
    SSMQ_TRY(ssmq_samples_add(samples, "drift_kl_floor", d->kl_floor, n, err));
    SSMQ_TRY(ssmq_samples_add(samples, "drift_same_top", d->same_top, n, err));
    SSMQ_TRY(ssmq_samples_add(samples, "drift_n_nonfinite", d->n_nonfinite, n_layers, err));
    SSMQ_TRY(ssmq_samples_add(samples, "drift_n_saturated", d->n_saturated, n_layers, err));
    return ssmq_samples_add(samples, "drift_half_life", d->half_life, (size_t)(d->L * d->H), err);
}

/* Root mean squares a step, and a step and layer. */
static ssmq_status add_curves(const report *r, ssmq_samples *samples, ssmq_err *err) {
    const trial_drift *d = r->d;
    const struct {
        const char *name, *layer_name;
        const drift_distance *from;
    } curves[] = {
        {"drift_error_rms", "drift_layer_error", d->heads},
        {"drift_injected_error_rms", "drift_layer_injected_error", d->injected_heads},
        {"drift_floor_rms", "drift_layer_floor", d->floors},
    };
    for (size_t i = 0; i < sizeof curves / sizeof curves[0]; i++) {
        where w = {.sequence = -1, .layer = -1, .bin = -1};
        for (w.step = 0; w.step < d->S; w.step++) {
            r->values[w.step] = rms_of(r, curves[i].from, w);
        }
        SSMQ_TRY(ssmq_samples_add(samples, curves[i].name, r->values, (size_t)d->S, err));
        for (int64_t k = 0; k < d->S * d->L; k++) {
            w.step = k / d->L;
            w.layer = k % d->L;
            r->values[k] = rms_of(r, curves[i].from, w);
        }
        SSMQ_TRY(
            ssmq_samples_add(samples, curves[i].layer_name, r->values, (size_t)(d->S * d->L), err));
    }
    return SSMQ_OK;
}

static ssmq_status add_exponents(const report *r, ssmq_samples *samples, ssmq_err *err) {
    const size_t L = (size_t)r->d->L;
    double *slopes = r->values, *lows = slopes + L, *highs = lows + L;
    for (size_t i = 0; i < L; i++) {
        int64_t unused = 0;
        const ssmq_line line = growth_of(r, (int64_t)i, &unused);
        slopes[i] = line.slope;
        lows[i] = line.slope_low;
        highs[i] = line.slope_high;
    }
    SSMQ_TRY(ssmq_samples_add(samples, "drift_layer_exponent", slopes, L, err));
    SSMQ_TRY(ssmq_samples_add(samples, "drift_layer_exponent_ci_low", lows, L, err));
    return ssmq_samples_add(samples, "drift_layer_exponent_ci_high", highs, L, err);
}

/* Bins of half-lives that have heads, and their curves. */
static ssmq_status add_bins(const report *r, ssmq_samples *samples, ssmq_err *err) {
    const trial_drift *d = r->d;
    double lows[DRIFT_MAX_BINS], n_heads[DRIFT_MAX_BINS];
    int bins[DRIFT_MAX_BINS];
    size_t n = 0;
    for (int bin = 0; bin < DRIFT_MAX_BINS; bin++) {
        int64_t n_here = 0;
        for (int64_t i = 0; i < d->L * d->H; i++) n_here += r->bins[i] == bin ? 1 : 0;
        if (n_here == 0) continue;
        bins[n] = bin;
        lows[n] = ldexp(1.0, bin);
        n_heads[n++] = (double)n_here;
    }
    SSMQ_TRY(ssmq_samples_add(samples, "drift_bin_half_life", lows, n, err));
    SSMQ_TRY(ssmq_samples_add(samples, "drift_bin_heads", n_heads, n, err));
    for (int is_floor = 0; is_floor < 2; is_floor++) {
        for (size_t k = 0; k < (size_t)d->S * n; k++) {
            const where w = {
                .step = (int64_t)(k / n), .sequence = -1, .layer = -1, .bin = bins[k % n]};
            r->values[k] = rms_of(r, is_floor ? d->floors : d->heads, w);
        }
        SSMQ_TRY(ssmq_samples_add(samples, is_floor ? "drift_bin_floor" : "drift_bin_error",
                                  r->values, (size_t)d->S * n, err));
    }
    return SSMQ_OK;
}

/* What the impulse left: of each head over sequences its half-life, then the median of those. */
static ssmq_status add_impulse(const report *r, ssmq_record *record, ssmq_samples *samples,
                               ssmq_err *err) {
    const trial_drift *d = r->d;
    const int64_t n_heads = d->L * d->H, n_looks = d->B * n_heads;
    double *steps = r->values, *response = steps + d->I, *half_lives = response + d->I;
    double squares = 0.0;
    for (int64_t i = 0; i < d->I; i++) steps[i] = (double)d->impulse_steps[i];
    SSMQ_TRY(ssmq_samples_add(samples, "drift_impulse_step", steps, (size_t)d->I, err));
    SSMQ_TRY(ssmq_samples_add(samples, "drift_impulse_response", d->responses,
                              (size_t)(d->I * n_looks), err));
    for (int64_t k = 0; k < n_heads; k++) {
        for (int64_t i = 0; i < d->I; i++) {
            double sum = 0.0;
            for (int64_t b = 0; b < d->B; b++) {
                const double x = d->responses[i * n_looks + b * n_heads + k];
                sum += x * x;
            }
            response[i] = sqrt(sum / (double)d->B);
        }
        squares += response[d->I - 1] * response[d->I - 1];
        half_lives[k] = drift_impulse_half_life(d, response);
    }
    record->drift_impulse_left = sqrt(squares / (double)n_heads);
    SSMQ_TRY(ssmq_samples_add(samples, "drift_impulse_head_half_life", half_lives, (size_t)n_heads,
                              err));
    /* Heads that do not fall to a half are longer than all others. */
    for (int64_t k = 0; k < n_heads; k++) {
        if (isnan(half_lives[k])) half_lives[k] = DBL_MAX;
    }
    const double median = ssmq_percentile(half_lives, (size_t)n_heads, 50.0);
    record->drift_impulse_half_life = median < DBL_MAX / 4.0 ? median : NAN;
    return SSMQ_OK;
}

ssmq_status trial_report_drift(const trial_drift *d, ssmq_record *record, ssmq_samples *samples,
                               ssmq_err *err) {
    report r = {.d = d};
    ssmq_status status = SSMQ_OK;
    const size_t n_heads = (size_t)(d->L * d->H), n_tokens = (size_t)(d->S * d->B);
    /* Of a step there are at most as many bins as DRIFT_MAX_BINS, of a layer three numbers. */
    const size_t n_values =
        n_tokens * n_heads + (size_t)d->S * DRIFT_MAX_BINS + 3 * (size_t)d->L + 2 * (size_t)d->I;
    SSMQ_TRY_OR(ssmq_calloc(&r.values, n_values, sizeof *r.values, err), out);
    SSMQ_TRY_OR(ssmq_calloc(&r.xs, n_tokens, sizeof *r.xs, err), out);
    SSMQ_TRY_OR(ssmq_calloc(&r.ys, n_tokens, sizeof *r.ys, err), out);
    SSMQ_TRY_OR(ssmq_calloc(&r.bins, n_heads, sizeof *r.bins, err), out);
    SSMQ_TRY_OR(ssmq_calloc(&r.square_sums, (size_t)d->B, sizeof *r.square_sums, err), out);
    SSMQ_TRY_OR(ssmq_calloc(&r.counts, (size_t)d->B, sizeof *r.counts, err), out);
    for (size_t i = 0; i < n_heads; i++) r.bins[i] = bin_of(d->half_life[i]);
    report_record(&r, record);
    SSMQ_TRY_OR(add_plain(&r, samples, err), out);
    SSMQ_TRY_OR(add_heads(&r, samples, err), out);
    SSMQ_TRY_OR(add_curves(&r, samples, err), out);
    SSMQ_TRY_OR(add_exponents(&r, samples, err), out);
    if (d->I > 0) SSMQ_TRY_OR(add_impulse(&r, record, samples, err), out);
    status = add_bins(&r, samples, err);
out:
    ssmq_free(r.values);
    ssmq_free(r.xs);
    ssmq_free(r.ys);
    ssmq_free(r.bins);
    ssmq_free(r.square_sums);
    ssmq_free(r.counts);
    return status;
}
