/* SPDX-License-Identifier: Apache-2.0 */
/* sched_getaffinity(2) is Linux's own. */
#define _GNU_SOURCE
#include "base/cores.h"

#include <sched.h>
#include <unistd.h>

int ssmq_cores_per_rank(int n_local_ranks) {
    long n_online = sysconf(_SC_NPROCESSORS_ONLN);
    long n_mine = n_online;
    cpu_set_t mine;
    if (sched_getaffinity(0, sizeof mine, &mine) == 0) n_mine = CPU_COUNT(&mine);
    if (n_mine >= n_online) n_mine = n_online / n_local_ranks;
    return n_mine > 0 ? (int)n_mine : 1;
}
