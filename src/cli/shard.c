/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/shard.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/sched_trials.h"
#include "sched/simulate.h"

ssmq_status ssmq_shard_read(ssmq_shard *out, const char *text, ssmq_err *err) {
    char again[48];
    char *slash = NULL;
    const long idx = strtol(text, &slash, 10);
    const long n = *slash == '/' ? strtol(slash + 1, NULL, 10) : 0;
    (void)snprintf(again, sizeof again, "%ld/%ld", idx, n);
    /* Read back: nothing but two plain numbers passes. */
    if (strcmp(again, text) != 0 || n < 1 || n > SSMQ_MAX_SHARDS_OF_GRID || idx < 0 || idx >= n) {
        return SSMQ_FAIL(err, CONFIG,
                         "--shard: '%s' is no shard; allowed is I/N with N from 1 to %d and I from "
                         "0 to N - 1",
                         text, SSMQ_MAX_SHARDS_OF_GRID);
    }
    *out = (ssmq_shard){.idx = (int)idx, .n = (int)n};
    return SSMQ_OK;
}

static ssmq_status deal(const ssmq_grid *grid, int n_shards, int32_t *shard_of, ssmq_err *err) {
    ssmq_sched_trial *trials = NULL;
    ssmq_sim_result sim = {0};
    SSMQ_TRY(ssmq_calloc(&trials, grid->n_trials, sizeof *trials, err));
    for (size_t i = 0; i < grid->n_trials; i++) trials[i] = ssmq_sched_trial_of(&grid->trials[i]);
    const ssmq_sim_setup setup = {.trials = trials,
                                  .n_trials = grid->n_trials,
                                  .n_ranks = n_shards,
                                  .order = SSMQ_ORDER_COST,
                                  .rank_of = shard_of};
    const ssmq_status status = ssmq_simulate(&setup, &sim, err);
    ssmq_free(sim.ranks);
    ssmq_free(trials);
    return status;
}

ssmq_status ssmq_shard_select(ssmq_grid *grid, ssmq_shard shard, ssmq_err *err) {
    int32_t *shard_of = NULL;
    size_t n_kept = 0;
    if (grid->n_trials == 0) return SSMQ_OK;
    SSMQ_TRY(ssmq_calloc(&shard_of, grid->n_trials, sizeof *shard_of, err));
    ssmq_status status = deal(grid, shard.n, shard_of, err);
    for (size_t i = 0; i < grid->n_trials && status == SSMQ_OK; i++) {
        if (shard_of[i] == shard.idx) grid->trials[n_kept++] = grid->trials[i];
    }
    if (status == SSMQ_OK) grid->n_trials = n_kept;
    ssmq_free(shard_of);
    return status;
}
