/* SPDX-License-Identifier: Apache-2.0 */
/* cli/resume.h - what is still to do of a grid, given the journals of its run folder. */
#ifndef SSMQ_CLI_RESUME_H
#define SSMQ_CLI_RESUME_H

#include "base/status.h"
#include "cli/coordinate.h"
#include "cli/worker.h"
#include "grid/grid.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_todo {
    ssmq_task_order *orders; /* in grid order */
    size_t n;
    ssmq_task_done *done; /* [n_done_ok] selected trials that went well */
    size_t n_done_ok;
    size_t n_done;   /* selected trials that have an outcome already */
    size_t n_failed; /* of those, neither ok nor skipped */
} ssmq_todo;

typedef struct ssmq_todo_wish {
    const ssmq_grid *selected; /* part of the grid, in its order */
    bool retry_failed;         /* outcomes that are neither ok nor skipped are to do again */
} ssmq_todo_wish;

/* Reads the journals; trials that took their process down twice get their record through
 * `context` here and are done.
 * Owns: *out, ssmq_todo_free().  Fails: IO, NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_todo_init(ssmq_todo *out, const char *run_dir,
                                         const ssmq_todo_wish *wish,
                                         const ssmq_worker_context *context, ssmq_err *err);
void ssmq_todo_free(ssmq_todo *todo);

#ifdef __cplusplus
}
#endif
#endif
