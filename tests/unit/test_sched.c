/* SPDX-License-Identifier: Apache-2.0 */
/* sched/: plain lists serve as the oracle through 10^5 random runs full of failures; the
 * environment variable SSMQ_SCHEDULES asks for another number. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "sched/sched.h"

enum { MAX_TRIALS = 24, MAX_RANKS = 6, SCHEDULES = 100000, MAX_SESSIONS = 6, MAX_CRASHES = 2 };

typedef enum place { WAITING, IN_FLIGHT, FINISHED } place;

/* A run over its sessions: what a journal would hold. */
typedef struct run_log {
    size_t n;
    ssmq_sched_trial trials[MAX_TRIALS];
    int n_outcomes[MAX_TRIALS];
    int n_crashes[MAX_TRIALS];
} run_log;

/* One session, by linear search. */
typedef struct model {
    run_log *log;
    ssmq_sched *sched;
    size_t n;
    int n_ranks;
    ssmq_sched_order order;
    bool is_drained;
    bool learns; /* then expected times are not the costs, and the order is not foretold */
    ssmq_sched_trial trials[MAX_TRIALS];
    size_t logged_as[MAX_TRIALS];
    place places[MAX_TRIALS];
    int64_t in_flight[MAX_RANKS]; /* -1 idle */
    int64_t last[MAX_RANKS];      /* reported or lost; -1 none */
    int64_t class_of[MAX_RANKS];  /* -1 nothing loaded */
    bool is_lost[MAX_RANKS];
} model;

static size_t count_places(const model *m, place where) {
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++) n += m->places[i] == where;
    return n;
}

static int count_alive(const model *m) {
    int n = 0;
    for (int rank = 0; rank < m->n_ranks; rank++) n += !m->is_lost[rank];
    return n;
}

static bool is_before(const model *m, size_t a, size_t b) {
    if (m->order == SSMQ_ORDER_COST && m->trials[a].cost != m->trials[b].cost) {
        return m->trials[a].cost > m->trials[b].cost;
    }
    /* Of equal ones, the class with the lower name, then the lower index. */
    if (m->order == SSMQ_ORDER_COST && m->trials[a].class_ != m->trials[b].class_) {
        return m->trials[a].class_ < m->trials[b].class_;
    }
    return a < b;
}

/* Longest that waits of a class; of all for -1. */
static int64_t longest_of(const model *m, int64_t class_) {
    int64_t best = -1;
    for (size_t i = 0; i < m->n; i++) {
        if (m->places[i] != WAITING) continue;
        if (class_ >= 0 && m->trials[i].class_ != class_) continue;
        if (best < 0 || is_before(m, i, (size_t)best)) best = (int64_t)i;
    }
    return best;
}

static int64_t longest_of_fullest(const model *m) {
    int64_t class_ = -1;
    double most = -1.0;
    for (size_t i = 0; i < m->n; i++) {
        const uint32_t name = m->trials[i].class_;
        int n_serving = 0;
        double work = 0.0;
        if (m->places[i] != WAITING) continue;
        for (int rank = 0; rank < m->n_ranks; rank++) n_serving += m->class_of[rank] == name;
        for (size_t j = 0; j < m->n; j++) {
            if (m->places[j] == WAITING && m->trials[j].class_ == name) work += m->trials[j].cost;
        }
        work /= n_serving + 1;
        if (work < most || (work == most && (int64_t)name > class_)) continue;
        most = work;
        class_ = name;
    }
    return longest_of(m, class_);
}

static double load_cost_of(const model *m, uint32_t class_) {
    double cost = 0.0;
    for (size_t i = 0; i < m->n; i++) {
        const ssmq_sched_trial *t = &m->trials[i];
        if (t->class_ == class_ && t->load_cost > cost) cost = t->load_cost;
    }
    return cost;
}

static int64_t expected_next(const model *m, int rank) {
    if (m->is_drained || m->is_lost[rank]) return SSMQ_SCHED_DONE;
    const int64_t longest = longest_of(m, -1);
    if (longest < 0) return count_places(m, IN_FLIGHT) > 0 ? SSMQ_SCHED_WAIT : SSMQ_SCHED_DONE;
    if (m->order == SSMQ_ORDER_GRID) return longest;
    const int64_t own = m->class_of[rank] < 0 ? -1 : longest_of(m, m->class_of[rank]);
    double left = 0.0;
    for (size_t i = 0; i < m->n; i++) {
        left += m->places[i] == FINISHED  ? 0.0
                : m->places[i] == WAITING ? m->trials[i].cost
                                          : 0.5 * m->trials[i].cost;
    }
    left /= count_alive(m);
    const double cost = m->trials[longest].cost;
    const bool is_loaded = m->class_of[rank] == (int64_t)m->trials[longest].class_;
    const double load = is_loaded ? 0.0 : load_cost_of(m, m->trials[longest].class_);
    if (cost + load >= 2.0 / 3.0 * left) {
        return own >= 0 && m->trials[own].cost >= 2.0 / 3.0 * cost ? own : longest;
    }
    return own >= 0 ? own : longest_of_fullest(m);
}

static void check_state(const model *m) {
    ssmq_sched_state state;
    ssmq_sched_get(m->sched, &state);
    assert_int_equal(state.n_waiting, count_places(m, WAITING));
    assert_int_equal(state.n_in_flight, count_places(m, IN_FLIGHT));
    assert_int_equal(state.n_finished, count_places(m, FINISHED));
    assert_int_equal(state.n_ranks_alive, count_alive(m));
    if (m->learns) return;
    double sums[3] = {0};
    for (size_t i = 0; i < m->n; i++) sums[m->places[i]] += m->trials[i].cost;
    /* Costs are small integers: sums are exact. */
    assert_true(state.waiting_s == sums[WAITING]);
    assert_true(state.in_flight_s == sums[IN_FLIGHT]);
    assert_true(state.finished_s == sums[FINISHED]);
}

/* True if the rank got a trial. */
static bool ask(model *m, int rank) {
    const int64_t expected = expected_next(m, rank);
    const int64_t got = ssmq_sched_next(m->sched, rank);
    if (m->learns && expected >= 0) {
        assert_true(got >= 0 && got < (int64_t)m->n);
    } else {
        assert_int_equal(got, expected);
    }
    if (got < 0) return false;
    assert_int_equal(m->places[got], WAITING);
    m->places[got] = IN_FLIGHT;
    m->in_flight[rank] = got;
    m->class_of[rank] = m->trials[got].class_;
    return true;
}

static void finish(model *m, ssmq_rng *rng, int rank) {
    const int64_t trial = m->in_flight[rank];
    /* A trial that timed out or failed has an outcome and no duration to learn from. */
    const bool is_measured = m->learns && ssmq_rng_below(rng, 4) != 0;
    const double s = is_measured ? 1e-3 + 10.0 * ssmq_rng_f64(rng) : -1.0;
    assert_true(ssmq_sched_finished(m->sched, rank, trial, s, is_measured ? 0.5 : -1.0));
    assert_int_equal(m->places[trial], IN_FLIGHT);
    m->places[trial] = FINISHED;
    m->log->n_outcomes[m->logged_as[trial]]++;
    m->last[rank] = trial;
    m->in_flight[rank] = -1;
}

/* What a rank said before comes again, whatever happened since. */
static void report_again(model *m, int rank) {
    const int64_t trial = m->last[rank];
    if (trial < 0 || trial == m->in_flight[rank]) return;
    assert_false(ssmq_sched_finished(m->sched, rank, trial, 1.0, 1.0));
    assert_false(ssmq_sched_finished(m->sched, rank, -1, 1.0, 1.0));
    check_state(m);
}

static void lose(model *m, int rank, bool is_crash) {
    const int64_t trial = m->in_flight[rank];
    ssmq_sched_lost(m->sched, rank);
    if (trial >= 0) {
        m->places[trial] = WAITING;
        m->log->n_crashes[m->logged_as[trial]] += is_crash;
        m->last[rank] = trial;
    }
    m->in_flight[rank] = -1;
    m->class_of[rank] = -1;
    m->is_lost[rank] = true;
}

static void random_events(model *m, ssmq_rng *rng) {
    const uint64_t loss_rate = ssmq_rng_below(rng, 12);
    for (uint64_t event = ssmq_rng_below(rng, 80); event > 0; event--) {
        const int rank = (int)ssmq_rng_below(rng, (uint64_t)m->n_ranks);
        const uint64_t what = ssmq_rng_below(rng, 100);
        if (what < loss_rate) {
            lose(m, rank, ssmq_rng_below(rng, 2) == 0);
        } else if (what >= 95) {
            report_again(m, rank);
        } else if (what == 94 && ssmq_rng_below(rng, 10) == 0) {
            ssmq_sched_drain(m->sched);
            m->is_drained = true;
        } else if (m->in_flight[rank] >= 0) {
            finish(m, rng, rank);
        } else {
            (void)ask(m, rank);
        }
    }
    check_state(m);
}

/* Everybody who lives works until nothing is left. */
static void work_to_the_end(model *m, ssmq_rng *rng) {
    bool is_busy = true;
    while (is_busy) {
        is_busy = false;
        for (int rank = 0; rank < m->n_ranks; rank++) {
            if (m->in_flight[rank] >= 0) finish(m, rng, rank);
            is_busy |= ask(m, rank);
        }
    }
    check_state(m);
    assert_int_equal(count_places(m, IN_FLIGHT), 0);
    if (count_alive(m) > 0 && !m->is_drained) assert_int_equal(count_places(m, FINISHED), m->n);
}

/* Ranks that died are back, as the same command starts them again; what they had in flight is
 * begun anew, and what took its process down twice is left alone. */
static void run_session(run_log *log, ssmq_rng *rng, bool has_failures) {
    model m = {.log = log,
               .n_ranks = 1 + (int)ssmq_rng_below(rng, MAX_RANKS),
               .order = ssmq_rng_below(rng, 4) == 0 ? SSMQ_ORDER_GRID : SSMQ_ORDER_COST,
               .learns = ssmq_rng_below(rng, 2) == 0};
    ssmq_err err = {0};
    for (size_t i = 0; i < log->n; i++) {
        if (log->n_outcomes[i] > 0 || log->n_crashes[i] >= MAX_CRASHES) continue;
        m.logged_as[m.n] = i;
        m.trials[m.n++] = log->trials[i];
    }
    for (int rank = 0; rank < m.n_ranks; rank++) {
        m.in_flight[rank] = m.class_of[rank] = m.last[rank] = -1;
    }
    assert_int_equal(ssmq_sched_open(&m.sched, m.trials, m.n, m.n_ranks, m.order, &err), SSMQ_OK);
    for (size_t i = 0; m.learns && i < log->n; i++) {
        if (log->n_outcomes[i] == 0) continue;
        ssmq_sched_learn(m.sched, log->trials[i].group, log->trials[i].cost, 2.0);
    }
    if (has_failures) random_events(&m, rng);
    /* Half of all sessions are killed where they stand. */
    if (!has_failures || ssmq_rng_below(rng, 2) == 0) work_to_the_end(&m, rng);
    ssmq_sched_close(m.sched);
}

static void run_schedule(ssmq_rng *rng) {
    run_log log = {.n = ssmq_rng_below(rng, MAX_TRIALS + 1)};
    const uint64_t n_classes = 1 + ssmq_rng_below(rng, 5);
    for (size_t i = 0; i < log.n; i++) {
        log.trials[i] = (ssmq_sched_trial){.cost = (double)ssmq_rng_below(rng, 9),
                                           .load_cost = (double)ssmq_rng_below(rng, 3),
                                           .class_ = (uint32_t)ssmq_rng_below(rng, n_classes) * 77,
                                           .group = (uint32_t)ssmq_rng_below(rng, 4) * 5};
    }
    for (uint64_t n = ssmq_rng_below(rng, MAX_SESSIONS); n > 0; n--) run_session(&log, rng, true);
    run_session(&log, rng, false);
    for (size_t i = 0; i < log.n; i++) {
        const bool is_crasher = log.n_crashes[i] >= MAX_CRASHES;
        assert_true(log.n_outcomes[i] == 1 || (log.n_outcomes[i] == 0 && is_crasher));
    }
}

static void random_failures(void **state) {
    (void)state;
    const char *wish = getenv("SSMQ_SCHEDULES");
    const long n = wish != NULL ? strtol(wish, NULL, 10) : SCHEDULES;
    ssmq_rng rng = ssmq_rng_from_seed(3);
    assert_true(n > 0);
    for (long i = 0; i < n; i++) run_schedule(&rng);
    print_message("%ld schedules\n", n);
}

static void expect_order(const ssmq_sched_trial *trials, const int64_t *expected, size_t n) {
    ssmq_sched *sched = NULL;
    ssmq_err err = {0};
    assert_int_equal(ssmq_sched_open(&sched, trials, n, 1, SSMQ_ORDER_COST, &err), SSMQ_OK);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(ssmq_sched_next(sched, 0), expected[i]);
        assert_true(ssmq_sched_finished(sched, 0, expected[i], -1.0, -1.0));
    }
    assert_int_equal(ssmq_sched_next(sched, 0), SSMQ_SCHED_DONE);
    ssmq_sched_close(sched);
}

/* One rank finishes the class with most work, longest first, then the other. */
static void stays_with_class(void **state) {
    (void)state;
    static const ssmq_sched_trial trials[] = {{9, 1, 1, 0}, {8, 1, 2, 0}, {7, 1, 1, 0},
                                              {6, 1, 2, 0}, {5, 1, 2, 0}, {1, 1, 1, 0}};
    static const int64_t expected[] = {1, 3, 4, 0, 2, 5};
    expect_order(trials, expected, 6);
}

/* A trial that is most of what is left is begun at once, in whatever class. */
static void long_trials_do_not_wait(void **state) {
    (void)state;
    static const ssmq_sched_trial trials[] = {{3, 1, 1, 0}, {3, 1, 1, 0}, {40, 1, 2, 0}};
    static const int64_t expected[] = {2, 0, 1};
    expect_order(trials, expected, 3);
}

/* Group 1 takes five times what was thought, group 2 a tenth, and the rest is set right by it. */
static void learns_from_durations(void **state) {
    (void)state;
    static const ssmq_sched_trial trials[] = {
        {4, 0, 7, 1}, {3, 0, 7, 1}, {9, 0, 7, 2}, {8, 0, 7, 2}, {2, 0, 7, 3}};
    ssmq_sched *sched = NULL;
    ssmq_sched_state now;
    ssmq_err err = {0};
    assert_int_equal(ssmq_sched_open(&sched, trials, 5, 1, SSMQ_ORDER_COST, &err), SSMQ_OK);
    assert_int_equal(ssmq_sched_next(sched, 0), 2);
    assert_true(ssmq_sched_finished(sched, 0, 2, 0.9, -1.0));
    /* A tenth holds for all as long as nothing else is known. */
    ssmq_sched_learn(sched, 1, 4.0, 20.0);
    assert_int_equal(ssmq_sched_next(sched, 0), 0);
    ssmq_sched_get(sched, &now);
    assert_true(fabs(now.in_flight_s - 20.0) < 1e-9);
    /* Group 3 by all that was seen: 20.9 s for 13. */
    assert_true(fabs(now.waiting_s - (3 * 5.0 + 8 * 0.1 + 2 * 20.9 / 13.0)) < 1e-9);
    assert_true(ssmq_sched_finished(sched, 0, 0, 20.0, -1.0));
    assert_int_equal(ssmq_sched_next(sched, 0), 1);
    ssmq_sched_close(sched);
}

static void lost_trial_comes_back(void **state) {
    (void)state;
    static const ssmq_sched_trial trials[] = {{2, 0, 0, 0}, {1, 0, 0, 0}};
    ssmq_sched *sched = NULL;
    ssmq_err err = {0};
    assert_int_equal(ssmq_sched_open(&sched, trials, 2, 2, SSMQ_ORDER_COST, &err), SSMQ_OK);
    assert_int_equal(ssmq_sched_next(sched, 0), 0);
    assert_int_equal(ssmq_sched_next(sched, 1), 1);
    assert_true(ssmq_sched_finished(sched, 1, 1, 1.0, 0.0));
    assert_int_equal(ssmq_sched_next(sched, 1), SSMQ_SCHED_WAIT);
    ssmq_sched_lost(sched, 0);
    assert_int_equal(ssmq_sched_next(sched, 0), SSMQ_SCHED_DONE);
    assert_int_equal(ssmq_sched_next(sched, 1), 0);
    assert_false(ssmq_sched_finished(sched, 0, 0, 2.0, 0.0));
    assert_true(ssmq_sched_finished(sched, 1, 0, 2.0, 0.0));
    assert_int_equal(ssmq_sched_next(sched, 1), SSMQ_SCHED_DONE);
    ssmq_sched_close(sched);
}

static void refuses_bad_input(void **state) {
    (void)state;
    static const ssmq_sched_trial endless[] = {{1.0 / 0.0, 0, 0, 0}};
    static const ssmq_sched_trial negative[] = {{1, -1, 0, 0}};
    ssmq_sched *sched = NULL;
    ssmq_err err = {0};
    assert_int_equal(ssmq_sched_open(&sched, endless, 1, 1, SSMQ_ORDER_COST, &err), SSMQ_INTERNAL);
    assert_int_equal(ssmq_sched_open(&sched, negative, 1, 1, SSMQ_ORDER_COST, &err), SSMQ_INTERNAL);
    assert_null(sched);
    assert_int_equal(ssmq_sched_open(&sched, endless, 0, 0, SSMQ_ORDER_COST, &err), SSMQ_INTERNAL);
    ssmq_sched_close(NULL);
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
    static void (*const misuses[])(ssmq_sched *) = {misuse_asks_twice, misuse_unknown_rank};
    static const ssmq_sched_trial trials[] = {{2, 0, 0, 0}, {1, 0, 0, 0}};
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

/* 100,000 trials, with a rank lost now and then; what the scheduler takes a trial, `ssmq plan
 * --simulate` says. */
static void many_trials_and_lost_ranks(void **state) {
    (void)state;
    enum { N = 100000, RANKS = 64 };
    ssmq_sched_trial *trials = NULL;
    ssmq_sched *sched = NULL;
    ssmq_err err = {0};
    ssmq_rng rng = ssmq_rng_from_seed(4);
    assert_int_equal(ssmq_calloc(&trials, N, sizeof *trials, &err), SSMQ_OK);
    for (size_t i = 0; i < N; i++) {
        trials[i] = (ssmq_sched_trial){ssmq_rng_f64(&rng), 0.1, (uint32_t)ssmq_rng_below(&rng, 999),
                                       (uint32_t)ssmq_rng_below(&rng, 99)};
    }
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
        assert_true(ssmq_sched_finished(sched, rank, trial, ssmq_rng_f64(&rng), 0.1));
        n_finished++;
    }
    ssmq_sched_state end;
    ssmq_sched_get(sched, &end);
    assert_int_equal(ssmq_sched_next(sched, 0), -1);
    assert_true(end.n_ranks_alive >= 8);
    ssmq_sched_close(sched);
    ssmq_free(trials);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_failures),         cmocka_unit_test(stays_with_class),
        cmocka_unit_test(long_trials_do_not_wait), cmocka_unit_test(learns_from_durations),
        cmocka_unit_test(lost_trial_comes_back),   cmocka_unit_test(refuses_bad_input),
        cmocka_unit_test(broken_invariants_panic), cmocka_unit_test(many_trials_and_lost_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
