/* SPDX-License-Identifier: Apache-2.0 */
/* cli/shard.h - a grid in N parts of about equal duration, for N sweeps that know nothing of each
 * other, such as the tasks of a Slurm job array. */
#ifndef SSMQ_CLI_SHARD_H
#define SSMQ_CLI_SHARD_H

#include "base/status.h"
#include "grid/grid.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SSMQ_MAX_SHARDS_OF_GRID = 65536 };

typedef struct ssmq_shard {
    int idx; /* of n, from 0 */
    int n;
} ssmq_shard;

/* "I/N".  Fails: CONFIG. */
SSMQ_MUST_USE ssmq_status ssmq_shard_read(ssmq_shard *out, const char *text, ssmq_err *err);

/* Leaves the trials that rank idx of n would get by the scheduler's own simulation, in grid order:
 * a function of the grid alone. Every trial is in one shard.  Fails: NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_shard_select(ssmq_grid *grid, ssmq_shard shard, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
