/* SPDX-License-Identifier: Apache-2.0 */
/* trial/positions.h: buckets of positions, and standard errors of their means by hand. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "trial/positions.h"

static void buckets(void **state) {
    (void)state;
    static const struct {
        int64_t position;
        size_t bucket;
    } cases[] = {{0, 0}, {1, 0}, {2, 1}, {3, 1}, {4, 2}, {1023, 9}, {1024, 10}, {1LL << 39, 39}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(trial_bucket_of(cases[i].position), cases[i].bucket);
    }
}

/* Bucket 0: blocks of one token each, 1, 2 and 6, whose mean 3 has the standard error
 * sqrt((4 + 1 + 9) / (3 * 2)). Bucket 1: 1 and 3 in one block, 8 in another; the mean is 4, the
 * residuals of the sums are -4 and 4, and the error sqrt(32 * 2 / 1) / 3. Bucket 2: one block. */
static void errors_by_hand(void **state) {
    (void)state;
    trial_positions p;
    double sems[3];
    assert_int_equal(trial_positions_init(&p, 7, 4, NULL), SSMQ_OK);
    assert_int_equal(p.n_buckets, 3);
    static const struct {
        size_t bucket, block;
        double value;
    } tokens[] = {{0, 0, 1}, {0, 1, 2}, {0, 3, 6}, {1, 0, 1}, {1, 0, 3}, {1, 2, 8}, {2, 1, 5}};
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
        trial_positions_add(&p, tokens[i].bucket, tokens[i].block, tokens[i].value);
    }
    assert_int_equal(trial_positions_sem(&p, 3, sems, NULL), SSMQ_OK);
    assert_true(fabs(sems[0] - sqrt(14.0 / 6.0)) < 1e-15);
    assert_true(fabs(sems[1] - sqrt(64.0) / 3.0) < 1e-15);
    assert_true(isnan(sems[2]));
    trial_positions_free(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buckets),
        cmocka_unit_test(errors_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
