/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/sched_trials.h"

#include <string.h>

#include "base/hash.h"

ssmq_sched_trial ssmq_sched_trial_of(const ssmq_trial *trial) {
    const char *precision = trial->precision.name;
    const char *task = ssmq_task_name(trial->task);
    const uint32_t crc = ssmq_crc32c(0, precision, strlen(precision) + 1);
    return (ssmq_sched_trial){
        .cost = trial->cost_s,
        .load_cost = trial->load_cost_s,
        .class_ = ssmq_crc32c(crc, trial->scope, strlen(trial->scope)),
        .group = ssmq_crc32c(crc, task, strlen(task)),
    };
}
