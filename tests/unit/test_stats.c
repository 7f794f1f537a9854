/* SPDX-License-Identifier: Apache-2.0 */
/* trial/stats: against published values of the Wilson interval and numpy.percentile. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "trial/stats.h"

static void assert_near(double got, double expected, double tolerance) {
    if (!(fabs(got - expected) <= tolerance)) fail_msg("%.17g is not %.17g", got, expected);
}

static void wilson_is_the_published_interval(void **state) {
    (void)state;
    /* Computed from the formula with numpy; 10/10 and 50/50 are also well-known values. */
    static const struct {
        int64_t k, n;
        double low, high;
    } cases[] = {{10, 10, 0.7224672001371107, 1.0},
                 {50, 50, 0.9286524008666414, 1.0},
                 {0, 10, 0.0, 0.2775327998628892},
                 {7, 20, 0.18119182410108206, 0.5671457233147638}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ssmq_interval interval = ssmq_wilson(cases[i].k, cases[i].n);
        assert_near(interval.low, cases[i].low, 1e-14);
        assert_near(interval.high, cases[i].high, 1e-14);
    }
    assert_true(ssmq_wilson(10, 10).high == 1.0);
    assert_true(ssmq_wilson(0, 3).low == 0.0);
    assert_true(isnan(ssmq_wilson(0, 0).low) && isnan(ssmq_wilson(0, 0).high));
}

static void percentile_is_numpys(void **state) {
    (void)state;
    static const double values[] = {3.5, -1, 2, 8, 8, 0.25, 4};
    static const double expected[][2] = {
        {0, -1}, {10, -0.2499999999999999}, {25, 1.125}, {50, 3.5}, {90, 8}, {100, 8}};
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        double copy[7];
        memcpy(copy, values, sizeof copy);
        assert_near(ssmq_percentile(copy, 7, expected[i][0]), expected[i][1], 1e-15);
    }
    double even[] = {4, 1, 3, 2}, one[] = {9};
    assert_near(ssmq_percentile(even, 4, 50), 2.5, 0);
    assert_near(ssmq_percentile(one, 1, 90), 9, 0);
    assert_true(isnan(ssmq_percentile(one, 0, 50)));
}

static void means_and_their_errors(void **state) {
    (void)state;
    /* Mean 5, sample variance 32 / 7. */
    const double values[] = {2, 4, 4, 4, 5, 5, 7, 9};
    assert_near(ssmq_mean(values, 8), 5, 0);
    assert_near(ssmq_sem(values, 8), sqrt(32.0 / 7.0 / 8.0), 1e-15);
    assert_true(isnan(ssmq_mean(values, 0)) && isnan(ssmq_sem(values, 1)));
}

static void ratio_error_weighs_blocks(void **state) {
    (void)state;
    const double means[] = {2, 4, 4, 4, 5, 5, 7, 9};
    double sums[8];
    int64_t equal[8];
    for (int i = 0; i < 8; i++) {
        equal[i] = 13;
        sums[i] = 13 * means[i];
    }
    assert_near(ssmq_ratio_sem(sums, equal, 8), ssmq_sem(means, 8), 1e-15);
    /* Blocks of 1 and 3 tokens with sums 1 and 9: ratio 2.5, residuals -1.5 and 1.5, so
     * sqrt((2.25 + 2.25) * 2) / 4. An empty third block brings a residual of 0. */
    const double two[] = {1, 9, 0};
    const int64_t counts[] = {1, 3, 0};
    assert_near(ssmq_ratio_sem(two, counts, 2), 0.75, 1e-15);
    assert_near(ssmq_ratio_sem(two, counts, 3), sqrt(4.5 * 1.5) / 4, 1e-15);
    assert_true(isnan(ssmq_ratio_sem(two, counts, 1)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wilson_is_the_published_interval),
        cmocka_unit_test(percentile_is_numpys),
        cmocka_unit_test(means_and_their_errors),
        cmocka_unit_test(ratio_error_weighs_blocks),
    };
    return cmocka_run_group_tests_name("stats", tests, NULL, NULL);
}
