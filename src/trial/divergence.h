/* SPDX-License-Identifier: Apache-2.0 */
/* trial/divergence.h - how far one next-token distribution lies from another, from their logits. */
#ifndef SSMQ_TRIAL_DIVERGENCE_H
#define SSMQ_TRIAL_DIVERGENCE_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* p: the baseline's distribution, q: the other one; both softmax of fp32 logits, in fp64. */
typedef struct ssmq_divergence {
    double kl;           /* KL(p||q) = sum p ln(p / q), nats; infinite where q = 0 < p */
    double reverse_kl;   /* KL(q||p), nats */
    double jsd;          /* Jensen-Shannon divergence, (KL(p||m) + KL(q||m)) / 2, m = (p+q)/2 */
    double baseline_nll; /* -ln p(target), nats */
    double nll;          /* -ln q(target), nats */
    double delta_p;      /* q(target) - p(target) */
    bool has_same_top;   /* the likeliest tokens are equal; of equal logits the lowest id counts */
    double top5_overlap; /* share of the five likeliest tokens (all, if V < 5) in common */
} ssmq_divergence;

/* Of logits [V] each, without NaN and +infinity, not all -infinity. The sums are of terms that are
 * never negative, such as q - p - p ln(q/p) for KL(p||q): equal to the textbook form because p and
 * q sum to one, but without its cancellation, so that small divergences keep their digits and equal
 * logits give exactly 0. */
ssmq_divergence ssmq_divergence_of(const float *baseline, const float *other, int64_t V,
                                   int32_t target);

#ifdef __cplusplus
}
#endif
#endif
