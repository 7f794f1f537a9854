/* SPDX-License-Identifier: Apache-2.0 */
/* The drift task: the baseline runs free, and beside it, from step to step, the trial's model in
 * three states that take turns on its one handle:
 *
 *     accumulated  running free by the same path as the baseline (prefill or decode)
 *     other        running free by the other path
 *     injected     beginning at each step as the baseline's state
 *
 * Two distributions of the next token are compared at each step, where logits are there anyway. An
 * impulse, if one is asked for, runs on the same handle before the last step. */
#include "trial/drift.h"

#include <float.h>
#include <math.h>

#include "base/cores.h"
#include "base/mem.h"
#include "base/rng.h"
#include "trial/divergence.h"
#include "trial/task.h"

/* Tokens of one decode call, between two looks at the deadline. */
enum { DECODE_TOKENS = 512 };

/* A state of all layers, as engines give it. */
typedef struct state {
    float *ssm;  /* [L, B, H, P, N] */
    float *conv; /* [L, B, K-1, conv_dim] */
} state;

typedef struct race {
    const trial_run *run;
    const ssmq_shape *shape;
    trial_drift found;
    bool is_decode;          /* the path that errors are measured on */
    bool has_baseline_floor; /* `other` is of the baseline, on its handle */
    int n_threads;
    int64_t stride; /* tokens of the text that a sequence has to itself */
    double largest; /* finite number of the state's type */
    state baseline, baseline_before, accumulated, other, injected;
    float *baseline_logits, *logits, *other_logits; /* [B, V] */
    int32_t *first, *forced, *argmax;               /* [B]; [B, most tokens of a call] twice */
} race;

static int64_t smaller(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static ssmq_status state_init(state *s, const ssmq_shape *shape, int64_t B, ssmq_err *err) {
    const int64_t n_ssm = shape->L * B * shape->H * shape->P * shape->N;
    const int64_t n_conv = shape->L * B * (shape->K - 1) * shape->conv_dim;
    SSMQ_TRY(ssmq_calloc(&s->ssm, (size_t)n_ssm, sizeof *s->ssm, err));
    return ssmq_calloc(&s->conv, (size_t)n_conv, sizeof *s->conv, err);
}

static void state_free(state *s) {
    ssmq_free(s->ssm);
    ssmq_free(s->conv);
}

static void layer_of(const race *r, const state *s, int64_t layer_idx, float **ssm, float **conv) {
    const ssmq_shape *shape = r->shape;
    *ssm = s->ssm + layer_idx * r->found.B * shape->H * shape->P * shape->N;
    *conv = s->conv + layer_idx * r->found.B * (shape->K - 1) * shape->conv_dim;
}

static ssmq_status read_state(const race *r, ssmq_engine *engine, state *out, ssmq_err *err) {
    for (int64_t i = 0; i < r->shape->L; i++) {
        float *ssm, *conv;
        layer_of(r, out, i, &ssm, &conv);
        SSMQ_TRY(engine->api->read_state(engine, i, ssm, conv, err));
    }
    return SSMQ_OK;
}

static ssmq_status write_state(const race *r, ssmq_engine *engine, int64_t position, const state *s,
                               ssmq_err *err) {
    for (int64_t i = 0; i < r->shape->L; i++) {
        float *ssm, *conv;
        layer_of(r, s, i, &ssm, &conv);
        SSMQ_TRY(engine->api->write_state(engine, i, position, ssm, conv, err));
    }
    return SSMQ_OK;
}

/* Id of token t of sequence b; the last of the text for what lies behind it, which is fed to nobody
 * but must be an id. */
static int32_t id_of(const race *r, int64_t b, int64_t t) {
    const ssmq_trial_inputs *inputs = r->run->inputs;
    return inputs->text_ids[smaller(b * r->stride + t, inputs->n_text_ids - 1)];
}

/* n tokens of every sequence from `from` on, in one call. */
static ssmq_status feed(race *r, ssmq_engine *engine, bool is_decode, int64_t from, int64_t n,
                        float *logits, ssmq_err *err) {
    const int64_t B = r->found.B;
    SSMQ_TRY(trial_check_deadline(r->run->deadline_ns, err));
    for (int64_t i = 0; i < B * n; i++) {
        r->forced[i] = id_of(r, i / n, from + i % n + (is_decode ? 1 : 0));
    }
    if (!is_decode) {
        const ssmq_prefill call = {.tokens = r->forced, .n_tokens = n, .logits = logits};
        return engine->api->prefill(engine, &call, err);
    }
    for (int64_t b = 0; b < B; b++) r->first[b] = id_of(r, b, from);
    const ssmq_decode call = {.first = r->first,
                              .n_steps = n,
                              .forced = r->forced,
                              .argmax = r->argmax,
                              .logits = logits};
    return engine->api->decode(engine, &call, err);
}

/* Tokens `from` to `to` of every sequence. */
typedef struct stretch {
    int64_t from, to;
} stretch;

/* The tokens of a stretch, from one state to another. */
static ssmq_status advance_over(race *r, ssmq_engine *engine, const state *begin, bool is_decode,
                                stretch tokens, float *logits, state *out, ssmq_err *err) {
    const int64_t most = is_decode ? DECODE_TOKENS : TRIAL_SEGMENT_TOKENS;
    const int64_t from = tokens.from, to = tokens.to;
    SSMQ_TRY(write_state(r, engine, from, begin, err));
    for (int64_t t = from; t < to; t += most) {
        SSMQ_TRY(feed(r, engine, is_decode, t, smaller(most, to - t), logits, err));
    }
    return read_state(r, engine, out, err);
}

/* The tokens of step s. */
static ssmq_status advance(race *r, ssmq_engine *engine, const state *begin, bool is_decode,
                           int64_t s, float *logits, state *out, ssmq_err *err) {
    const stretch tokens = {s > 0 ? r->found.steps[s - 1] : 0, r->found.steps[s]};
    return advance_over(r, engine, begin, is_decode, tokens, logits, out, err);
}

/* Distances of each head, and of each layer's conv state, at step s. */
static void compare(const race *r, int64_t s, const state *at, const state *reference,
                    drift_distance *heads, drift_distance *convs) {
    const ssmq_shape *shape = r->shape;
    const int64_t B = r->found.B, L = shape->L, H = shape->H;
    const int64_t n_head = shape->P * shape->N, n_conv = (shape->K - 1) * shape->conv_dim;
#pragma omp parallel for schedule(static) num_threads(r->n_threads)
    for (int64_t i = 0; i < L * B; i++) {
        const int64_t place = (s * B + i % B) * L + i / B;
        for (int64_t h = 0; h < H; h++) {
            const int64_t from = (i * H + h) * n_head;
            heads[place * H + h] = drift_distance_of(at->ssm + from, reference->ssm + from, n_head);
        }
        convs[place] =
            drift_distance_of(at->conv + i * n_conv, reference->conv + i * n_conv, n_conv);
    }
}

static void count_extremes(const race *r, int64_t s) {
    const ssmq_shape *shape = r->shape;
    const int64_t B = r->found.B, L = shape->L, n = shape->H * shape->P * shape->N;
#pragma omp parallel for schedule(static) num_threads(r->n_threads)
    for (int64_t i = 0; i < L * B; i++) {
        const float *ssm = r->accumulated.ssm + i * n;
        int64_t n_nonfinite = 0, n_saturated = 0;
        for (int64_t k = 0; k < n; k++) {
            n_nonfinite += isfinite(ssm[k]) ? 0 : 1;
            n_saturated += isfinite(ssm[k]) && fabs((double)ssm[k]) >= r->largest ? 1 : 0;
        }
        r->found.n_nonfinite[(s * B + i % B) * L + i / B] = (double)n_nonfinite;
        r->found.n_saturated[(s * B + i % B) * L + i / B] = (double)n_saturated;
    }
}

/* KL of each sequence's next token at step s. */
static void compare_logits(const race *r, int64_t s, const float *baseline, const float *other,
                           double *kl, double *same_top) {
    const int64_t B = r->found.B, V = r->shape->V;
    for (int64_t b = 0; b < B; b++) {
        const ssmq_divergence token = ssmq_divergence_of(baseline + b * V, other + b * V, V, 0);
        kl[s * B + b] = token.kl;
        if (same_top != NULL) same_top[s * B + b] = token.has_same_top ? 1.0 : 0.0;
    }
}

static void swap(state *a, state *b) {
    const state kept = *a;
    *a = *b;
    *b = kept;
}

static ssmq_status run_step(race *r, int64_t s, ssmq_err *err) {
    trial_drift *d = &r->found;
    ssmq_engine *engine = r->run->engine, *baseline = r->run->baseline;
    const bool path = r->is_decode, is_baseline = r->has_baseline_floor;
    const state *same = is_baseline ? &r->baseline : &r->accumulated;
    swap(&r->baseline, &r->baseline_before);
    SSMQ_TRY(
        advance(r, baseline, &r->baseline_before, path, s, r->baseline_logits, &r->baseline, err));
    SSMQ_TRY(advance(r, engine, &r->baseline_before, path, s, r->logits, &r->injected, err));
    compare(r, s, &r->injected, &r->baseline, d->injected_heads, d->injected_convs);
    compare_logits(r, s, r->baseline_logits, r->logits, d->injected_kl, NULL);
    SSMQ_TRY(advance(r, is_baseline ? baseline : engine, &r->other, !path, s, r->other_logits,
                     &r->other, err));
    SSMQ_TRY(advance(r, engine, &r->accumulated, path, s, r->logits, &r->accumulated, err));
    compare(r, s, &r->accumulated, &r->baseline, d->heads, d->convs);
    compare_logits(r, s, r->baseline_logits, r->logits, d->kl, d->same_top);
    compare(r, s, &r->other, same, d->floors, d->conv_floors);
    compare_logits(r, s, is_baseline ? r->baseline_logits : r->logits, r->other_logits, d->kl_floor,
                   NULL);
    count_extremes(r, s);
    return SSMQ_OK;
}

/* `plain` becomes the state, `hit` the same with the impulse in it: signs drawn in the order of the
 * state, the same for every precision. */
static void strike(race *r, const state *from, state *plain, state *hit) {
    const ssmq_shape *shape = r->shape;
    const int64_t n_ssm = shape->L * r->found.B * shape->H * shape->P * shape->N;
    const int64_t n_conv = shape->L * r->found.B * (shape->K - 1) * shape->conv_dim;
    ssmq_rng rng = ssmq_rng_from_text(r->found.draw);
    for (int64_t i = 0; i < n_ssm; i++) {
        const double factor = 1.0 + (ssmq_rng_below(&rng, 2) != 0 ? 1.0 : -1.0) * r->found.impulse;
        plain->ssm[i] = from->ssm[i];
        hit->ssm[i] = (float)((double)from->ssm[i] * factor);
    }
    for (int64_t i = 0; i < n_conv; i++) plain->conv[i] = hit->conv[i] = from->conv[i];
}

static void respond(race *r, int64_t look, const state *plain, const state *hit) {
    const ssmq_shape *shape = r->shape;
    const int64_t B = r->found.B, L = shape->L, H = shape->H, n_head = shape->P * shape->N;
#pragma omp parallel for schedule(static) num_threads(r->n_threads)
    for (int64_t i = 0; i < L * B; i++) {
        const int64_t place = (look * B + i % B) * L + i / B;
        for (int64_t h = 0; h < H; h++) {
            const int64_t from = (i * H + h) * n_head;
            r->found.responses[place * H + h] =
                drift_distance_of(hit->ssm + from, plain->ssm + from, n_head).error /
                r->found.impulse;
        }
    }
}

/* Before the last step, whose run needs what `injected` and `baseline_before` hold no more. Both
 * states take the same calls, so that nothing but the impulse differs. */
static ssmq_status run_impulse(race *r, ssmq_err *err) {
    trial_drift *d = &r->found;
    ssmq_engine *engine = r->run->engine;
    state *plain = &r->injected, *hit = &r->baseline_before;
    const int64_t begin = d->steps[d->S - 2];
    strike(r, &r->accumulated, plain, hit);
    for (int64_t i = 0; i < d->I; i++) {
        const stretch tokens = {begin + (i > 0 ? d->impulse_steps[i - 1] : 0),
                                begin + d->impulse_steps[i]};
        SSMQ_TRY(advance_over(r, engine, plain, r->is_decode, tokens, r->logits, plain, err));
        SSMQ_TRY(advance_over(r, engine, hit, r->is_decode, tokens, r->logits, hit, err));
        respond(r, i, plain, hit);
    }
    return SSMQ_OK;
}

static ssmq_status race_init(race *r, ssmq_err *err) {
    const ssmq_trial *trial = r->run->trial;
    const int64_t B = trial->batch_size;
    const size_t n_ids = (size_t)(B * smaller(TRIAL_SEGMENT_TOKENS, trial->context_length));
    const size_t n_logits = (size_t)(B * r->shape->V);
    state *const states[] = {&r->baseline, &r->baseline_before, &r->accumulated, &r->other,
                             &r->injected};
    float **const logits[] = {&r->baseline_logits, &r->logits, &r->other_logits};
    SSMQ_TRY(drift_init(&r->found, r->shape, trial->context_length, B, err));
    r->found.draw = trial->draw;
    const double impulse = r->run->inputs->config->drift.impulse;
    if (impulse > 0.0) SSMQ_TRY(drift_impulse_init(&r->found, impulse, err));
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        SSMQ_TRY(state_init(states[i], r->shape, B, err));
    }
    for (size_t i = 0; i < sizeof logits / sizeof logits[0]; i++) {
        SSMQ_TRY(ssmq_calloc(logits[i], n_logits, sizeof **logits[i], err));
    }
    SSMQ_TRY(ssmq_calloc(&r->first, (size_t)B, sizeof *r->first, err));
    SSMQ_TRY(ssmq_calloc(&r->forced, n_ids, sizeof *r->forced, err));
    return ssmq_calloc(&r->argmax, n_ids, sizeof *r->argmax, err);
}

static void race_free(race *r) {
    state *const states[] = {&r->baseline, &r->baseline_before, &r->accumulated, &r->other,
                             &r->injected};
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) state_free(states[i]);
    ssmq_free(r->baseline_logits);
    ssmq_free(r->logits);
    ssmq_free(r->other_logits);
    ssmq_free(r->first);
    ssmq_free(r->forced);
    ssmq_free(r->argmax);
    drift_free(&r->found);
}

static ssmq_status run_steps(race *r, ssmq_err *err) {
    ssmq_engine *engine = r->run->engine, *baseline = r->run->baseline;
    const ssmq_engine_extent extent = {
        .n_sequences = r->found.B,
        .max_segment_tokens = smaller(TRIAL_SEGMENT_TOKENS, r->run->trial->context_length)};
    SSMQ_TRY(baseline->api->reset(baseline, &extent, err));
    SSMQ_TRY(engine->api->reset(engine, &extent, err));
    for (int64_t i = 0; i < r->found.L; i++) {
        drift_half_life(r->run->inputs->model, i, r->found.half_life + i * r->found.H);
    }
    for (int64_t s = 0; s < r->found.S; s++) {
        if (r->found.I > 0 && s == r->found.S - 1) SSMQ_TRY(run_impulse(r, err));
        SSMQ_TRY(run_step(r, s, err));
    }
    return SSMQ_OK;
}

/* 2^16 - 2^5; 2^128 - 2^120; 2^128 - 2^104. */
static double largest_of(ssmq_dtype dtype) {
    if (dtype == SSMQ_F16) return 65504.0;
    return dtype == SSMQ_BF16 ? 0x1.fep127 : (double)FLT_MAX;
}

ssmq_status trial_run_drift(const trial_run *run, ssmq_record *record, ssmq_samples *samples,
                            ssmq_err *err) {
    const ssmq_trial *trial = run->trial;
    const ssmq_shape *shape = &run->inputs->model->shape;
    const int64_t n_tokens = run->inputs->n_text_ids;
    SSMQ_CHECK(run->inputs->text_ids != NULL && run->baseline != NULL, err);
    if (trial->context_length < DRIFT_FIRST_STEP ||
        trial->context_length * trial->batch_size > n_tokens) {
        return SSMQ_FAIL(err, CONFIG,
                         "%lld tokens hold no %lld sequences of %lld tokens, at least %d each",
                         (long long)n_tokens, (long long)trial->batch_size,
                         (long long)trial->context_length, DRIFT_FIRST_STEP);
    }
    race r = {.run = run,
              .shape = shape,
              .is_decode = run->inputs->config->drift.path[0] == 'd',
              .has_baseline_floor = ssmq_precision_rounds_state(&trial->precision),
              .n_threads = run->n_threads > 0 ? run->n_threads : ssmq_cores_per_rank(1),
              .stride = trial->context_length,
              .largest = largest_of(trial->precision.state_dtype)};
    ssmq_status status = race_init(&r, err);
    if (status == SSMQ_OK) status = run_steps(&r, err);
    if (status == SSMQ_OK) status = trial_report_drift(&r.found, record, samples, err);
    race_free(&r);
    return status;
}
