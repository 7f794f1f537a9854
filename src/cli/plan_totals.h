/* SPDX-License-Identifier: Apache-2.0 */
/* cli/plan_totals.h - what `ssmq plan` says beside the grid: its size, the schedule it would come
 * to on some number of ranks, the trial that takes most memory. */
#ifndef SSMQ_CLI_PLAN_TOTALS_H
#define SSMQ_CLI_PLAN_TOTALS_H

#include "cli/inputs.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_plan_schedule {
    int n_ranks;
    bool is_long;
    double error;  /* durations differ from estimates by up to this factor for each task and
                      precision, and by its fifth root for each trial; 1 for none */
    uint64_t seed; /* of those errors */
} ssmq_plan_schedule;

/* To standard error: trials, expected hours and the makespan; with is_long all of the simulated
 * schedule beside its lower bound, and a line of CSV for each rank to standard output: rank,
 * trials, loads, trial_s, load_s, idle_s, idle_share.  Fails: NOMEM, INTERNAL. */
SSMQ_MUST_USE ssmq_status ssmq_plan_print_schedule(const ssmq_grid *grid,
                                                   const ssmq_plan_schedule *schedule,
                                                   ssmq_err *err);
/* To standard error: the trial that takes most of a device, beside the smallest device here. */
void ssmq_plan_print_largest(const ssmq_grid *grid, const ssmq_loaded *loaded);

#ifdef __cplusplus
}
#endif
#endif
