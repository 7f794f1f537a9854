/* SPDX-License-Identifier: Apache-2.0 */
/* Discrete events: a heap of busy ranks by the time they end. */
#include "sched/simulate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

static const double us_per_ns = 1e-3;

typedef struct event {
    double end_s;
    int rank;
} event;

typedef struct simulation {
    const ssmq_sim_setup *setup;
    ssmq_sim_result *out;
    ssmq_sched *sched;
    event *heap; /* [n_ranks] */
    int n_busy;
    int64_t *trial_of; /* [n_ranks] */
    int64_t *class_of; /* [n_ranks] loaded; -1 at first */
    double *load_s;    /* [n_ranks] of the trial in flight; -1: none */
    int64_t sched_ns;
} simulation;

/* Of equal times the lower rank, as the coordinator serves them. */
static bool is_earlier(event a, event b) {
    return a.end_s < b.end_s || (a.end_s == b.end_s && a.rank < b.rank);
}

static void push(simulation *s, event new_event) {
    int at = s->n_busy++;
    while (at > 0 && is_earlier(new_event, s->heap[(at - 1) / 2])) {
        s->heap[at] = s->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    s->heap[at] = new_event;
}

static event pop(simulation *s) {
    const event first = s->heap[0];
    const event last = s->heap[--s->n_busy];
    int at = 0;
    for (;;) {
        int child = 2 * at + 1;
        if (child >= s->n_busy) break;
        if (child + 1 < s->n_busy && is_earlier(s->heap[child + 1], s->heap[child])) child++;
        if (!is_earlier(s->heap[child], last)) break;
        s->heap[at] = s->heap[child];
        at = child;
    }
    s->heap[at] = last;
    return first;
}

static double time_of(const simulation *s, size_t trial) {
    return s->setup->trial_s != NULL ? s->setup->trial_s[trial] : s->setup->trials[trial].cost;
}

static void ask(simulation *s, int rank, double now_s) {
    const int64_t begin_ns = ssmq_now_ns();
    const int64_t trial = ssmq_sched_next(s->sched, rank);
    s->sched_ns += ssmq_now_ns() - begin_ns;
    /* Without losses a trial in flight never comes back: who waits is done. */
    if (trial < 0) return;
    const ssmq_sched_trial *t = &s->setup->trials[trial];
    ssmq_sim_rank *r = &s->out->ranks[rank];
    s->load_s[rank] = -1.0;
    if (s->class_of[rank] != (int64_t)t->class_) {
        s->load_s[rank] = t->load_cost;
        s->class_of[rank] = t->class_;
        r->load_s += t->load_cost;
        r->n_loads++;
    }
    const double work_s = time_of(s, (size_t)trial);
    s->trial_of[rank] = trial;
    r->trial_s += work_s;
    r->n_trials++;
    push(s, (event){now_s + fmax(s->load_s[rank], 0.0) + work_s, rank});
}

static void finish(simulation *s, event done) {
    const int64_t trial = s->trial_of[done.rank];
    const int64_t begin_ns = ssmq_now_ns();
    const bool is_news = ssmq_sched_finished(s->sched, done.rank, trial, time_of(s, (size_t)trial),
                                             s->load_s[done.rank]);
    s->sched_ns += ssmq_now_ns() - begin_ns;
    if (!is_news) return;
    s->out->makespan_s = done.end_s;
    if (s->setup->rank_of != NULL) s->setup->rank_of[trial] = done.rank;
}

static void run(simulation *s) {
    for (int rank = 0; rank < s->setup->n_ranks; rank++) ask(s, rank, 0.0);
    while (s->n_busy > 0) {
        const event done = pop(s);
        finish(s, done);
        ask(s, done.rank, done.end_s);
    }
}

static int compare_classes(const void *a, const void *b) {
    const ssmq_sched_trial *left = a;
    const ssmq_sched_trial *right = b;
    if (left->class_ != right->class_) return left->class_ < right->class_ ? -1 : 1;
    return (left->load_cost > right->load_cost) - (left->load_cost < right->load_cost);
}

static ssmq_status find_bound(const ssmq_sim_setup *setup, ssmq_sim_result *out, ssmq_err *err) {
    const size_t n = setup->n_trials;
    ssmq_sched_trial *rows = NULL;
    double sum_s = 0.0;
    SSMQ_TRY(ssmq_calloc(&rows, n, sizeof *rows, err));
    for (size_t i = 0; i < n; i++) {
        const double s = setup->trial_s != NULL ? setup->trial_s[i] : setup->trials[i].cost;
        rows[i] = setup->trials[i];
        sum_s += s;
        out->longest_s = fmax(out->longest_s, s + rows[i].load_cost);
    }
    qsort(rows, n, sizeof *rows, compare_classes);
    /* Of a class, the least that its trials say. */
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && rows[i].class_ == rows[i - 1].class_) continue;
        out->n_classes++;
        out->least_loading_s += rows[i].load_cost;
    }
    out->share_s = (sum_s + out->least_loading_s) / setup->n_ranks;
    out->bound_s = fmax(out->longest_s, out->share_s);
    ssmq_free(rows);
    return SSMQ_OK;
}

static void sum_up(simulation *s) {
    ssmq_sim_result *out = s->out;
    for (int rank = 0; rank < s->setup->n_ranks; rank++) {
        out->trial_s += out->ranks[rank].trial_s;
        out->load_s += out->ranks[rank].load_s;
        out->n_loads += out->ranks[rank].n_loads;
    }
    if (s->setup->n_trials > 0) {
        out->sched_us = (double)s->sched_ns * us_per_ns / (double)s->setup->n_trials;
    }
}

static ssmq_status init(simulation *s, ssmq_err *err) {
    const ssmq_sim_setup *setup = s->setup;
    const size_t n_ranks = (size_t)setup->n_ranks;
    SSMQ_CHECK(setup->n_ranks > 0, err);
    SSMQ_TRY(find_bound(setup, s->out, err));
    SSMQ_TRY(ssmq_calloc(&s->out->ranks, n_ranks, sizeof *s->out->ranks, err));
    SSMQ_TRY(ssmq_calloc(&s->heap, n_ranks, sizeof *s->heap, err));
    SSMQ_TRY(ssmq_calloc(&s->trial_of, n_ranks, sizeof *s->trial_of, err));
    SSMQ_TRY(ssmq_calloc(&s->class_of, n_ranks, sizeof *s->class_of, err));
    SSMQ_TRY(ssmq_calloc(&s->load_s, n_ranks, sizeof *s->load_s, err));
    for (size_t rank = 0; rank < n_ranks; rank++) s->class_of[rank] = -1;
    const int64_t begin_ns = ssmq_now_ns();
    SSMQ_TRY(ssmq_sched_open(&s->sched, setup->trials, setup->n_trials, setup->n_ranks,
                             setup->order, err));
    s->sched_ns += ssmq_now_ns() - begin_ns;
    return SSMQ_OK;
}

ssmq_status ssmq_simulate(const ssmq_sim_setup *setup, ssmq_sim_result *out, ssmq_err *err) {
    simulation s = {.setup = setup, .out = out};
    memset(out, 0, sizeof *out);
    ssmq_status status = init(&s, err);
    if (status == SSMQ_OK) {
        run(&s);
        sum_up(&s);
    } else {
        ssmq_free(out->ranks);
        out->ranks = NULL;
    }
    ssmq_sched_close(s.sched);
    ssmq_free(s.heap);
    ssmq_free(s.trial_of);
    ssmq_free(s.class_of);
    ssmq_free(s.load_s);
    return status;
}
