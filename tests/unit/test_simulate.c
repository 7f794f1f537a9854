/* SPDX-License-Identifier: Apache-2.0 */
/* Simulated schedules: one by hand, bounds that hold for every schedule of this kind, and how near
 * the least time they come on a grid like configs/phase1.yaml. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "sched/simulate.h"

static ssmq_sim_result simulate(const ssmq_sim_setup *setup) {
    ssmq_sim_result result;
    ssmq_err err = {0};
    assert_int_equal(ssmq_simulate(setup, &result, &err), SSMQ_OK);
    return result;
}

/* Two ranks, two classes of work 10 each, loading takes 1: each rank takes one of them. */
static void by_hand(void **state) {
    (void)state;
    static const ssmq_sched_trial trials[] = {
        {6, 1, 1, 0}, {4, 1, 1, 0}, {5, 1, 2, 0}, {5, 1, 2, 0}};
    const ssmq_sim_setup setup = {.trials = trials, .n_trials = 4, .n_ranks = 2};
    ssmq_sim_result r = simulate(&setup);
    assert_true(fabs(r.makespan_s - 11.0) < 1e-12);
    assert_true(fabs(r.bound_s - 11.0) < 1e-12);
    assert_true(fabs(r.longest_s - 7.0) < 1e-12);
    assert_int_equal(r.n_loads, 2);
    assert_int_equal(r.n_classes, 2);
    for (int rank = 0; rank < 2; rank++) {
        assert_int_equal(r.ranks[rank].n_trials, 2);
        assert_int_equal(r.ranks[rank].n_loads, 1);
        assert_true(fabs(r.ranks[rank].trial_s - 10.0) < 1e-12);
    }
    ssmq_free(r.ranks);
}

static void nothing_to_do(void **state) {
    (void)state;
    const ssmq_sim_setup setup = {.n_ranks = 3};
    ssmq_sim_result r = simulate(&setup);
    assert_true(fabs(r.makespan_s - 0.0) < 1e-12);
    ssmq_free(r.ranks);
    const ssmq_sim_setup no_rank = {.n_ranks = 0};
    ssmq_err err = {0};
    assert_int_equal(ssmq_simulate(&no_rank, &r, &err), SSMQ_INTERNAL);
    assert_null(r.ranks);
}

/* Graham's bounds: as no rank is idle while a trial waits, the last one to end was begun before an
 * equal share of all work was over. Every trial is done once, whatever estimates say. */
static void bounds_hold(void **state) {
    (void)state;
    enum { MOST = 60, SIMULATIONS = 3000 };
    ssmq_rng rng = ssmq_rng_from_seed(8);
    for (int i = 0; i < SIMULATIONS; i++) {
        ssmq_sched_trial trials[MOST];
        double trial_s[MOST];
        const size_t n = 1 + ssmq_rng_below(&rng, MOST);
        const int n_ranks = 1 + (int)ssmq_rng_below(&rng, 9);
        double sum_s = 0.0;
        double longest_s = 0.0;
        for (size_t t = 0; t < n; t++) {
            trials[t] = (ssmq_sched_trial){.cost = 10.0 * ssmq_rng_f64(&rng),
                                           .load_cost = 0.5,
                                           .class_ = (uint32_t)ssmq_rng_below(&rng, 7),
                                           .group = (uint32_t)ssmq_rng_below(&rng, 3)};
            trial_s[t] = 10.0 * ssmq_rng_f64(&rng);
            sum_s += trial_s[t];
            longest_s = fmax(longest_s, trial_s[t] + 0.5);
        }
        const ssmq_sim_setup setup = {
            .trials = trials, .n_trials = n, .trial_s = trial_s, .n_ranks = n_ranks};
        ssmq_sim_result r = simulate(&setup);
        size_t n_done = 0;
        for (int rank = 0; rank < n_ranks; rank++) n_done += r.ranks[rank].n_trials;
        assert_int_equal(n_done, n);
        assert_true(fabs(r.trial_s - sum_s) <= 1e-9 * sum_s);
        assert_true(r.makespan_s >= r.bound_s * (1.0 - 1e-12));
        assert_true(r.makespan_s <= (sum_s + r.load_s) / n_ranks + longest_s);
        ssmq_free(r.ranks);
    }
}

/* The shape of configs/phase1.yaml for 2.7b on H100s: 1544 classes of nine trials from a third of a
 * second to 26 s, a loading of 0.7 s. */
enum { N_CLASSES = 1544, N_IN_CLASS = 9, N_PHASE1 = N_CLASSES * N_IN_CLASS };

static double excess_percent(int n_ranks, double error) {
    static const double cost[N_IN_CLASS] = {0.8, 0.8, 0.8, 1.6, 2.2, 3.4, 6.6, 12.9, 25.5};
    ssmq_sched_trial *trials = NULL;
    double *trial_s = NULL;
    ssmq_err err = {0};
    ssmq_rng rng = ssmq_rng_from_seed(9);
    double factors[7][2];
    assert_int_equal(ssmq_calloc(&trials, N_PHASE1, sizeof *trials, &err), SSMQ_OK);
    assert_int_equal(ssmq_calloc(&trial_s, N_PHASE1, sizeof *trial_s, &err), SSMQ_OK);
    for (int i = 0; i < 7; i++) {
        for (int k = 0; k < 2; k++) {
            factors[i][k] = pow(error, 2.0 * ssmq_rng_f64(&rng) - 1.0);
        }
    }
    for (uint32_t i = 0; i < N_PHASE1; i++) {
        const uint32_t class_ = i / N_IN_CLASS;
        const uint32_t k = i % N_IN_CLASS;
        const uint32_t task = k >= 3;
        trials[i] = (ssmq_sched_trial){cost[k], 0.675, class_, 2 * (class_ % 7) + task};
        trial_s[i] = cost[k] * factors[class_ % 7][task];
    }
    const ssmq_sim_setup setup = {
        .trials = trials, .n_trials = N_PHASE1, .trial_s = trial_s, .n_ranks = n_ranks};
    ssmq_sim_result r = simulate(&setup);
    const double excess = 100.0 * (r.makespan_s / r.bound_s - 1.0);
    print_message("%4d ranks, estimates within %g: %.2f %% over the bound, %.2f us a trial\n",
                  n_ranks, error, excess, r.sched_us);
    assert_true(r.sched_us < 50.0);
    ssmq_free(r.ranks);
    ssmq_free(trials);
    ssmq_free(trial_s);
    return excess;
}

static void near_the_bound(void **state) {
    (void)state;
    static const int n_ranks[] = {8, 64, 1024};
    for (size_t i = 0; i < sizeof n_ranks / sizeof n_ranks[0]; i++) {
        assert_true(excess_percent(n_ranks[i], 1.0) < 3.0);
        assert_true(excess_percent(n_ranks[i], 2.0) < 4.0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(by_hand),
        cmocka_unit_test(nothing_to_do),
        cmocka_unit_test(bounds_hold),
        cmocka_unit_test(near_the_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
