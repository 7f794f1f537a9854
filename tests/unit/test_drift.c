/* SPDX-License-Identifier: Apache-2.0 */
/* Drift: a recurrence of one head against its closed form, the null check on every path, distances
 * and root mean squares against sums, lines against numpy. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "support/cpu_fixture.h"
#include "support/trial_fixture.h"
#include "trial/drift.h"
#include "trial/regression.h"
#include "trial/task.h"

static void assert_near(double got, double expected, double relative) {
    if (!(fabs(got - expected) <= relative * fabs(expected))) {
        fail_msg("%.17g is not %.17g", got, expected);
    }
}

static void line_is_numpys(void **state) {
    (void)state;
    static const double ts[] = {128, 256, 512, 1024, 2048, 4096};
    static const double errors[] = {0.011, 0.013, 0.012, 0.019, 0.022, 0.031};
    double x[6], y[6];
    for (int i = 0; i < 6; i++) {
        x[i] = log(ts[i]);
        y[i] = log(errors[i]);
    }
    /* numpy.polyfit, and its residuals with t(4) = 2.7764451051977987. */
    const ssmq_line line = ssmq_line_fit(x, y, 6);
    assert_near(line.slope, 0.2975361192273975, 1e-12);
    assert_near(line.intercept, -6.0474636866327405, 1e-12);
    assert_near(line.slope_low, 0.1645969229064971, 1e-12);
    assert_near(line.slope_high, 0.4304753155482979, 1e-12);
    const ssmq_line two = ssmq_line_fit(x, y, 2), one = ssmq_line_fit(x, y, 1);
    assert_near(two.slope, (y[1] - y[0]) / log(2.0), 1e-12);
    assert_true(isnan(two.slope_low) && isnan(one.slope) && isnan(ssmq_line_fit(x, y, 0).slope));
    const double same[] = {1, 1, 1};
    assert_true(isnan(ssmq_line_fit(same, y, 3).slope));
}

static void students_t_is_the_tables(void **state) {
    (void)state;
    static const struct {
        int64_t dof;
        double t;
    } table[] = {{1, 12.706204736174694}, {2, 4.302652729749462},   {3, 3.182446305283708},
                 {4, 2.776445105197794},  {5, 2.570581835636314},   {10, 2.228138851986275},
                 {30, 2.042272456301238}, {100, 1.983971518523552}, {100000, 1.959987708}};
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        assert_near(ssmq_student_t(table[i].dof), table[i].t, i < 8 ? 1e-13 : 1e-9);
    }
}

static void distances_by_hand(void **state) {
    (void)state;
    const float a[] = {3, 0, 4}, b[] = {3, 4, 0}, none[] = {0, 0, 0}, far[] = {INFINITY, 0, 0};
    drift_distance d = drift_distance_of(a, b, 3);
    assert_near(d.error, sqrt(32.0) / 5.0, 1e-15);
    assert_near(d.cosine, 9.0 / 25.0, 1e-15);
    assert_true(d.norm_ratio == 1.0);
    d = drift_distance_of(a, a, 3);
    assert_true(d.error == 0.0 && d.cosine == 1.0 && d.norm_ratio == 1.0);
    d = drift_distance_of(none, none, 3);
    assert_true(d.error == 0.0 && d.cosine == 1.0 && d.norm_ratio == 1.0);
    d = drift_distance_of(none, a, 3);
    assert_true(d.error == 1.0 && isnan(d.cosine) && d.norm_ratio == 0.0);
    assert_true(isinf(drift_distance_of(a, none, 3).error));
    assert_false(isfinite(drift_distance_of(far, a, 3).error));
}

static void steps_double(void **state) {
    (void)state;
    int64_t steps[DRIFT_MAX_STEPS];
    assert_int_equal(drift_steps(127, steps), 0);
    assert_int_equal(drift_steps(128, steps), 1);
    assert_int_equal(steps[0], 128);
    assert_int_equal(drift_steps(1024, steps), 4);
    assert_int_equal(steps[3], 1024);
    assert_int_equal(drift_steps(1500, steps), 5);
    assert_int_equal(steps[3], 1024);
    assert_int_equal(steps[4], 1408);
    assert_int_equal(drift_steps(16777216, steps), 18);
}

/* One layer of one head of one number: with a constant token the state is
 *     S_t = decay S_{t-1} + gain,  decay = exp(dt A),  gain = dt x B,
 * and dt alone differs: of its row (0.7, 0.32) int4 makes (0.7, 0.3). */
enum { TINY_V = 4, TINY_CONTEXT = 2048 };
static const double tiny_impulse = 0.015625;
static const double tiny_A = -0.15, tiny_dt_bias = -6.0, tiny_dt_row[2] = {0.7, 0.32};

typedef struct tiny {
    float embeddings[TINY_V][2], norm[2], in_proj[5][2], conv[3][2], dt_bias, A_log, D, gated_norm;
    float out_proj[2][1];
    ssmq_layer layer;
    ssmq_model model;
    int32_t ids[TINY_CONTEXT];
} tiny;

static ssmq_tensor tensor_of(const float *numbers, int64_t rows, int64_t columns) {
    return (ssmq_tensor){.bytes = numbers, .rows = rows, .columns = columns, .dtype = SSMQ_F32};
}

static void tiny_init(tiny *t) {
    memset(t, 0, sizeof *t);
    for (int v = 0; v < TINY_V; v++) t->embeddings[v][0] = t->embeddings[v][1] = 1.0f;
    t->norm[0] = t->norm[1] = 1.0f;
    /* z, x, B, C, dt */
    for (int i = 0; i < 4; i++) t->in_proj[i][0] = t->in_proj[i][1] = 0.5f;
    t->in_proj[4][0] = (float)tiny_dt_row[0];
    t->in_proj[4][1] = (float)tiny_dt_row[1];
    for (int i = 0; i < 3; i++) t->conv[i][1] = 1.0f; /* of the token itself alone */
    t->dt_bias = (float)tiny_dt_bias;
    t->A_log = (float)log(-tiny_A);
    t->gated_norm = 1.0f;
    t->layer = (ssmq_layer){.norm = tensor_of(t->norm, 1, 2),
                            .in_proj = tensor_of(t->in_proj[0], 5, 2),
                            .conv = tensor_of(t->conv[0], 3, 2),
                            .dt_bias = tensor_of(&t->dt_bias, 1, 1),
                            .A_log = tensor_of(&t->A_log, 1, 1),
                            .D = tensor_of(&t->D, 1, 1),
                            .gated_norm = tensor_of(&t->gated_norm, 1, 1),
                            .out_proj = tensor_of(t->out_proj[0], 2, 1)};
    t->model = (ssmq_model){.shape = {.d = 2,
                                      .di = 1,
                                      .H = 1,
                                      .P = 1,
                                      .N = 1,
                                      .G = 1,
                                      .K = 2,
                                      .L = 1,
                                      .V = TINY_V,
                                      .R = 5,
                                      .conv_dim = 3,
                                      .expand = 0.5,
                                      .eps = 1e-12f,
                                      .dt_max = INFINITY,
                                      .is_tied = true,
                                      .residual_in_fp32 = true},
                            .embeddings = tensor_of(t->embeddings[0], TINY_V, 2),
                            .lm_head = tensor_of(t->embeddings[0], TINY_V, 2),
                            .norm_f = tensor_of(t->norm, 1, 2),
                            .layers = &t->layer,
                            .name = "one head"};
}

typedef struct recurrence {
    double decay, gain;
} recurrence;

static recurrence recurrence_of(double dt_raw) {
    const double dt = log1p(exp(dt_raw + tiny_dt_bias));
    return (recurrence){.decay = exp(dt * tiny_A), .gain = dt};
}

/* After n tokens more than those that led to `begin`. */
static double goes_to(recurrence r, double begin, double n) {
    const double kept = pow(r.decay, n);
    return kept * begin + r.gain * (1.0 - kept) / (1.0 - r.decay);
}

/* A precision against a baseline. */
typedef struct pair {
    const ssmq_model *model;
    const char *baseline, *precision, *scope, *path;
    bool is_baseline_drawn, is_drawn; /* the state is in int8, rounded by draws */
} pair;

static ssmq_precision precision_of(const char *name, bool is_drawn) {
    ssmq_precision precision = fixture_precision(name);
    if (is_drawn) precision.state_format = SSMQ_FORMAT_INT8;
    precision.state_is_stochastic = is_drawn;
    return precision;
}

static ssmq_engine *engine_of(const pair *p, const char *precision, const char *scope,
                              bool is_drawn) {
    ssmq_engine *engine = cpu_fixture_engine(p->model, precision, scope, 1);
    ssmq_spec spec = cpu_fixture_spec(p->model, precision, scope);
    ssmq_err err = {0};
    spec.precision = precision_of(precision, is_drawn);
    assert_ok(engine->api->load(engine, p->model, &spec, &err), &err);
    return engine;
}

/* One trial on the CPU engine over the fixture's text; samples are the caller's to free. */
static ssmq_status run_drift(const pair *p, fixture *f, ssmq_trial *trial, ssmq_record *record,
                             ssmq_samples *samples, ssmq_err *err) {
    trial_run run = {.trial = trial, .inputs = &f->trial_inputs, .n_threads = 1};
    ssmq_field_set(f->config.drift.path, sizeof f->config.drift.path, p->path);
    trial->precision = precision_of(p->precision, p->is_drawn);
    run.baseline = engine_of(p, p->baseline, "all", p->is_baseline_drawn);
    run.engine = engine_of(p, p->precision, p->scope, p->is_drawn);
    memset(samples, 0, sizeof *samples);
    ssmq_record_init(record);
    const ssmq_status status = trial_run_drift(&run, record, samples, err);
    run.engine->api->close(run.engine);
    run.baseline->api->close(run.baseline);
    return status;
}

static double series_at(const ssmq_samples *samples, const char *name, size_t i) {
    const ssmq_series *series = ssmq_samples_get(samples, name);
    assert_non_null(series);
    assert_true(i < series->n);
    return series->values[i];
}

static void fixture_of_ids(fixture *f, const ssmq_model *model, const int32_t *ids, int64_t n) {
    fixture_init(f, 16);
    f->trial_inputs.model = model;
    f->trial_inputs.text_ids = ids;
    f->trial_inputs.n_text_ids = n;
}

/* One step before the last the state was hit: what is left of it decays as the recurrence does,
 * while the state that it is compared with goes on. */
static void expect_impulse(recurrence q, const ssmq_record *record, const ssmq_samples *samples) {
    const double begin = TINY_CONTEXT * 0.5, S_hit = goes_to(q, 0.0, begin);
    double before = 1.0, half_life = NAN;
    for (int i = 0; i <= 10; i++) {
        const double t = ldexp(1.0, i);
        const double left = pow(q.decay, t) * S_hit / goes_to(q, 0.0, begin + t);
        assert_true(series_at(samples, "drift_impulse_step", (size_t)i) == t);
        assert_near(series_at(samples, "drift_impulse_response", (size_t)i), left, 0.01);
        if (isnan(half_life) && left <= 0.5) {
            half_life = t / 2.0 * (1.0 + log(before / 0.5) / log(before / left));
        }
        before = left;
    }
    assert_int_equal(ssmq_samples_get(samples, "drift_impulse_response")->n, 11);
    assert_near(record->drift_impulse_half_life, half_life, 0.01);
    assert_near(series_at(samples, "drift_impulse_head_half_life", 0), half_life, 0.01);
    assert_near(record->drift_impulse_left, before, 0.01);
}

static void one_head_follows_its_closed_form(void **state) {
    static tiny t;
    const char *path = *state;
    const recurrence b = recurrence_of(tiny_dt_row[0] + tiny_dt_row[1]);
    const recurrence q = recurrence_of(0.7 + 0.3);
    double x[8], y[8], before = 0.0;
    fixture f;
    ssmq_record record;
    ssmq_samples samples;
    ssmq_err err = {0};
    tiny_init(&t);
    fixture_of_ids(&f, &t.model, t.ids, TINY_CONTEXT);
    f.config.drift.impulse = tiny_impulse;
    ssmq_trial trial = fixture_trial(SSMQ_TASK_DRIFT, "fp32:w4a16", TINY_CONTEXT);
    trial.batch_size = 1;
    const pair p = {&t.model, "fp32", "fp32:w4a16", "only:0.in_proj.dt", path, false, false};
    assert_ok(run_drift(&p, &f, &trial, &record, &samples, &err), &err);
    int64_t steps[DRIFT_MAX_STEPS];
    const int n = drift_steps(TINY_CONTEXT, steps);
    assert_int_equal(n, 5);
    for (int s = 0; s < n; s++) {
        const double T = (double)steps[s], stretch = T - (s > 0 ? (double)steps[s - 1] : 0.0);
        const double S_b = goes_to(b, 0.0, T), S_q = goes_to(q, 0.0, T);
        const double error = fabs(S_q / S_b - 1.0);
        const double injected = fabs(goes_to(q, before, stretch) / S_b - 1.0);
        before = S_b;
        assert_true(series_at(&samples, "drift_step", (size_t)s) == T);
        assert_near(series_at(&samples, "drift_error", (size_t)s), error, 0.01);
        assert_near(series_at(&samples, "drift_injected_error", (size_t)s), injected, 0.01);
        assert_near(series_at(&samples, "drift_norm_ratio", (size_t)s), S_q / S_b, 1e-5);
        assert_near(series_at(&samples, "drift_cosine", (size_t)s), 1.0, 1e-12);
        assert_true(series_at(&samples, "drift_conv_error", (size_t)s) == 0.0);
        assert_true(series_at(&samples, "drift_kl", (size_t)s) == 0.0);
        x[s] = log(T);
        y[s] = log(error);
    }
    const ssmq_line line = ssmq_line_fit(x, y, (size_t)n);
    assert_near(record.drift_exponent, line.slope, 0.01);
    assert_near(record.drift_exponent_ci_low, line.slope_low, 0.01);
    assert_near(record.drift_error_final, exp(y[n - 1]), 0.01);
    assert_string_equal(record.drift_verdict, "resolved");
    assert_int_equal(record.drift_n_points, n);
    assert_int_equal(record.drift_n_resolved, 1);
    assert_near(series_at(&samples, "drift_half_life", 0),
                log(2.0) / (-tiny_A * log1p(exp(tiny_dt_bias))), 1e-6);
    assert_true(series_at(&samples, "drift_bin_half_life", 0) == 1024.0);
    expect_impulse(q, &record, &samples);
    ssmq_samples_free(&samples);
}

/* Falls by a half in 3 tokens, between two looks; then what never does, and what is gone at once.
 */
static void impulse_half_lives(void **state) {
    (void)state;
    const trial_drift d = {.I = 4, .impulse_steps = {1, 2, 4, 7}};
    const double falls[] = {pow(0.5, 1.0 / 3.0), pow(0.5, 2.0 / 3.0), pow(0.5, 4.0 / 3.0), 0.2};
    const double stays[] = {1.2, 0.9, 0.6, 0.51}, gone[] = {1.0, 0.8, 0.0, 0.0};
    const double first[] = {0.25, 0.2, 0.2, 0.2};
    assert_near(drift_impulse_half_life(&d, falls), 3.0, 1e-14);
    assert_near(drift_impulse_half_life(&d, first), 0.5, 1e-14);
    assert_true(isnan(drift_impulse_half_life(&d, stays)));
    assert_true(drift_impulse_half_life(&d, gone) == 4.0);
}

/* Every distance of the baseline from itself is exactly 0, and its two paths are not the same. */
static void baseline_equals_itself(void **state) {
    static const char *const distances[] = {
        "drift_error", "drift_injected_error", "drift_conv_error",  "drift_conv_injected_error",
        "drift_kl",    "drift_injected_kl",    "drift_layer_error", "drift_bin_error"};
    static const char *const precisions[] = {"fp32", "bf16", "w8a8", "w8a8"};
    enum { CONTEXT = 320, N_IDS = 3 * CONTEXT };
    const struct checkpoint_options shape = {.d = 32, .P = 8, .N = 8, .V = 50};
    ssmq_model *model = cpu_fixture_model(&shape);
    int32_t *ids = cpu_fixture_ids(N_IDS, 50, 4);
    const char *path = *state;
    for (size_t i = 0; i < sizeof precisions / sizeof precisions[0]; i++) {
        fixture f;
        ssmq_record record;
        ssmq_samples samples;
        ssmq_err err = {0};
        fixture_of_ids(&f, model, ids, N_IDS);
        ssmq_trial trial = fixture_trial(SSMQ_TASK_DRIFT, precisions[i], CONTEXT);
        trial.batch_size = 3;
        const pair p = {model, precisions[i], precisions[i], "all", path, i == 3, i == 3};
        assert_ok(run_drift(&p, &f, &trial, &record, &samples, &err), &err);
        for (size_t k = 0; k < sizeof distances / sizeof distances[0]; k++) {
            const ssmq_series *series = ssmq_samples_get(&samples, distances[k]);
            for (size_t at = 0; at < series->n; at++) {
                if (series->values[at] != 0.0) {
                    fail_msg("%s, %s: %s is %g", path, precisions[i], distances[k],
                             series->values[at]);
                }
            }
        }
        assert_true(record.drift_error_final == 0.0 && record.drift_injected_error_final == 0.0);
        assert_true(record.drift_floor > 0.0 && record.drift_floor < 0.2);
        assert_string_equal(record.drift_verdict, "not resolved");
        assert_true(isnan(record.drift_exponent) && record.drift_same_top_share == 1.0);
        assert_int_equal(record.drift_n_resolved, 0);
        assert_int_equal(record.drift_worst_layer, -1);
        assert_int_equal(record.drift_n_points, 0);
        assert_int_equal(record.drift_n_heads, 2 * 8);
        ssmq_samples_free(&samples);
    }
    ssmq_free(ids);
    ssmq_model_close(model);
}

/* A sequence among others, and alone: pieces of the text are apart. */
static void sequences_are_apart(void **state) {
    enum { CONTEXT = 256 };
    const struct checkpoint_options shape = {.d = 32, .P = 8, .N = 8, .V = 50};
    ssmq_model *model = cpu_fixture_model(&shape);
    int32_t *ids = cpu_fixture_ids(2 * CONTEXT, 50, 5);
    ssmq_samples both, one;
    ssmq_record record;
    ssmq_err err = {0};
    fixture f;
    (void)state;
    ssmq_trial trial = fixture_trial(SSMQ_TASK_DRIFT, "w4a8", CONTEXT);
    fixture_of_ids(&f, model, ids, 2 * CONTEXT);
    trial.batch_size = 2;
    const pair p = {model, "bf16", "w4a8", "all", "prefill", false, false};
    assert_ok(run_drift(&p, &f, &trial, &record, &both, &err), &err);
    assert_true(record.drift_error_final > 0.0);
    assert_true(record.drift_error_final_ci_low < record.drift_error_final);
    assert_true(record.drift_error_final_ci_high > record.drift_error_final);
    const size_t n = 2 * 8;
    for (size_t b = 0; b < 2; b++) {
        fixture_of_ids(&f, model, ids + b * CONTEXT, CONTEXT);
        trial.batch_size = 1;
        assert_ok(run_drift(&p, &f, &trial, &record, &one, &err), &err);
        for (size_t i = 0; i < n; i++) {
            for (size_t s = 0; s < 2; s++) {
                assert_true(series_at(&both, "drift_error", (s * 2 + b) * n + i) ==
                            series_at(&one, "drift_error", s * n + i));
            }
        }
        ssmq_samples_free(&one);
    }
    ssmq_samples_free(&both);
    trial.batch_size = 3;
    err = (ssmq_err){0};
    assert_int_equal(run_drift(&p, &f, &trial, &record, &one, &err), SSMQ_CONFIG);
    assert_string_equal(err.text,
                        "256 tokens hold no 3 sequences of 256 tokens, at least 128 each");
    ssmq_free(ids);
    ssmq_model_close(model);
}

/* A state in int8 that is stored at each token is not what it is stored at each step, but its floor
 * is the baseline's. */
static void stored_state_has_the_baselines_floor(void **state) {
    enum { CONTEXT = 256 };
    const struct checkpoint_options shape = {.d = 32, .P = 8, .N = 8, .V = 50};
    ssmq_model *model = cpu_fixture_model(&shape);
    int32_t *ids = cpu_fixture_ids(CONTEXT, 50, 6);
    double floors[2];
    (void)state;
    for (int is_drawn = 0; is_drawn < 2; is_drawn++) {
        fixture f;
        ssmq_record record;
        ssmq_samples samples;
        ssmq_err err = {0};
        const pair p = {model, "fp32", "fp32", "all", "decode", false, is_drawn != 0};
        ssmq_trial trial = fixture_trial(SSMQ_TASK_DRIFT, "fp32", CONTEXT);
        fixture_of_ids(&f, model, ids, CONTEXT);
        trial.batch_size = 1;
        assert_ok(run_drift(&p, &f, &trial, &record, &samples, &err), &err);
        floors[is_drawn] = record.drift_floor;
        assert_true(is_drawn ? record.drift_error_final > 1e-3 : record.drift_error_final == 0.0);
        assert_string_equal(record.drift_verdict, is_drawn ? "resolved" : "not resolved");
        assert_int_equal(record.drift_n_points, is_drawn ? 2 : 0);
        ssmq_samples_free(&samples);
    }
    assert_true(floors[0] > 0.0 && floors[0] < 1e-5 && floors[0] == floors[1]);
    ssmq_free(ids);
    ssmq_model_close(model);
}

enum { S = 4, B = 3, L = 2, H = 5, N = S * B * L * H };

/* Random distances; a few heads of the last layer are under their floor. */
static void draw_distances(trial_drift *d) {
    ssmq_rng rng = ssmq_rng_from_seed(11);
    for (int i = 0; i < N; i++) {
        d->heads[i].error = exp(ssmq_rng_normal(&rng));
        d->injected_heads[i].error = exp(ssmq_rng_normal(&rng));
        d->floors[i].error = i % (L * H) >= 8 ? 1e3 : 1e-3 * ssmq_rng_f64(&rng);
        d->heads[i].cosine = ssmq_rng_f64(&rng);
        d->heads[i].norm_ratio = ssmq_rng_f64(&rng);
    }
    for (int i = 0; i < S * B; i++) d->kl[i] = ssmq_rng_f64(&rng);
    for (int i = 0; i < S * B * L; i++) d->convs[i].error = ssmq_rng_f64(&rng);
    for (int i = 0; i < L * H; i++) d->half_life[i] = i < 3 ? 0.5 : (i < 7 ? 5.0 : 300.0);
    d->n_saturated[7] = 9;
    d->draw = "draw";
}

/* Over all sequences, and the heads of layers layer0 to layer1. */
static double rms(const drift_distance *heads, int s, int layer0, int layer1) {
    long double squares = 0;
    int n = 0;
    for (int b = 0; b < B; b++) {
        for (int i = layer0 * H; i < (layer1 + 1) * H; i++, n++) {
            const long double e = heads[(s * B + b) * L * H + i].error;
            squares += e * e;
        }
    }
    return (double)sqrtl(squares / n);
}

static void report_is_of_the_distances(void **state) {
    (void)state;
    const ssmq_shape shape = {.L = L, .H = H};
    trial_drift d;
    ssmq_record record;
    ssmq_samples samples = {0};
    assert_int_equal(drift_init(&d, &shape, 1024, B, NULL), SSMQ_OK);
    assert_int_equal(d.S, S);
    draw_distances(&d);
    ssmq_record_init(&record);
    assert_int_equal(trial_report_drift(&d, &record, &samples, NULL), SSMQ_OK);
    assert_near(record.drift_error_final, rms(d.heads, S - 1, 0, L - 1), 1e-12);
    assert_near(record.drift_injected_error_final, rms(d.injected_heads, S - 1, 0, L - 1), 1e-12);
    assert_near(record.drift_floor, rms(d.floors, S - 1, 0, L - 1), 1e-12);
    assert_string_equal(record.drift_verdict, "not resolved");
    assert_int_equal(record.drift_n_resolved, 8);
    assert_int_equal(record.drift_n_heads, L * H);
    assert_int_equal(record.drift_n_saturated, 9);
    assert_int_equal(record.drift_n_nonfinite, 0);
    const bool second = rms(d.heads, S - 1, 1, 1) > rms(d.heads, S - 1, 0, 0);
    assert_int_equal(record.drift_worst_layer, second ? 1 : 0);
    /* All points are under the floor of the last layer; the first layer's are above. */
    assert_int_equal(record.drift_n_points, 0);
    assert_true(isnan(record.drift_exponent));
    assert_true(isnan(series_at(&samples, "drift_layer_exponent", 1)));
    double x[S * B], y[S * B], kl = 0;
    for (int i = 0; i < S * B; i++) {
        const int64_t step = d.steps[i / B];
        double squares = 0;
        for (int h = 0; h < H; h++) squares += pow(d.heads[i * L * H + h].error, 2);
        x[i] = log((double)step);
        y[i] = log(sqrt(squares / H));
        kl += d.kl[i] / (S * B);
    }
    const ssmq_line line = ssmq_line_fit(x, y, S * B);
    assert_near(series_at(&samples, "drift_layer_exponent", 0), line.slope, 1e-12);
    assert_near(series_at(&samples, "drift_layer_exponent_ci_high", 0), line.slope_high, 1e-12);
    assert_near(record.drift_kl_mean, kl, 1e-12);
    for (int s = 0; s < S; s++) {
        assert_near(series_at(&samples, "drift_error_rms", (size_t)s), rms(d.heads, s, 0, L - 1),
                    1e-12);
        for (int l = 0; l < L; l++) {
            assert_near(series_at(&samples, "drift_layer_floor", (size_t)s * L + (size_t)l),
                        rms(d.floors, s, l, l), 1e-12);
        }
    }
    assert_int_equal(ssmq_samples_get(&samples, "drift_bin_heads")->n, 3);
    assert_true(series_at(&samples, "drift_bin_half_life", 0) == 1.0);
    assert_true(series_at(&samples, "drift_bin_half_life", 1) == 4.0);
    assert_true(series_at(&samples, "drift_bin_half_life", 2) == 256.0);
    assert_true(series_at(&samples, "drift_bin_heads", 1) == 4.0);
    double squares = 0;
    for (int b = 0; b < B; b++) {
        for (int i = 0; i < 3; i++) squares += pow(d.heads[(B + b) * L * H + i].error, 2);
    }
    assert_near(series_at(&samples, "drift_bin_error", 3), sqrt(squares / (3 * B)), 1e-12);
    ssmq_samples_free(&samples);
    drift_free(&d);
}

/* Through the whole trial, on the null engine: its state depends on the tokens alone. */
static void a_trial_is_a_record(void **state) {
    (void)state;
    fixture f;
    ssmq_record record;
    ssmq_samples samples = {0};
    ssmq_err err = {0};
    fixture_init(&f, 400);
    ssmq_field_set(f.config.sweep.baseline, sizeof f.config.sweep.baseline, "bf16");
    ssmq_field_set(f.config.drift.path, sizeof f.config.drift.path, "decode");
    ssmq_worker worker = {.engine = fixture_engine(NULL, "w8a8"), .options = {.n_threads = 1}};
    ssmq_trial trial = fixture_trial(SSMQ_TASK_DRIFT, "w8a8", 200);
    assert_int_equal(ssmq_trial_run(&trial, &f.trial_inputs, &worker, &record, &samples, &err),
                     SSMQ_OK);
    assert_string_equal(record.status_reason, "");
    assert_string_equal(record.status, "ok");
    assert_string_equal(record.drift_path, "decode");
    assert_int_equal(record.max_context_tokens, 200);
    assert_true(record.drift_error_final == 0.0 && record.drift_floor == 0.0);
    assert_int_equal(ssmq_samples_get(&samples, "drift_step")->n, 1);
    assert_true(isnan(series_at(&samples, "drift_half_life", 0)));
    assert_non_null(worker.baseline);
    ssmq_samples_free(&samples);
    trial.context_length = 201;
    assert_int_equal(ssmq_trial_run(&trial, &f.trial_inputs, &worker, &record, &samples, &err),
                     SSMQ_OK);
    assert_string_equal(record.status, "skipped");
    assert_string_equal(record.status_reason,
                        "400 tokens hold no 2 sequences of 201 tokens, at least 128 each");
    ssmq_worker_end(&worker);
    worker.engine->api->close(worker.engine);
}

int main(void) {
    static char prefill[] = "prefill", decode[] = "decode";
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(line_is_numpys),
        cmocka_unit_test(students_t_is_the_tables),
        cmocka_unit_test(distances_by_hand),
        cmocka_unit_test(steps_double),
        cmocka_unit_test_prestate(one_head_follows_its_closed_form, prefill),
        cmocka_unit_test_prestate(one_head_follows_its_closed_form, decode),
        cmocka_unit_test_prestate(baseline_equals_itself, prefill),
        cmocka_unit_test_prestate(baseline_equals_itself, decode),
        cmocka_unit_test(impulse_half_lives),
        cmocka_unit_test(sequences_are_apart),
        cmocka_unit_test(stored_state_has_the_baselines_floor),
        cmocka_unit_test(report_is_of_the_distances),
        cmocka_unit_test(a_trial_is_a_record),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
