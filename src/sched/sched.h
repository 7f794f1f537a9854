/* SPDX-License-Identifier: Apache-2.0 */
/* sched/sched.h - who runs what next: a pure state machine without MPI, clock or files, driven by
 * the sweep, by `ssmq plan --simulate` and by tests.
 *
 * Longest expected first, on demand; a rank stays with the class (precision and scope) it has
 * loaded while another trial of that class is among the longer half of what waits. A trial of a
 * lost rank goes back to the queue. Every trial is finished exactly once or still pending when no
 * rank is left. */
#ifndef SSMQ_SCHED_SCHED_H
#define SSMQ_SCHED_SCHED_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_sched ssmq_sched;

typedef struct ssmq_sched_trial {
    double cost;     /* expected work */
    uint32_t class_; /* equal: the same weights serve both */
} ssmq_sched_trial;

/* Longest first with the rule on classes; or strictly by index. */
typedef enum ssmq_sched_order { SSMQ_ORDER_COST, SSMQ_ORDER_GRID } ssmq_sched_order;

/* n trials to hand out to n_ranks ranks.  Owns: *out, ssmq_sched_close().
 * Fails: NOMEM; INTERNAL (no rank, a cost that is not finite). */
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
/* The rank finished its trial. Another trial or rank than was handed out is a broken invariant. */
void ssmq_sched_finished(ssmq_sched *sched, int rank, int64_t trial_idx);
/* The rank takes no more work; its trial in flight, if any, waits again. */
void ssmq_sched_lost(ssmq_sched *sched, int rank);
/* Hand out nothing more. */
void ssmq_sched_drain(ssmq_sched *sched);

typedef struct ssmq_sched_state {
    size_t n_waiting, n_in_flight, n_finished;
    double cost_waiting, cost_in_flight, cost_finished;
    int n_ranks_alive;
} ssmq_sched_state;
void ssmq_sched_get(const ssmq_sched *sched, ssmq_sched_state *out);

#ifdef __cplusplus
}
#endif
#endif
