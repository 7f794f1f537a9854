/* SPDX-License-Identifier: Apache-2.0 */
/* support/closeness.h - how near two engines, or two ways through one, must be to one another.
 *
 * fp32: each number within 1e-4 of its size, at least of 1; only sums in another order differ.
 *
 * 16 bits: two correct engines differ where fp32 noise moves a number over a rounding boundary,
 * after which they round on their own, and where products on tensor cores take rounded operands of
 * which the CPU engine keeps fp32. Neither is larger than what 16 bits do to the result at all, and
 * that is measured: the CPU engine's own difference between this type and fp32, as a root mean
 * square over many tokens. Independent errors of that size differ by sqrt(2) of it. The root mean
 * square of a difference may be twice the yardstick, and a single number 12 times, as the tails of
 * NLL differences are longer than a normal distribution's. A CPU engine whose scan rounded its
 * scores, weighted inputs and states to 16 bits came to 0.2 to 1.1 times and, for single tokens of
 * a text, to 8; one that read one state number in 128 as zero came to 4 times and 75 in fp16. */
#ifndef SUPPORT_CLOSENESS_H
#define SUPPORT_CLOSENESS_H

#include "support/cpu_fixture.h"

/* Root mean squares of the CPU engine's difference from fp32; both 0 for fp32. */
typedef struct yardstick {
    double nll, logit;
} yardstick;
yardstick yardstick_of(const ssmq_model *model, const char *precision);

typedef struct difference {
    double rms, mean, largest; /* of |a - b| */
    double scaled;             /* largest |a - b| / max(1, |b|) */
    int64_t n;
} difference;
difference difference_of(const float *a, const float *b, int64_t n);

/* Of two differences, the larger figure each. */
void difference_widen(difference *worst, const difference *d);

/* False, with a printed line, if a difference is larger than is said above; unit is the yardstick's
 * nll or logit, 0 for fp32. */
bool is_close(const difference *d, double unit, const char *what);
/* Fails the test then. */
void assert_close(const difference *d, double unit, const char *what);

/* Largest difference of a single number that assert_close() allows among numbers about 1. */
double closeness_limit(double unit);

#endif
