/* SPDX-License-Identifier: Apache-2.0 */
#include "trial/stats.h"

#include <math.h>
#include <stdlib.h>

ssmq_interval ssmq_wilson(int64_t k, int64_t n) {
    const double z = 1.959963984540054; /* 97.5 % point of the normal distribution */
    ssmq_interval interval = {NAN, NAN};
    if (n < 1) return interval;
    const double trials = (double)n, p = (double)k / trials;
    const double scale = 1.0 + z * z / trials;
    const double center = (p + z * z / (2.0 * trials)) / scale;
    const double half = z * sqrt(p * (1.0 - p) / trials + z * z / (4.0 * trials * trials)) / scale;
    /* At k = 0 and k = n the ends are 0 and 1 exactly; rounding would miss them. */
    interval.low = k == 0 ? 0.0 : center - half;
    interval.high = k == n ? 1.0 : center + half;
    return interval;
}

static int compare_doubles(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double ssmq_percentile(double *values, size_t n, double q) {
    if (n == 0) return NAN;
    qsort(values, n, sizeof *values, compare_doubles);
    const double at = q / 100.0 * (double)(n - 1);
    const size_t below = (size_t)at;
    if (below + 1 >= n) return values[n - 1];
    return values[below] + (at - (double)below) * (values[below + 1] - values[below]);
}

double ssmq_mean(const double *values, size_t n) {
    if (n == 0) return NAN;
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += values[i];
    return sum / (double)n;
}

double ssmq_sem(const double *values, size_t n) {
    if (n < 2) return NAN;
    const double mean = ssmq_mean(values, n);
    double squares = 0;
    for (size_t i = 0; i < n; i++) squares += (values[i] - mean) * (values[i] - mean);
    return sqrt(squares / (double)(n - 1) / (double)n);
}

double ssmq_ratio_sem(const double *sums, const int64_t *counts, size_t n) {
    if (n < 2) return NAN;
    double sum = 0, count = 0, squares = 0;
    for (size_t i = 0; i < n; i++) {
        sum += sums[i];
        count += (double)counts[i];
    }
    for (size_t i = 0; i < n; i++) {
        const double residual = sums[i] - sum / count * (double)counts[i];
        squares += residual * residual;
    }
    return sqrt(squares * (double)n / (double)(n - 1)) / count;
}

ssmq_interval ssmq_block_bootstrap(const double *sums, const int64_t *counts, size_t n,
                                   ssmq_rng rng) {
    double ratios[SSMQ_N_RESAMPLES];
    ssmq_interval interval = {NAN, NAN};
    if (n < 2) return interval;
    for (size_t i = 0; i < SSMQ_N_RESAMPLES; i++) {
        double sum = 0;
        int64_t count = 0;
        for (size_t j = 0; j < n; j++) {
            const size_t block = (size_t)ssmq_rng_below(&rng, n);
            sum += sums[block];
            count += counts[block];
        }
        /* A sample of nothing but the empty block of a stream has no ratio; it says the least. */
        ratios[i] = count > 0 ? sum / (double)count : 0.0;
    }
    interval.low = ssmq_percentile(ratios, SSMQ_N_RESAMPLES, 2.5);
    interval.high = ssmq_percentile(ratios, SSMQ_N_RESAMPLES, 97.5);
    return interval;
}
