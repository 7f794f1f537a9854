/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/resume.h"

#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "journal/journal.h"

/* A trial that took its process down this often is left alone. */
enum { MAX_CRASHES = 2 };
static const double s_per_ms = 1e-3;

static bool has_outcome(const ssmq_journal_entry *entry, const ssmq_todo_wish *wish) {
    if (entry == NULL || entry->status == SSMQ_N_STATUSES) return false;
    return !wish->retry_failed || entry->status == SSMQ_OK || entry->status == SSMQ_SKIP;
}

static ssmq_status sort_out(ssmq_todo *out, const ssmq_replay *replay, int64_t trial_idx,
                            const ssmq_todo_wish *wish, const ssmq_worker_context *context,
                            ssmq_err *err) {
    const ssmq_journal_entry *entry = ssmq_replay_find(replay, context->grid->trials[trial_idx].id);
    if (has_outcome(entry, wish)) {
        out->n_done++;
        if (entry->status == SSMQ_OK) {
            out->done[out->n_done_ok++] =
                (ssmq_task_done){trial_idx, (double)entry->duration_ms * s_per_ms};
        }
        out->n_failed += entry->status != SSMQ_OK && entry->status != SSMQ_SKIP;
        return SSMQ_OK;
    }
    bool is_crasher = entry != NULL && entry->n_crashes >= MAX_CRASHES && !wish->retry_failed;
    if (is_crasher) {
        ssmq_log(SSMQ_LOG_WARN, "crashed %lld times, left alone: %s", (long long)entry->n_crashes,
                 context->grid->trials[trial_idx].key);
        out->n_done++;
        out->n_failed++;
        return ssmq_worker_record_crashed(context, trial_idx, entry->attempts, err);
    }
    out->orders[out->n].trial_idx = trial_idx;
    out->orders[out->n].attempt = entry != NULL ? entry->attempts + 1 : 1;
    out->n++;
    return SSMQ_OK;
}

ssmq_status ssmq_todo_init(ssmq_todo *out, const char *run_dir, const ssmq_todo_wish *wish,
                           const ssmq_worker_context *context, ssmq_err *err) {
    const ssmq_grid *grid = context->grid;
    const ssmq_grid *selected = wish->selected;
    ssmq_replay replay = {0};
    ssmq_status status = SSMQ_OK;
    memset(out, 0, sizeof *out);
    SSMQ_TRY(ssmq_replay_init(&replay, run_dir, err));
    if (replay.n_bad_lines > 0) {
        ssmq_log(SSMQ_LOG_WARN, "%s: %lld damaged or unfinished journal lines left out", run_dir,
                 (long long)replay.n_bad_lines);
    }
    SSMQ_TRY_OR(ssmq_calloc(&out->orders, grid->n_trials, sizeof *out->orders, err), free_replay);
    SSMQ_TRY_OR(ssmq_calloc(&out->done, grid->n_trials, sizeof *out->done, err), free_replay);
    /* Both grids are in the same order; the selected one is a part of the other. */
    for (size_t i = 0, s = 0; i < grid->n_trials && s < selected->n_trials; i++) {
        if (strcmp(grid->trials[i].id, selected->trials[s].id) != 0) continue;
        s++;
        SSMQ_TRY_OR(sort_out(out, &replay, (int64_t)i, wish, context, err), free_replay);
    }
free_replay:
    ssmq_replay_free(&replay);
    if (status != SSMQ_OK) ssmq_todo_free(out);
    return status;
}

void ssmq_todo_free(ssmq_todo *todo) {
    ssmq_free(todo->orders);
    ssmq_free(todo->done);
    memset(todo, 0, sizeof *todo);
}
