/* SPDX-License-Identifier: Apache-2.0 */
/* Two winner trees: over the trials that wait, class by class, with their expected time as key; and
 * over the classes, with their expected work for each rank as key. Trials that take part in the
 * first are exactly those that wait. Factors are put to use when the number of a group's
 * measurements reaches a power of two, so that rebuilding both trees is rare.
 *
 * What breaks an invariant could lose or double a result, and ends the program. */
#include "sched/sched.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sched/tournament.h"

#define SCHED_REQUIRE(cond)                                                                        \
    do {                                                                                           \
        if (!(cond)) ssmq_panic(__FILE__, __LINE__, "scheduler: broken: " #cond);                  \
    } while (0)

enum { NONE = -1 };

/* Chosen over simulated schedules of configs/phase1.yaml, shapes 130m and 2.7b, 8 to 1024 ranks,
 * estimates right and wrong by 2. Smaller shares load more often than idle ranks would cost; larger
 * ones begin long trials so late that ranks wait for them. */
static const double urgent_share = 2.0 / 3.0;
static const double similar_share = 2.0 / 3.0;

/* Measured beside estimated time. */
typedef struct ratio {
    size_t n;
    double measured_s, estimated_s;
} ratio;

typedef struct group {
    uint32_t name;
    ratio seen;
    double factor;
} group;

typedef struct class_state {
    size_t begin, end; /* places */
    size_t n_waiting;
    double waiting_s; /* expected */
    double load_cost;
    int n_ranks; /* that have it loaded */
} class_state;

typedef struct worker {
    int64_t trial_idx; /* in flight; NONE if idle */
    int64_t class_idx; /* what it has loaded; NONE at first */
    bool is_loading;   /* the trial in flight is the first of its class here */
    bool is_lost;
} worker;

struct ssmq_sched {
    size_t n_trials, n_classes, n_groups;
    int n_ranks;
    int n_alive;
    bool is_drained;
    bool is_stale; /* factors are to be put to use */
    ssmq_sched_order order;
    size_t n_waiting, n_in_flight, n_finished, n_loads;
    double waiting_s, in_flight_s, finished_s;
    double *cost;      /* [n_trials] */
    size_t *class_idx; /* [n_trials] */
    size_t *group_idx; /* [n_trials] */
    size_t *place;     /* [n_trials] in `longest` */
    size_t *trial_at;  /* [n_trials] by place */
    class_state *classes;
    group *groups; /* by name */
    ratio seen, loads_seen;
    double load_factor;
    tournament longest; /* places of trials, class by class */
    tournament fullest; /* classes */
    worker *workers;    /* [n_ranks] */
};

static double expected_s(const ssmq_sched *sched, size_t trial) {
    return sched->cost[trial] * sched->groups[sched->group_idx[trial]].factor;
}

static double key_of(const ssmq_sched *sched, size_t trial) {
    return sched->order == SSMQ_ORDER_GRID ? -(double)trial : expected_s(sched, trial);
}

static double class_key(const class_state *c) {
    return c->n_waiting > 0 ? c->waiting_s / (c->n_ranks + 1) : -INFINITY;
}

static void add_class_work(ssmq_sched *sched, size_t class_idx, double change_s) {
    class_state *c = &sched->classes[class_idx];
    /* Differences of sums are exact only up to rounding. */
    c->waiting_s = c->n_waiting > 0 ? fmax(c->waiting_s + change_s, 0.0) : 0.0;
    sched->waiting_s = sched->n_waiting > 0 ? fmax(sched->waiting_s + change_s, 0.0) : 0.0;
    tournament_set(&sched->fullest, class_idx, class_key(c));
}

static void set_waiting(ssmq_sched *sched, size_t trial, bool is_waiting) {
    const double s = expected_s(sched, trial);
    class_state *c = &sched->classes[sched->class_idx[trial]];
    const size_t step = is_waiting ? 1 : (size_t)-1;
    tournament_set(&sched->longest, sched->place[trial],
                   is_waiting ? key_of(sched, trial) : -INFINITY);
    c->n_waiting += step;
    sched->n_waiting += step;
    sched->n_in_flight -= step;
    add_class_work(sched, sched->class_idx[trial], is_waiting ? s : -s);
    sched->in_flight_s = fmax(sched->in_flight_s + (is_waiting ? -s : s), 0.0);
}

static void set_class(ssmq_sched *sched, worker *w, int64_t class_idx) {
    const int64_t classes[] = {w->class_idx, class_idx};
    if (w->class_idx == class_idx) return;
    for (int i = 0; i < 2; i++) {
        if (classes[i] == NONE) continue;
        sched->classes[classes[i]].n_ranks += i == 0 ? -1 : 1;
        add_class_work(sched, (size_t)classes[i], 0.0);
    }
    w->class_idx = class_idx;
}

static double factor_of(const ratio *own, const ratio *all) {
    if (own->n > 0) return own->measured_s / own->estimated_s;
    return all->n > 0 ? all->measured_s / all->estimated_s : 1.0;
}

/* Puts the factors to use: everything that was summed or ordered by expected time anew. */
static void refresh(ssmq_sched *sched) {
    for (size_t g = 0; g < sched->n_groups; g++) {
        sched->groups[g].factor = factor_of(&sched->groups[g].seen, &sched->seen);
    }
    sched->load_factor = factor_of(&sched->loads_seen, &sched->seen);
    sched->waiting_s = 0.0;
    sched->in_flight_s = 0.0;
    for (size_t c = 0; c < sched->n_classes; c++) {
        class_state *state = &sched->classes[c];
        state->waiting_s = 0.0;
        for (size_t place = state->begin; place < state->end; place++) {
            if (sched->longest.key[place] == -INFINITY) continue;
            const size_t trial = sched->trial_at[place];
            state->waiting_s += expected_s(sched, trial);
            sched->longest.key[place] = key_of(sched, trial);
        }
        sched->waiting_s += state->waiting_s;
        sched->fullest.key[c] = class_key(state);
    }
    for (int rank = 0; rank < sched->n_ranks; rank++) {
        const int64_t trial = sched->workers[rank].trial_idx;
        if (trial != NONE) sched->in_flight_s += expected_s(sched, (size_t)trial);
    }
    tournament_replay(&sched->longest);
    tournament_replay(&sched->fullest);
    sched->is_stale = false;
}

static void see(ratio *seen, double estimated_s, double measured_s) {
    seen->n++;
    seen->estimated_s += estimated_s;
    seen->measured_s += measured_s;
}

static bool can_learn(double estimated_s, double measured_s) {
    return estimated_s > 0.0 && isfinite(measured_s) && measured_s > 0.0;
}

typedef struct sort_row {
    uint32_t name;
    size_t trial;
} sort_row;

static int compare_rows(const void *a, const void *b) {
    const sort_row *left = a;
    const sort_row *right = b;
    if (left->name != right->name) return left->name < right->name ? -1 : 1;
    return left->trial < right->trial ? -1 : 1;
}

static bool is_first_of_name(const sort_row *rows, size_t i) {
    return i == 0 || rows[i].name != rows[i - 1].name;
}

static size_t count_names(const sort_row *rows, size_t n) {
    size_t n_names = 0;
    for (size_t i = 0; i < n; i++) n_names += is_first_of_name(rows, i);
    return n_names;
}

static ssmq_status init_groups(ssmq_sched *sched, const ssmq_sched_trial *trials, sort_row *rows,
                               ssmq_err *err) {
    size_t n = sched->n_trials;
    size_t g = 0;
    for (size_t i = 0; i < n; i++) rows[i] = (sort_row){trials[i].group, i};
    qsort(rows, n, sizeof *rows, compare_rows);
    sched->n_groups = count_names(rows, n);
    SSMQ_TRY(ssmq_calloc(&sched->groups, sched->n_groups, sizeof *sched->groups, err));
    for (size_t i = 0; i < n; i++) {
        if (is_first_of_name(rows, i)) {
            sched->groups[g++] = (group){.name = rows[i].name, .factor = 1.0};
        }
        sched->group_idx[rows[i].trial] = g - 1;
    }
    return SSMQ_OK;
}

static ssmq_status init_classes(ssmq_sched *sched, const ssmq_sched_trial *trials, sort_row *rows,
                                ssmq_err *err) {
    size_t n = sched->n_trials;
    size_t c = 0;
    for (size_t i = 0; i < n; i++) rows[i] = (sort_row){trials[i].class_, i};
    qsort(rows, n, sizeof *rows, compare_rows);
    sched->n_classes = count_names(rows, n);
    SSMQ_TRY(ssmq_calloc(&sched->classes, sched->n_classes, sizeof *sched->classes, err));
    for (size_t i = 0; i < n; i++) {
        const size_t trial = rows[i].trial;
        if (is_first_of_name(rows, i)) sched->classes[c++].begin = i;
        class_state *state = &sched->classes[c - 1];
        state->end = i + 1;
        state->n_waiting++;
        state->load_cost = fmax(state->load_cost, trials[trial].load_cost);
        sched->class_idx[trial] = c - 1;
        sched->place[trial] = i;
        sched->trial_at[i] = trial;
    }
    SSMQ_TRY(tournament_init(&sched->longest, n, err));
    SSMQ_TRY(tournament_init(&sched->fullest, sched->n_classes, err));
    /* All take part; refresh() gives them their keys. */
    for (size_t i = 0; i < n; i++) sched->longest.key[i] = 0.0;
    return SSMQ_OK;
}

static ssmq_status init(ssmq_sched *sched, const ssmq_sched_trial *trials, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    sort_row *rows = NULL;
    size_t n = sched->n_trials;
    SSMQ_TRY(ssmq_calloc(&sched->cost, n, sizeof *sched->cost, err));
    SSMQ_TRY(ssmq_calloc(&sched->class_idx, n, sizeof *sched->class_idx, err));
    SSMQ_TRY(ssmq_calloc(&sched->group_idx, n, sizeof *sched->group_idx, err));
    SSMQ_TRY(ssmq_calloc(&sched->place, n, sizeof *sched->place, err));
    SSMQ_TRY(ssmq_calloc(&sched->trial_at, n, sizeof *sched->trial_at, err));
    SSMQ_TRY(ssmq_calloc(&sched->workers, (size_t)sched->n_ranks, sizeof *sched->workers, err));
    for (size_t i = 0; i < n; i++) sched->cost[i] = trials[i].cost;
    for (int rank = 0; rank < sched->n_ranks; rank++) {
        sched->workers[rank] = (worker){.trial_idx = NONE, .class_idx = NONE};
    }
    SSMQ_TRY(ssmq_calloc(&rows, n, sizeof *rows, err));
    SSMQ_TRY_OR(init_groups(sched, trials, rows, err), free_rows);
    SSMQ_TRY_OR(init_classes(sched, trials, rows, err), free_rows);
    refresh(sched);
free_rows:
    ssmq_free(rows);
    return status;
}

ssmq_status ssmq_sched_open(ssmq_sched **out, const ssmq_sched_trial *trials, size_t n_trials,
                            int n_ranks, ssmq_sched_order order, ssmq_err *err) {
    ssmq_sched *sched = NULL;
    *out = NULL;
    SSMQ_CHECK(n_ranks > 0, err);
    for (size_t i = 0; i < n_trials; i++) {
        SSMQ_CHECK(isfinite(trials[i].cost) && trials[i].cost >= 0.0, err);
        SSMQ_CHECK(isfinite(trials[i].load_cost) && trials[i].load_cost >= 0.0, err);
    }
    SSMQ_TRY(ssmq_calloc(&sched, 1, sizeof *sched, err));
    sched->n_trials = sched->n_waiting = n_trials;
    sched->n_ranks = sched->n_alive = n_ranks;
    sched->order = order;
    ssmq_status status = init(sched, trials, err);
    if (status == SSMQ_OK) {
        *out = sched;
    } else {
        ssmq_sched_close(sched);
    }
    return status;
}

void ssmq_sched_close(ssmq_sched *sched) {
    if (sched == NULL) return;
    tournament_free(&sched->longest);
    tournament_free(&sched->fullest);
    ssmq_free(sched->cost);
    ssmq_free(sched->class_idx);
    ssmq_free(sched->group_idx);
    ssmq_free(sched->place);
    ssmq_free(sched->trial_at);
    ssmq_free(sched->classes);
    ssmq_free(sched->groups);
    ssmq_free(sched->workers);
    ssmq_free(sched);
}

static worker *worker_of(ssmq_sched *sched, int rank) {
    SCHED_REQUIRE(rank >= 0 && rank < sched->n_ranks);
    return &sched->workers[rank];
}

static int64_t best_of_class(const ssmq_sched *sched, int64_t class_idx) {
    if (class_idx == NONE) return NONE;
    const class_state *c = &sched->classes[class_idx];
    return tournament_best(&sched->longest, c->begin, c->end);
}

/* What is left for each rank; a trial in flight is on average half done. */
static double left_s(const ssmq_sched *sched) {
    return (sched->waiting_s + 0.5 * sched->in_flight_s) / sched->n_alive;
}

static double expected_with_loading_s(const ssmq_sched *sched, int64_t place,
                                      int64_t loaded_class) {
    const size_t trial = sched->trial_at[place];
    const size_t class_idx = sched->class_idx[trial];
    const double s = expected_s(sched, trial);
    if ((int64_t)class_idx == loaded_class) return s;
    return s + sched->classes[class_idx].load_cost * sched->load_factor;
}

/* Place of the trial for a rank with this class loaded; some trial waits. */
static int64_t choose(const ssmq_sched *sched, int64_t loaded_class) {
    const int64_t longest = tournament_best(&sched->longest, 0, sched->n_trials);
    SCHED_REQUIRE(longest != NONE);
    if (sched->order == SSMQ_ORDER_GRID) return longest;
    const double longest_s = expected_with_loading_s(sched, longest, loaded_class);
    const int64_t own = best_of_class(sched, loaded_class);
    if (longest_s >= urgent_share * left_s(sched)) {
        const bool is_as_good =
            own != NONE && sched->longest.key[own] >= similar_share * sched->longest.key[longest];
        return is_as_good ? own : longest;
    }
    if (own != NONE) return own;
    return best_of_class(sched, tournament_best(&sched->fullest, 0, sched->n_classes));
}

int64_t ssmq_sched_next(ssmq_sched *sched, int rank) {
    worker *asking = worker_of(sched, rank);
    SCHED_REQUIRE(asking->trial_idx == NONE);
    if (sched->is_drained || asking->is_lost) return SSMQ_SCHED_DONE;
    if (sched->n_waiting == 0) {
        return sched->n_in_flight > 0 ? SSMQ_SCHED_WAIT : SSMQ_SCHED_DONE;
    }
    if (sched->is_stale) refresh(sched);
    const int64_t place = choose(sched, asking->class_idx);
    SCHED_REQUIRE(place != NONE);
    const size_t trial = sched->trial_at[place];
    const int64_t class_idx = (int64_t)sched->class_idx[trial];
    set_waiting(sched, trial, false);
    asking->trial_idx = (int64_t)trial;
    asking->is_loading = asking->class_idx != class_idx;
    sched->n_loads += asking->is_loading;
    set_class(sched, asking, class_idx);
    return (int64_t)trial;
}

static bool is_power_of_two(size_t n) {
    return (n & (n - 1)) == 0;
}

bool ssmq_sched_finished(ssmq_sched *sched, int rank, int64_t trial_idx, double seconds,
                         double load_seconds) {
    worker *done = worker_of(sched, rank);
    if (trial_idx < 0 || done->trial_idx != trial_idx) return false;
    const size_t trial = (size_t)trial_idx;
    group *g = &sched->groups[sched->group_idx[trial]];
    const double load_cost = sched->classes[sched->class_idx[trial]].load_cost;
    done->trial_idx = NONE;
    sched->n_in_flight--;
    sched->n_finished++;
    sched->in_flight_s =
        sched->n_in_flight > 0 ? fmax(sched->in_flight_s - expected_s(sched, trial), 0.0) : 0.0;
    const bool is_known = can_learn(sched->cost[trial], seconds);
    sched->finished_s += is_known ? seconds : expected_s(sched, trial);
    if (is_known) {
        see(&g->seen, sched->cost[trial], seconds);
        see(&sched->seen, sched->cost[trial], seconds);
        sched->is_stale |= is_power_of_two(g->seen.n);
    }
    if (done->is_loading && can_learn(load_cost, load_seconds)) {
        see(&sched->loads_seen, load_cost, load_seconds);
        sched->is_stale |= is_power_of_two(sched->loads_seen.n);
    }
    return true;
}

void ssmq_sched_lost(ssmq_sched *sched, int rank) {
    worker *lost = worker_of(sched, rank);
    if (lost->is_lost) return;
    lost->is_lost = true;
    sched->n_alive--;
    set_class(sched, lost, NONE);
    if (lost->trial_idx == NONE) return;
    set_waiting(sched, (size_t)lost->trial_idx, true);
    lost->trial_idx = NONE;
}

void ssmq_sched_drain(ssmq_sched *sched) {
    sched->is_drained = true;
}

void ssmq_sched_learn(ssmq_sched *sched, uint32_t group_name, double cost, double seconds) {
    size_t low = 0;
    size_t high = sched->n_groups;
    if (!can_learn(cost, seconds)) return;
    see(&sched->seen, cost, seconds);
    sched->is_stale = true;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (sched->groups[middle].name < group_name) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low == sched->n_groups || sched->groups[low].name != group_name) return;
    see(&sched->groups[low].seen, cost, seconds);
}

void ssmq_sched_get(const ssmq_sched *sched, ssmq_sched_state *out) {
    *out = (ssmq_sched_state){.n_waiting = sched->n_waiting,
                              .n_in_flight = sched->n_in_flight,
                              .n_finished = sched->n_finished,
                              .n_loads = sched->n_loads,
                              .waiting_s = sched->waiting_s,
                              .in_flight_s = sched->in_flight_s,
                              .finished_s = sched->finished_s,
                              .n_ranks_alive = sched->n_alive};
}
