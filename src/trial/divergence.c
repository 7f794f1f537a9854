/* SPDX-License-Identifier: Apache-2.0 */
#include "trial/divergence.h"

#include <math.h>

enum { N_TOP = 5 };

static const double ln_2 = 0.69314718055994530942;

/* ln p(v) = (logit(v) - largest) - log_sum */
typedef struct softmax {
    const float *logits;
    double largest, log_sum;
    int n_top;
    int64_t top[N_TOP]; /* ids of the largest logits, largest first; of equal ones the lowest id */
} softmax;

/* Keeps v if its logit is larger than one that is kept. */
static void rank(softmax *s, int64_t v) {
    int at = s->n_top;
    while (at > 0 && s->logits[v] > s->logits[s->top[at - 1]]) at--;
    if (at == N_TOP) return;
    if (s->n_top < N_TOP) s->n_top++;
    for (int i = s->n_top - 1; i > at; i--) s->top[i] = s->top[i - 1];
    s->top[at] = v;
}

static softmax softmax_of(const float *logits, int64_t V) {
    softmax s = {.logits = logits};
    double sum = 0.0;
    for (int64_t v = 0; v < V; v++) rank(&s, v);
    s.largest = (double)logits[s.top[0]];
    for (int64_t v = 0; v < V; v++) sum += exp((double)logits[v] - s.largest);
    s.log_sum = log(sum);
    return s;
}

static double log_p(const softmax *s, int64_t v) {
    return ((double)s->logits[v] - s->largest) - s->log_sum;
}

/* A token that one of the two rules out: its whole mass is beyond the other's reach. */
static void add_ruled_out(ssmq_divergence *out, double ln_p, double ln_q) {
    const double p = exp(ln_p), q = exp(ln_q);
    out->kl += p > 0.0 ? INFINITY : q;
    out->reverse_kl += q > 0.0 ? INFINITY : p;
    out->jsd += (p + q) * ln_2;
}

/* With d = ln q - ln p and e = exp(-|d|) - 1: the less likely side's term of q - p - p d, and with
 * p and q exchanged the other's; the jsd's p ln(2p / (p+q)) + q ln(2q / (p+q)) by log1p(e / 2),
 * the log of the mean of 1 and exp(-|d|). */
static void add_token(ssmq_divergence *out, double ln_p, double ln_q) {
    const double d = ln_q - ln_p, distance = fabs(d);
    const double e = expm1(-distance);
    const double p = exp(ln_p), q = exp(ln_q);
    const double larger = d > 0.0 ? q : p, smaller = d > 0.0 ? p : q;
    const double from_larger = larger * (e + distance);
    const double from_smaller = fmax(0.0, -larger * e - smaller * distance);
    out->kl += d > 0.0 ? from_smaller : from_larger;
    out->reverse_kl += d > 0.0 ? from_larger : from_smaller;
    out->jsd += fmax(0.0, -(p + q) * log1p(e / 2.0) - smaller * distance);
}

static double overlap(const softmax *p, const softmax *q) {
    int n_common = 0;
    for (int i = 0; i < p->n_top; i++) {
        for (int j = 0; j < q->n_top; j++) n_common += p->top[i] == q->top[j];
    }
    return (double)n_common / p->n_top;
}

ssmq_divergence ssmq_divergence_of(const float *baseline, const float *other, int64_t V,
                                   int32_t target) {
    const softmax p = softmax_of(baseline, V), q = softmax_of(other, V);
    ssmq_divergence out = {
        .baseline_nll = -log_p(&p, target),
        .nll = -log_p(&q, target),
        .has_same_top = p.top[0] == q.top[0],
        .top5_overlap = overlap(&p, &q),
    };
    out.delta_p = exp(-out.nll) - exp(-out.baseline_nll);
    for (int64_t v = 0; v < V; v++) {
        const double ln_p = log_p(&p, v), ln_q = log_p(&q, v);
        if (isfinite(ln_p) && isfinite(ln_q)) {
            add_token(&out, ln_p, ln_q);
        } else if (isfinite(ln_p) || isfinite(ln_q)) {
            add_ruled_out(&out, ln_p, ln_q);
        }
    }
    out.jsd /= 2.0;
    return out;
}
