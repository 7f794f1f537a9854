/* SPDX-License-Identifier: Apache-2.0 */
/* trial/stats.h - intervals and percentiles of what trials measure. */
#ifndef SSMQ_TRIAL_STATS_H
#define SSMQ_TRIAL_STATS_H

#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_interval {
    double low, high;
} ssmq_interval;

/* 95 % Wilson score interval of k successes in n trials (Wilson, JASA 22, 1927); NaN for n = 0. */
ssmq_interval ssmq_wilson(int64_t k, int64_t n);

/* Percentile q in [0, 100] by linear interpolation between order statistics, as numpy.percentile;
 * sorts values in place. NaN for n = 0. */
double ssmq_percentile(double *values, size_t n, double q);

/* NaN for n = 0. */
double ssmq_mean(const double *values, size_t n);
/* Standard error of the mean, sample deviation (n - 1); NaN for n < 2. */
double ssmq_sem(const double *values, size_t n);

/* Standard error of sum(sums) / sum(counts) with n blocks as the sampling units (ratio estimator,
 * Cochran, Sampling Techniques, 1977, section 2.11); for equal counts it is ssmq_sem() of the
 * blocks' means. NaN for n < 2. */
double ssmq_ratio_sem(const double *sums, const int64_t *counts, size_t n);

/* 95 % percentile interval of sum(sums) / sum(counts) over SSMQ_N_RESAMPLES bootstrap samples, each
 * of n blocks drawn with replacement (Efron, Tibshirani, An Introduction to the Bootstrap, 1993,
 * chapter 13): block i is ssmq_rng_below(rng, n), sample after sample. NaN for n < 2. */
enum { SSMQ_N_RESAMPLES = 2000 };
ssmq_interval ssmq_block_bootstrap(const double *sums, const int64_t *counts, size_t n,
                                   ssmq_rng rng);

#ifdef __cplusplus
}
#endif
#endif
