/* SPDX-License-Identifier: Apache-2.0 */
/* Student's t: P(|T| < t) for whole degrees of freedom is a finite sum of powers of cosines
 * (Abramowitz, Stegun, Handbook of Mathematical Functions, 1964, 26.7.3 and 26.7.4); its inverse by
 * bisection. */
#include "trial/regression.h"

#include <math.h>

#include "trial/stats.h"

static const double half_pi = 1.57079632679489661923;

/* P(|T| < t), tan(angle) = t / sqrt(dof). */
static double probability_within(double angle, int64_t dof) {
    const double c2 = cos(angle) * cos(angle);
    const int64_t first = dof % 2 == 0 ? 0 : 1;
    double term = first == 0 ? 1.0 : cos(angle), sum = 0.0;
    for (int64_t power = first; power <= dof - 2; power += 2) {
        sum += term;
        term *= c2 * (double)(power + 1) / (double)(power + 2);
    }
    if (first == 0) return sin(angle) * sum;
    return (angle + sin(angle) * sum) / half_pi;
}

double ssmq_student_t(int64_t dof) {
    enum { N_HALVINGS = 200 };
    double low = 0.0, high = half_pi;
    for (int i = 0; i < N_HALVINGS; i++) {
        const double middle = (low + high) / 2.0;
        if (probability_within(middle, dof) < 0.95) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return tan(low) * sqrt((double)dof);
}

ssmq_line ssmq_line_fit(const double *x, const double *y, size_t n) {
    const double mean_x = ssmq_mean(x, n), mean_y = ssmq_mean(y, n);
    ssmq_line line = {NAN, NAN, NAN, NAN};
    double xx = 0.0, xy = 0.0, squares = 0.0;
    for (size_t i = 0; i < n; i++) {
        xx += (x[i] - mean_x) * (x[i] - mean_x);
        xy += (x[i] - mean_x) * (y[i] - mean_y);
    }
    if (n < 2 || xx <= 0.0) return line;
    line.slope = xy / xx;
    line.intercept = mean_y - line.slope * mean_x;
    if (n < 3) return line;
    for (size_t i = 0; i < n; i++) {
        const double residual = (y[i] - mean_y) - line.slope * (x[i] - mean_x);
        squares += residual * residual;
    }
    const int64_t dof = (int64_t)n - 2;
    const double half = ssmq_student_t(dof) * sqrt(squares / (double)dof / xx);
    line.slope_low = line.slope - half;
    line.slope_high = line.slope + half;
    return line;
}
