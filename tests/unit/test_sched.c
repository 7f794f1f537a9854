/* SPDX-License-Identifier: Apache-2.0 */
/* sched/: a plain list serves as the oracle through 10^5 random schedules of failures. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "sched/sched.h"

enum { MAX_TRIALS = 24, MAX_RANKS = 6, SCHEDULES = 100000 };

/* The oracle: where each trial is, by linear search. */
typedef enum place { WAITING, IN_FLIGHT, FINISHED } place;
typedef struct model {
    size_t n;
    int n_ranks;
    ssmq_sched_order order;
    bool is_drained;
    ssmq_sched_trial trials[MAX_TRIALS];
    place places[MAX_TRIALS];
    int64_t in_flight[MAX_RANKS]; /* -1 idle */
    int64_t class_of[MAX_RANKS];  /* -1 nothing loaded */
    bool is_lost[MAX_RANKS];
} model;

static size_t count_places(const model *m, place where) {
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++) n += m->places[i] == where;
    return n;
}

static bool is_before(const model *m, size_t a, size_t b) {
    if (m->order == SSMQ_ORDER_COST && m->trials[a].cost != m->trials[b].cost) {
        return m->trials[a].cost > m->trials[b].cost;
    }
    return a < b;
}

static int64_t expected_next(const model *m, int rank) {
    int64_t first = -1;
    int64_t of_class = -1;
    if (m->is_drained || m->is_lost[rank]) return SSMQ_SCHED_DONE;
    for (size_t i = 0; i < m->n; i++) {
        if (m->places[i] != WAITING) continue;
        if (first < 0 || is_before(m, i, (size_t)first)) first = (int64_t)i;
        if ((int64_t)m->trials[i].class_ != m->class_of[rank]) continue;
        if (of_class < 0 || is_before(m, i, (size_t)of_class)) of_class = (int64_t)i;
    }
    if (first < 0) return count_places(m, IN_FLIGHT) > 0 ? SSMQ_SCHED_WAIT : SSMQ_SCHED_DONE;
    if (m->order == SSMQ_ORDER_GRID || of_class < 0) return first;
    size_t longer = 0;
    for (size_t i = 0; i < m->n; i++) {
        longer += m->places[i] == WAITING && is_before(m, i, (size_t)of_class);
    }
    return 2 * longer < count_places(m, WAITING) ? of_class : first;
}

static void check_state(const model *m, const ssmq_sched *sched) {
    ssmq_sched_state state;
    int alive = 0;
    for (int rank = 0; rank < m->n_ranks; rank++) alive += !m->is_lost[rank];
    ssmq_sched_get(sched, &state);
    assert_int_equal(state.n_waiting, count_places(m, WAITING));
    assert_int_equal(state.n_in_flight, count_places(m, IN_FLIGHT));
    assert_int_equal(state.n_finished, count_places(m, FINISHED));
    assert_int_equal(state.n_ranks_alive, alive);
    double sums[3] = {0};
    for (size_t i = 0; i < m->n; i++) sums[m->places[i]] += m->trials[i].cost;
    /* Costs are small integers: sums are exact. */
    assert_true(state.cost_waiting == sums[WAITING]);
    assert_true(state.cost_in_flight == sums[IN_FLIGHT]);
    assert_true(state.cost_finished == sums[FINISHED]);
}

/* True if the rank got a trial. */
static bool ask(model *m, ssmq_sched *sched, int rank) {
    int64_t expected = expected_next(m, rank);
    int64_t got = ssmq_sched_next(sched, rank);
    assert_int_equal(got, expected);
    if (got < 0) return false;
    m->places[got] = IN_FLIGHT;
    m->in_flight[rank] = got;
    m->class_of[rank] = m->trials[got].class_;
    return true;
}

static void finish(model *m, ssmq_sched *sched, int rank) {
    ssmq_sched_finished(sched, rank, m->in_flight[rank]);
    assert_int_equal(m->places[m->in_flight[rank]], IN_FLIGHT);
    m->places[m->in_flight[rank]] = FINISHED;
    m->in_flight[rank] = -1;
}

static void lose(model *m, ssmq_sched *sched, int rank) {
    ssmq_sched_lost(sched, rank);
    if (!m->is_lost[rank] && m->in_flight[rank] >= 0) m->places[m->in_flight[rank]] = WAITING;
    m->in_flight[rank] = -1;
    m->is_lost[rank] = true;
}

static void run_schedule(ssmq_rng *rng) {
    model m = {.n = ssmq_rng_below(rng, MAX_TRIALS + 1),
               .n_ranks = 1 + (int)ssmq_rng_below(rng, MAX_RANKS),
               .order = ssmq_rng_below(rng, 4) == 0 ? SSMQ_ORDER_GRID : SSMQ_ORDER_COST};
    uint64_t n_classes = 1 + ssmq_rng_below(rng, 5);
    uint64_t loss_rate = ssmq_rng_below(rng, 12);
    ssmq_sched *sched = NULL;
    ssmq_err err = {0};
    for (size_t i = 0; i < m.n; i++) {
        m.trials[i] = (ssmq_sched_trial){.cost = (double)ssmq_rng_below(rng, 9),
                                         .class_ = (uint32_t)ssmq_rng_below(rng, n_classes) * 77};
    }
    for (int rank = 0; rank < m.n_ranks; rank++) m.in_flight[rank] = m.class_of[rank] = -1;
    assert_int_equal(ssmq_sched_open(&sched, m.trials, m.n, m.n_ranks, m.order, &err), SSMQ_OK);
    /* Events in random order; then everybody who lives works until nothing is left. */
    for (uint64_t event = ssmq_rng_below(rng, 80); event > 0; event--) {
        int rank = (int)ssmq_rng_below(rng, (uint64_t)m.n_ranks);
        uint64_t what = ssmq_rng_below(rng, 100);
        if (what < loss_rate) {
            lose(&m, sched, rank);
        } else if (what == 99 && ssmq_rng_below(rng, 10) == 0) {
            ssmq_sched_drain(sched);
            m.is_drained = true;
        } else if (m.in_flight[rank] >= 0) {
            finish(&m, sched, rank);
        } else {
            (void)ask(&m, sched, rank);
        }
    }
    check_state(&m, sched);
    bool is_busy = true;
    while (is_busy) {
        is_busy = false;
        for (int rank = 0; rank < m.n_ranks; rank++) {
            if (m.in_flight[rank] >= 0) finish(&m, sched, rank);
            is_busy |= ask(&m, sched, rank);
        }
    }
    check_state(&m, sched);
    bool is_anyone_alive = false;
    for (int rank = 0; rank < m.n_ranks; rank++) is_anyone_alive |= !m.is_lost[rank];
    assert_int_equal(count_places(&m, IN_FLIGHT), 0);
    if (is_anyone_alive && !m.is_drained) assert_int_equal(count_places(&m, FINISHED), m.n);
    ssmq_sched_close(sched);
}

static void random_failures(void **state) {
    (void)state;
    ssmq_rng rng = ssmq_rng_from_seed(3);
    for (int i = 0; i < SCHEDULES; i++) run_schedule(&rng);
}

/* A rank keeps its class while that is among the longer half, and no longer. */
static void stays_with_class(void **state) {
    (void)state;
    static const ssmq_sched_trial trials[] = {{9, 1}, {8, 2}, {7, 1}, {6, 2}, {5, 2}, {1, 1}};
    static const int64_t expected[] = {0, 2, 1, 3, 4, 5};
    ssmq_sched *sched = NULL;
    ssmq_err err = {0};
    assert_int_equal(ssmq_sched_open(&sched, trials, 6, 1, SSMQ_ORDER_COST, &err), SSMQ_OK);
    for (size_t i = 0; i < 6; i++) {
        assert_int_equal(ssmq_sched_next(sched, 0), expected[i]);
        ssmq_sched_finished(sched, 0, expected[i]);
    }
    assert_int_equal(ssmq_sched_next(sched, 0), SSMQ_SCHED_DONE);
    ssmq_sched_close(sched);
}

static void lost_trial_comes_back(void **state) {
    (void)state;
    static const ssmq_sched_trial trials[] = {{2, 0}, {1, 0}};
    ssmq_sched *sched = NULL;
    ssmq_err err = {0};
    assert_int_equal(ssmq_sched_open(&sched, trials, 2, 2, SSMQ_ORDER_COST, &err), SSMQ_OK);
    assert_int_equal(ssmq_sched_next(sched, 0), 0);
    assert_int_equal(ssmq_sched_next(sched, 1), 1);
    ssmq_sched_finished(sched, 1, 1);
    assert_int_equal(ssmq_sched_next(sched, 1), SSMQ_SCHED_WAIT);
    ssmq_sched_lost(sched, 0);
    assert_int_equal(ssmq_sched_next(sched, 0), SSMQ_SCHED_DONE);
    assert_int_equal(ssmq_sched_next(sched, 1), 0);
    ssmq_sched_finished(sched, 1, 0);
    assert_int_equal(ssmq_sched_next(sched, 1), SSMQ_SCHED_DONE);
    ssmq_sched_close(sched);
}

static void refuses_bad_input(void **state) {
    (void)state;
    static const ssmq_sched_trial trials[] = {{1.0 / 0.0, 0}};
    ssmq_sched *sched = NULL;
    ssmq_err err = {0};
    assert_int_equal(ssmq_sched_open(&sched, trials, 1, 1, SSMQ_ORDER_COST, &err), SSMQ_INTERNAL);
    assert_null(sched);
    assert_int_equal(ssmq_sched_open(&sched, trials, 0, 0, SSMQ_ORDER_COST, &err), SSMQ_INTERNAL);
    ssmq_sched_close(NULL);
}

static void misuse_finishes_another(ssmq_sched *sched) {
    ssmq_sched_finished(sched, 0, 1);
}
static void misuse_finishes_idle(ssmq_sched *sched) {
    ssmq_sched_finished(sched, 1, 0);
}
static void misuse_asks_twice(ssmq_sched *sched) {
    (void)ssmq_sched_next(sched, 0);
}
static void misuse_unknown_rank(ssmq_sched *sched) {
    (void)ssmq_sched_next(sched, 2);
}

/* What could lose or double a result ends the program, here a child. */
static void broken_invariants_panic(void **state) {
    (void)state;
    static void (*const misuses[])(ssmq_sched *) = {misuse_finishes_another, misuse_finishes_idle,
                                                    misuse_asks_twice, misuse_unknown_rank};
    static const ssmq_sched_trial trials[] = {{2, 0}, {1, 0}};
    for (size_t i = 0; i < sizeof misuses / sizeof misuses[0]; i++) {
        ssmq_sched *sched = NULL;
        ssmq_err err = {0};
        assert_int_equal(ssmq_sched_open(&sched, trials, 2, 2, SSMQ_ORDER_COST, &err), SSMQ_OK);
        assert_int_equal(ssmq_sched_next(sched, 0), 0);
        (void)fflush(NULL);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            (void)signal(SIGABRT, SIG_DFL);
            (void)close(STDERR_FILENO);
            misuses[i](sched);
            _exit(0);
        }
        int result = 0;
        assert_int_equal(waitpid(child, &result, 0), child);
        assert_true(WIFSIGNALED(result) && WTERMSIG(result) == SIGABRT);
        ssmq_sched_close(sched);
    }
}

/* 100,000 trials in well under 50 us each, with a trial lost now and then. */
static void is_fast(void **state) {
    (void)state;
    enum { N = 100000, RANKS = 64 };
    ssmq_sched_trial *trials = NULL;
    ssmq_sched *sched = NULL;
    ssmq_err err = {0};
    ssmq_rng rng = ssmq_rng_from_seed(4);
    assert_int_equal(ssmq_calloc(&trials, N, sizeof *trials, &err), SSMQ_OK);
    for (size_t i = 0; i < N; i++) {
        trials[i] = (ssmq_sched_trial){ssmq_rng_f64(&rng), (uint32_t)ssmq_rng_below(&rng, 1000)};
    }
    int64_t begin_ns = ssmq_now_ns();
    assert_int_equal(ssmq_sched_open(&sched, trials, N, RANKS, SSMQ_ORDER_COST, &err), SSMQ_OK);
    size_t n_finished = 0;
    for (int rank = 0; n_finished < N; rank = (rank + 1) % RANKS) {
        int64_t trial = ssmq_sched_next(sched, rank);
        if (trial < 0) continue;
        ssmq_sched_state now;
        ssmq_sched_get(sched, &now);
        if (rank > 0 && n_finished % 5000 == 4999 && now.n_ranks_alive > 8) {
            ssmq_sched_lost(sched, rank);
            trial = ssmq_sched_next(sched, 0);
            rank = 0;
        }
        ssmq_sched_finished(sched, rank, trial);
        n_finished++;
    }
    double us = (double)(ssmq_now_ns() - begin_ns) * 1e-3 / N;
    print_message("%.2f us a trial\n", us);
    assert_true(us < 50.0);
    ssmq_sched_close(sched);
    ssmq_free(trials);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_failures),         cmocka_unit_test(stays_with_class),
        cmocka_unit_test(lost_trial_comes_back),   cmocka_unit_test(refuses_bad_input),
        cmocka_unit_test(broken_invariants_panic), cmocka_unit_test(is_fast),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
