/* SPDX-License-Identifier: Apache-2.0 */
/* cli/sched_trials.h - trials of the grid as the scheduler sees them. */
#ifndef SSMQ_CLI_SCHED_TRIALS_H
#define SSMQ_CLI_SCHED_TRIALS_H

#include "grid/grid.h"
#include "sched/sched.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Trials of equal precision and scope are a class: they share loaded weights; trials of equal task
 * and precision are a group. Both are named by checksums: a collision costs a needless load or a
 * worse estimate, never a wrong result. */
ssmq_sched_trial ssmq_sched_trial_of(const ssmq_trial *trial);

#ifdef __cplusplus
}
#endif
#endif
