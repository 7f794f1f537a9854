/* SPDX-License-Identifier: Apache-2.0 */
/* trial/regression.h - a straight line through points, with the interval of its slope. */
#ifndef SSMQ_TRIAL_REGRESSION_H
#define SSMQ_TRIAL_REGRESSION_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_line {
    double slope, intercept;
    double slope_low, slope_high; /* 95 % interval */
} ssmq_line;

/* y = intercept + slope x by ordinary least squares over n points:
 *     slope    = sum (x - mean x)(y - mean y) / sum (x - mean x)^2
 *     interval = slope -+ t(n - 2) sqrt(sum (y - line)^2 / (n - 2) / sum (x - mean x)^2)
 * It holds for residuals that are independent and equally wide. Everything is NaN if fewer than two
 * values of x differ, the interval for fewer than three points. */
ssmq_line ssmq_line_fit(const double *x, const double *y, size_t n);

/* The 97.5 % point of Student's t distribution with dof >= 1 degrees of freedom. */
double ssmq_student_t(int64_t dof);

#ifdef __cplusplus
}
#endif
#endif
