/* SPDX-License-Identifier: Apache-2.0 */
/* trial/drift.h - how far the recurrent state of a quantized model is from the baseline's: from
 * two states to distances, and from distances to the numbers of a record.
 *
 * At step t, S_b is the baseline's state after t tokens. Of one head [P, N]:
 *     error           ||S_q - S_b|| / ||S_b||, S_q free-running from the first token
 *     injected error  the same of the state that began as S_b at the step before
 *     floor           ||S_o - S_q|| / ||S_q||, S_o as S_q by the engine's other path; where the
 *                     state is stored in less than fp32, which paths do at other tokens, the same
 *                     of the baseline: ||S_o - S_b|| / ||S_b||
 *     response        ||S_i - S_q|| / ||S_q|| / impulse, i tokens after S_i was S_q with every
 *                     entry times 1 + impulse or 1 - impulse
 *
 * Norms are Frobenius norms. Over heads, layers and sequences errors are put together as root mean
 * squares, so that each head counts alike whatever its state's magnitude is. */
#ifndef SSMQ_TRIAL_DRIFT_H
#define SSMQ_TRIAL_DRIFT_H

#include "model/model.h"
#include "record/record.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    DRIFT_FIRST_STEP = 128, /* whole chunks of every engine, so that looking changes no bit */
    DRIFT_MAX_STEPS = 32,
    DRIFT_MAX_BINS = 32
};

/* Distance of two states of a head, or of the conv states of a layer. */
typedef struct drift_distance {
    double error;      /* 0 if both are zero; infinite if only the reference is */
    double cosine;     /* 1 if both are zero, NaN if one is */
    double norm_ratio; /* state over reference; 1 if both are zero */
} drift_distance;
drift_distance drift_distance_of(const float *state, const float *reference, int64_t n);

/* 128, 256, 512, ... below context_length, then context_length less its remainder to 128.
 * Returns how many; 0 if the context is shorter than 128. */
int drift_steps(int64_t context_length, int64_t steps[DRIFT_MAX_STEPS]);

/* What was found: S steps, B sequences, L layers of H heads. */
typedef struct trial_drift {
    int64_t S, B, L, H;
    int64_t steps[DRIFT_MAX_STEPS];                       /* tokens */
    drift_distance *heads, *injected_heads, *floors;      /* [S, B, L, H] */
    drift_distance *convs, *injected_convs, *conv_floors; /* [S, B, L] */
    double *kl, *injected_kl, *kl_floor;                  /* [S, B] nats, of the next token */
    double *same_top;                       /* [S, B] 1 if it has the same likeliest */
    double *n_nonfinite, *n_saturated;      /* [S, B, L] entries of S_q */
    double *half_life;                      /* [L, H] tokens, drift_half_life() */
    const char *draw;                       /* seeds the bootstrap: the same for every precision */
    double impulse;                         /* relative error; 0: none */
    int64_t I;                              /* looks at what it leaves */
    int64_t impulse_steps[DRIFT_MAX_STEPS]; /* tokens after it: 1, 2, 4, ... to the last step */
    double *responses;                      /* [I, B, L, H] */
} trial_drift;

/* Owns: out, drift_free().  Fails: NOMEM. */
SSMQ_MUST_USE ssmq_status drift_init(trial_drift *out, const ssmq_shape *shape,
                                     int64_t context_length, int64_t B, ssmq_err *err);
/* Room for an impulse one step before the last, of which there are two at least.  Fails: NOMEM. */
SSMQ_MUST_USE ssmq_status drift_impulse_init(trial_drift *d, double impulse, ssmq_err *err);
/* Tokens in which responses [I] at impulse_steps, 1 at 0, fall to a half, on a line between
 * logarithms; NaN if they do not. */
double drift_impulse_half_life(const trial_drift *d, const double *responses);
void drift_free(trial_drift *d);

/* Tokens in which a head's state decays to a half where dt is what dt_bias alone makes it, for each
 * head of a layer:
 *     ln 2 / (exp(A_log) clamp(softplus(dt_bias), dt_min, dt_max)) */
void drift_half_life(const ssmq_model *model, int64_t layer_idx, double *out);

/* Fills the drift fields and series. The growth exponent is the slope of ln error on ln t by
 * ssmq_line_fit() over steps and sequences whose error is above their floor; of a layer over its
 * heads, of the record over all.  Fails: NOMEM, INTERNAL. */
SSMQ_MUST_USE ssmq_status trial_report_drift(const trial_drift *d, ssmq_record *record,
                                             ssmq_samples *samples, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
