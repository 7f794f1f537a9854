/* SPDX-License-Identifier: Apache-2.0 */
/* Distances of states, steps, half-lives, and room for what a drift trial finds. */
#include <math.h>

#include "base/mem.h"
#include "trial/drift.h"

drift_distance drift_distance_of(const float *state, const float *reference, int64_t n) {
    double squares = 0.0, reference_squares = 0.0, product = 0.0, difference = 0.0;
    for (int64_t i = 0; i < n; i++) {
        const double x = (double)state[i], y = (double)reference[i];
        squares += x * x;
        reference_squares += y * y;
        product += x * y;
        difference += (x - y) * (x - y);
    }
    if (squares == 0.0 && reference_squares == 0.0) return (drift_distance){0.0, 1.0, 1.0};
    return (drift_distance){
        .error = sqrt(difference / reference_squares),
        .cosine = product / sqrt(squares * reference_squares),
        .norm_ratio = sqrt(squares / reference_squares),
    };
}

int drift_steps(int64_t context_length, int64_t steps[DRIFT_MAX_STEPS]) {
    const int64_t last = context_length / DRIFT_FIRST_STEP * DRIFT_FIRST_STEP;
    int n = 0;
    if (last == 0) return 0;
    for (int64_t t = DRIFT_FIRST_STEP; t < last && n < DRIFT_MAX_STEPS - 1; t *= 2) steps[n++] = t;
    steps[n++] = last;
    return n;
}

void drift_half_life(const ssmq_model *model, int64_t layer_idx, double *out) {
    const double ln_2 = 0.69314718055994530942;
    const ssmq_shape *s = &model->shape;
    for (int64_t h = 0; h < s->H; h++) {
        float A_log = 0.0f, dt_bias = 0.0f;
        out[h] = NAN;
        /* A model that is only a shape. */
        if (model->layers == NULL) continue;
        ssmq_tensor_f32(&model->layers[layer_idx].A_log, h, 1, &A_log);
        ssmq_tensor_f32(&model->layers[layer_idx].dt_bias, h, 1, &dt_bias);
        double dt = fmax((double)dt_bias, 0.0) + log1p(exp(-fabs((double)dt_bias)));
        dt = fmin(fmax(dt, (double)s->dt_min), (double)s->dt_max);
        out[h] = ln_2 / (exp((double)A_log) * dt);
    }
}

ssmq_status drift_init(trial_drift *d, const ssmq_shape *shape, int64_t context_length, int64_t B,
                       ssmq_err *err) {
    *d = (trial_drift){.B = B, .L = shape->L, .H = shape->H};
    d->S = drift_steps(context_length, d->steps);
    const size_t n_tokens = (size_t)(d->S * B), n_layers = n_tokens * (size_t)d->L;
    const size_t n_heads = n_layers * (size_t)d->H;
    drift_distance **const of_heads[] = {&d->heads, &d->injected_heads, &d->floors};
    drift_distance **const of_layers[] = {&d->convs, &d->injected_convs, &d->conv_floors};
    double **const of_tokens[] = {&d->kl, &d->injected_kl, &d->kl_floor, &d->same_top};
    double **const counts[] = {&d->n_nonfinite, &d->n_saturated};
    for (size_t i = 0; i < 3; i++) {
        SSMQ_TRY(ssmq_calloc(of_heads[i], n_heads, sizeof **of_heads[i], err));
        SSMQ_TRY(ssmq_calloc(of_layers[i], n_layers, sizeof **of_layers[i], err));
    }
    for (size_t i = 0; i < sizeof of_tokens / sizeof of_tokens[0]; i++) {
        SSMQ_TRY(ssmq_calloc(of_tokens[i], n_tokens, sizeof **of_tokens[i], err));
    }
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        SSMQ_TRY(ssmq_calloc(counts[i], n_layers, sizeof **counts[i], err));
    }
    return ssmq_calloc(&d->half_life, (size_t)(d->L * d->H), sizeof *d->half_life, err);
}

ssmq_status drift_impulse_init(trial_drift *d, double impulse, ssmq_err *err) {
    SSMQ_CHECK(d->S >= 2 && impulse > 0.0, err);
    const int64_t last = d->steps[d->S - 1] - d->steps[d->S - 2];
    d->impulse = impulse;
    for (int64_t t = 1; t < last; t *= 2) d->impulse_steps[d->I++] = t;
    d->impulse_steps[d->I++] = last;
    return ssmq_calloc(&d->responses, (size_t)(d->I * d->B * d->L * d->H), sizeof *d->responses,
                       err);
}

double drift_impulse_half_life(const trial_drift *d, const double *responses) {
    double before = 0.0, log_before = 0.0;
    for (int64_t i = 0; i < d->I; i++) {
        const double t = (double)d->impulse_steps[i];
        if (responses[i] <= 0.5) {
            /* What has fallen to 0 gives its first look, the most that is known. */
            const double fallen = log(responses[i]) - log_before;
            return isfinite(fallen) ? before + (t - before) * (log(0.5) - log_before) / fallen : t;
        }
        before = t;
        log_before = log(responses[i]);
    }
    return NAN;
}

void drift_free(trial_drift *d) {
    void *const all[] = {d->heads,          d->injected_heads, d->floors,      d->convs,
                         d->injected_convs, d->conv_floors,    d->kl,          d->injected_kl,
                         d->kl_floor,       d->same_top,       d->n_nonfinite, d->n_saturated,
                         d->half_life,      d->responses};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) ssmq_free(all[i]);
    *d = (trial_drift){0};
}
