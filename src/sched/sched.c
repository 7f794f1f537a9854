/* SPDX-License-Identifier: Apache-2.0 */
/* Trials stand in two fixed orders: `queue`, the order in which they are handed out, and
 * `by_class`, the same but class by class. A Fenwick tree over each (Fenwick, Software: Practice
 * and Experience 24, 1994) counts the trials that wait, so that the first that waits, the first of
 * a class, and how many wait before it each take O(log n) steps, and a trial that comes back takes
 * its old place.
 *
 * What breaks an invariant could lose or double a result, and ends the program. */
#include "sched/sched.h"

#include <math.h>
#include <stdlib.h>

#include "base/mem.h"

#define SCHED_REQUIRE(cond)                                                                        \
    do {                                                                                           \
        if (!(cond)) ssmq_panic(__FILE__, __LINE__, "scheduler: broken: " #cond);                  \
    } while (0)

enum { NONE = -1 };

/* Trials that wait, counted over fixed places 0 .. n-1. */
typedef struct places {
    size_t n;
    size_t top;     /* largest power of two that is at most n */
    int32_t *tree;  /* [n + 1] */
    int64_t *trial; /* [n] trial at each place */
    size_t *place;  /* [n] place of each trial */
} places;

typedef struct worker {
    int64_t trial_idx; /* in flight; NONE if idle */
    int64_t class_idx; /* what it has loaded; NONE at first */
    bool is_lost;
} worker;

struct ssmq_sched {
    size_t n_trials;
    int n_ranks;
    int n_alive;
    bool is_drained;
    ssmq_sched_order order;
    size_t n_waiting, n_in_flight, n_finished;
    double cost_total, cost_finished;
    double *cost;        /* [n_trials] */
    int64_t *class_idx;  /* [n_trials] 0, 1, ... in order of class_ */
    size_t *class_begin; /* [classes + 1] first place of each class in by_class */
    places queue;
    places by_class;
    worker *workers; /* [n_ranks] */
};

static void count_add(places *p, size_t trial, int32_t change) {
    for (size_t i = p->place[trial] + 1; i <= p->n; i += i & (~i + 1)) p->tree[i] += change;
}

/* Waiting trials at places before `place`. */
static size_t count_before(const places *p, size_t place) {
    size_t sum = 0;
    for (size_t i = place; i > 0; i -= i & (~i + 1)) sum += (size_t)p->tree[i];
    return sum;
}

/* Place of the waiting trial that has k waiting ones before it; n if there are not so many. */
static size_t place_of_kth(const places *p, size_t k) {
    size_t at = 0;
    for (size_t step = p->top; step > 0; step /= 2) {
        if (at + step <= p->n && (size_t)p->tree[at + step] <= k) {
            at += step;
            k -= (size_t)p->tree[at];
        }
    }
    return at;
}

typedef struct sort_row {
    double cost;
    uint32_t class_;
    bool is_by_class, is_by_cost;
    size_t trial;
} sort_row;

static int compare_rows(const void *a, const void *b) {
    const sort_row *left = a;
    const sort_row *right = b;
    if (left->is_by_class && left->class_ != right->class_) {
        return left->class_ < right->class_ ? -1 : 1;
    }
    if (left->is_by_cost && left->cost != right->cost) return left->cost > right->cost ? -1 : 1;
    return left->trial < right->trial ? -1 : 1;
}

static void places_free(places *p) {
    ssmq_free(p->tree);
    ssmq_free(p->trial);
    ssmq_free(p->place);
}

static ssmq_status places_init(places *p, sort_row *rows, size_t n, ssmq_err *err) {
    p->n = n;
    for (p->top = 1; p->top <= n / 2; p->top *= 2) continue;
    SSMQ_TRY(ssmq_calloc(&p->tree, n + 1, sizeof *p->tree, err));
    SSMQ_TRY(ssmq_calloc(&p->trial, n, sizeof *p->trial, err));
    SSMQ_TRY(ssmq_calloc(&p->place, n, sizeof *p->place, err));
    qsort(rows, n, sizeof *rows, compare_rows);
    for (size_t i = 0; i < n; i++) {
        p->trial[i] = (int64_t)rows[i].trial;
        p->place[rows[i].trial] = i;
    }
    for (size_t trial = 0; trial < n; trial++) count_add(p, trial, 1);
    return SSMQ_OK;
}

/* Both orders, and the classes as 0, 1, ... */
static ssmq_status init_orders(ssmq_sched *sched, const ssmq_sched_trial *trials, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    sort_row *rows = NULL;
    size_t n = sched->n_trials;
    int64_t class_idx = NONE;
    SSMQ_TRY(ssmq_calloc(&rows, n, sizeof *rows, err));
    for (int by_class = 0; by_class <= 1; by_class++) {
        for (size_t i = 0; i < n; i++) {
            rows[i] = (sort_row){.cost = trials[i].cost,
                                 .class_ = trials[i].class_,
                                 .is_by_class = by_class == 1,
                                 .is_by_cost = sched->order == SSMQ_ORDER_COST,
                                 .trial = i};
        }
        places *p = by_class == 1 ? &sched->by_class : &sched->queue;
        SSMQ_TRY_OR(places_init(p, rows, n, err), free_rows);
    }
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || rows[i].class_ != rows[i - 1].class_) sched->class_begin[++class_idx] = i;
        sched->class_idx[rows[i].trial] = class_idx;
    }
    sched->class_begin[class_idx + 1] = n;
free_rows:
    ssmq_free(rows);
    return status;
}

ssmq_status ssmq_sched_open(ssmq_sched **out, const ssmq_sched_trial *trials, size_t n_trials,
                            int n_ranks, ssmq_sched_order order, ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    ssmq_sched *sched = NULL;
    *out = NULL;
    SSMQ_CHECK(n_ranks > 0, err);
    SSMQ_CHECK(n_trials < INT32_MAX, err);
    for (size_t i = 0; i < n_trials; i++) SSMQ_CHECK(isfinite(trials[i].cost), err);
    SSMQ_TRY(ssmq_calloc(&sched, 1, sizeof *sched, err));
    sched->n_trials = sched->n_waiting = n_trials;
    sched->n_ranks = sched->n_alive = n_ranks;
    sched->order = order;
    SSMQ_TRY_OR(ssmq_calloc(&sched->cost, n_trials, sizeof *sched->cost, err), close_sched);
    SSMQ_TRY_OR(ssmq_calloc(&sched->class_idx, n_trials, sizeof *sched->class_idx, err),
                close_sched);
    SSMQ_TRY_OR(ssmq_calloc(&sched->class_begin, n_trials + 1, sizeof *sched->class_begin, err),
                close_sched);
    SSMQ_TRY_OR(ssmq_calloc(&sched->workers, (size_t)n_ranks, sizeof *sched->workers, err),
                close_sched);
    SSMQ_TRY_OR(init_orders(sched, trials, err), close_sched);
    for (size_t i = 0; i < n_trials; i++) {
        sched->cost[i] = trials[i].cost;
        sched->cost_total += trials[i].cost;
    }
    for (int rank = 0; rank < n_ranks; rank++) {
        sched->workers[rank] = (worker){.trial_idx = NONE, .class_idx = NONE};
    }
    *out = sched;
    return SSMQ_OK;
close_sched:
    ssmq_sched_close(sched);
    return status;
}

void ssmq_sched_close(ssmq_sched *sched) {
    if (sched == NULL) return;
    places_free(&sched->queue);
    places_free(&sched->by_class);
    ssmq_free(sched->cost);
    ssmq_free(sched->class_idx);
    ssmq_free(sched->class_begin);
    ssmq_free(sched->workers);
    ssmq_free(sched);
}

static worker *worker_of(ssmq_sched *sched, int rank) {
    SCHED_REQUIRE(rank >= 0 && rank < sched->n_ranks);
    return &sched->workers[rank];
}

static void set_waiting(ssmq_sched *sched, size_t trial, bool is_waiting) {
    count_add(&sched->queue, trial, is_waiting ? 1 : -1);
    count_add(&sched->by_class, trial, is_waiting ? 1 : -1);
    sched->n_waiting += is_waiting ? 1 : (size_t)-1;
    sched->n_in_flight += is_waiting ? (size_t)-1 : 1;
}

/* First waiting trial of the class if it is among the longer half of all that wait; else NONE. */
static int64_t next_of_class(const ssmq_sched *sched, int64_t class_idx) {
    if (class_idx == NONE || sched->order != SSMQ_ORDER_COST) return NONE;
    size_t begin = sched->class_begin[class_idx];
    size_t place = place_of_kth(&sched->by_class, count_before(&sched->by_class, begin));
    if (place >= sched->class_begin[class_idx + 1]) return NONE;
    int64_t trial = sched->by_class.trial[place];
    size_t n_longer = count_before(&sched->queue, sched->queue.place[trial]);
    return n_longer < (sched->n_waiting + 1) / 2 ? trial : NONE;
}

int64_t ssmq_sched_next(ssmq_sched *sched, int rank) {
    worker *asking = worker_of(sched, rank);
    SCHED_REQUIRE(asking->trial_idx == NONE);
    if (sched->is_drained || asking->is_lost) return SSMQ_SCHED_DONE;
    if (sched->n_waiting == 0) {
        return sched->n_in_flight > 0 ? SSMQ_SCHED_WAIT : SSMQ_SCHED_DONE;
    }
    int64_t trial = next_of_class(sched, asking->class_idx);
    if (trial == NONE) {
        size_t place = place_of_kth(&sched->queue, 0);
        SCHED_REQUIRE(place < sched->n_trials);
        trial = sched->queue.trial[place];
    }
    set_waiting(sched, (size_t)trial, false);
    asking->trial_idx = trial;
    asking->class_idx = sched->class_idx[trial];
    return trial;
}

void ssmq_sched_finished(ssmq_sched *sched, int rank, int64_t trial_idx) {
    worker *done = worker_of(sched, rank);
    SCHED_REQUIRE(trial_idx >= 0);
    SCHED_REQUIRE(done->trial_idx == trial_idx);
    done->trial_idx = NONE;
    sched->n_in_flight--;
    sched->n_finished++;
    sched->cost_finished += sched->cost[trial_idx];
}

void ssmq_sched_lost(ssmq_sched *sched, int rank) {
    worker *lost = worker_of(sched, rank);
    if (lost->is_lost) return;
    lost->is_lost = true;
    sched->n_alive--;
    if (lost->trial_idx == NONE) return;
    set_waiting(sched, (size_t)lost->trial_idx, true);
    lost->trial_idx = NONE;
}

void ssmq_sched_drain(ssmq_sched *sched) {
    sched->is_drained = true;
}

void ssmq_sched_get(const ssmq_sched *sched, ssmq_sched_state *out) {
    *out = (ssmq_sched_state){.n_waiting = sched->n_waiting,
                              .n_in_flight = sched->n_in_flight,
                              .n_finished = sched->n_finished,
                              .cost_finished = sched->cost_finished,
                              .n_ranks_alive = sched->n_alive};
    for (int rank = 0; rank < sched->n_ranks; rank++) {
        int64_t trial = sched->workers[rank].trial_idx;
        if (trial != NONE) out->cost_in_flight += sched->cost[trial];
    }
    /* The difference of sums is exact only up to rounding. */
    double waiting = sched->cost_total - out->cost_finished - out->cost_in_flight;
    out->cost_waiting = sched->n_waiting > 0 && waiting > 0.0 ? waiting : 0.0;
}
