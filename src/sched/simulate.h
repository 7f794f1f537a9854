/* SPDX-License-Identifier: Apache-2.0 */
/* sched/simulate.h - the sweep's scheduler under a virtual clock: what a schedule would come to on
 * ranks that nobody has yet. */
#ifndef SSMQ_SCHED_SIMULATE_H
#define SSMQ_SCHED_SIMULATE_H

#include "sched/sched.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_sim_setup {
    const ssmq_sched_trial *trials; /* what the scheduler is told */
    size_t n_trials;
    const double *trial_s; /* [n_trials] what they take; NULL: their cost */
    int n_ranks;
    ssmq_sched_order order;
    int32_t *rank_of; /* [n_trials] receives who did each, or NULL */
} ssmq_sim_setup;

typedef struct ssmq_sim_rank {
    size_t n_trials, n_loads;
    double trial_s, load_s; /* what it worked */
} ssmq_sim_rank;

typedef struct ssmq_sim_result {
    double makespan_s;
    /* No schedule is shorter than the longest trial with its loading, nor than an equal share of
     * all trials and of one loading of every class. */
    double bound_s;
    double longest_s;       /* the first of the two */
    double share_s;         /* the second */
    double least_loading_s; /* of every class once, over all ranks */
    double trial_s, load_s; /* worked over all ranks */
    size_t n_loads, n_classes;
    double sched_us;      /* of the scheduler itself, by the host's clock, a trial */
    ssmq_sim_rank *ranks; /* [n_ranks] */
} ssmq_sim_result;

/* Every trial takes its time, and its class's load_cost before it on a rank that has another class
 * loaded. All ranks ask at time 0.
 * Owns: out->ranks, ssmq_free().  Fails: as ssmq_sched_open(). */
SSMQ_MUST_USE ssmq_status ssmq_simulate(const ssmq_sim_setup *setup, ssmq_sim_result *out,
                                        ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
