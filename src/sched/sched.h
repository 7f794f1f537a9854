/* SPDX-License-Identifier: Apache-2.0 */
/* sched/sched.h - who runs what next: a pure state machine without MPI, clock or files, driven by
 * the sweep, by `ssmq plan --simulate` and by tests.
 *
 * COST   A trial is expected to take cost times the factor of its group. The factor is the ratio of
 *        measured to estimated time over the group's finished trials; before the first of them,
 *        that of all finished trials, and 1 before any. So order within a group never changes.
 * ORDER  An idle rank gets, in this order of preference,
 *        1. the longest trial that waits, if that has become urgent: with loading it would take
 *           most of what is left for every rank on average, and would then end after everything
 *           else; unless the class it has loaded has a trial nearly as long;
 *        2. the longest that waits of the class (equal weights) it has loaded;
 *        3. the longest of the class with most expected work for each rank that would then serve
 *           it. Classes that nobody serves are so begun in order of their work, and at the tail
 *           those that others serve are shared: no rank is idle while a trial waits.
 * LOSS   A trial of a lost rank waits again. Every trial is finished exactly once or still pending
 *        when no rank is left. Reports that come twice, or late from a rank taken for lost, change
 *        nothing. */
#ifndef SSMQ_SCHED_SCHED_H
#define SSMQ_SCHED_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_sched ssmq_sched;

typedef struct ssmq_sched_trial {
    double cost;      /* estimated time, >= 0; 0 is never learnt from */
    double load_cost; /* estimated time of loading its class, >= 0 */
    uint32_t class_;  /* equal: the same weights serve both */
    uint32_t group;   /* equal: estimates err alike (task and precision) */
} ssmq_sched_trial;

/* As above; or strictly by index. */
typedef enum ssmq_sched_order { SSMQ_ORDER_COST, SSMQ_ORDER_GRID } ssmq_sched_order;

/* n trials to hand out to n_ranks ranks.  Owns: *out, ssmq_sched_close().
 * Fails: NOMEM; INTERNAL (no rank, a cost that is negative or not finite). */
SSMQ_MUST_USE ssmq_status ssmq_sched_open(ssmq_sched **out, const ssmq_sched_trial *trials,
                                          size_t n_trials, int n_ranks, ssmq_sched_order order,
                                          ssmq_err *err);
void ssmq_sched_close(ssmq_sched *sched);

/* What a rank that asks for work gets. */
enum { SSMQ_SCHED_DONE = -1, SSMQ_SCHED_WAIT = -2 };

/* Next trial index for an idle rank; SSMQ_SCHED_DONE if nothing will come any more (nothing
 * waits, and nothing in flight could come back, or the schedule is drained);
 * SSMQ_SCHED_WAIT if a trial in flight elsewhere might come back. A lost rank gets SSMQ_SCHED_DONE.
 */
int64_t ssmq_sched_next(ssmq_sched *sched, int rank);
/* The rank finished its trial, in `seconds` without loading, and spent load_seconds beside them,
 * which counts as loading if the rank had another class before. What is not positive and finite is
 * not learnt from. False, and nothing changes, if the rank has not this trial in flight. */
SSMQ_MUST_USE bool ssmq_sched_finished(ssmq_sched *sched, int rank, int64_t trial_idx,
                                       double seconds, double load_seconds);
/* The rank takes no more work; its trial in flight, if any, waits again. */
void ssmq_sched_lost(ssmq_sched *sched, int rank);
/* Hand out nothing more. */
void ssmq_sched_drain(ssmq_sched *sched);
/* A trial of this group and cost, none of these here, took so long in an earlier session. */
void ssmq_sched_learn(ssmq_sched *sched, uint32_t group, double cost, double seconds);

typedef struct ssmq_sched_state {
    size_t n_waiting, n_in_flight, n_finished;
    size_t n_loads; /* times a rank was given another class than it had */
    /* Expected time, without loading; of finished trials the measured one where it is known. */
    double waiting_s, in_flight_s, finished_s;
    int n_ranks_alive;
} ssmq_sched_state;
void ssmq_sched_get(const ssmq_sched *sched, ssmq_sched_state *out);

#ifdef __cplusplus
}
#endif
#endif
