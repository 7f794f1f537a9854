/* SPDX-License-Identifier: Apache-2.0 */
/* cli/coordinate.h - the root's side of a sweep: hands trials to ranks that ask, watches limits and
 * signals, shows progress, rebuilds the results now and then. It computes nothing itself; the
 * root's own worker is a thread beside it. */
#ifndef SSMQ_CLI_COORDINATE_H
#define SSMQ_CLI_COORDINATE_H

#include <signal.h>

#include "base/status.h"
#include "cli/channel.h"
#include "grid/grid.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A trial that is still to do. */
typedef struct ssmq_task_order {
    int64_t trial_idx;
    int64_t attempt; /* 1 for the first */
} ssmq_task_order;

/* A trial of an earlier session that went well. */
typedef struct ssmq_task_done {
    int64_t trial_idx;
    double runtime_s; /* without loading; negative: not known */
} ssmq_task_done;

typedef struct ssmq_coordinate {
    const ssmq_config *config;
    const ssmq_grid *grid;
    const char *run_dir;
    ssmq_comm *comm;
    ssmq_mailbox *mailbox; /* of the root's worker */
    const ssmq_task_order *todo;
    size_t n_todo;
    const ssmq_task_done *done; /* for estimates */
    size_t n_done_ok;
    size_t n_done_before; /* finished in earlier sessions, well or not */
    size_t n_failed_before;
    const volatile sig_atomic_t *stop_signal; /* not 0: a signal asked to stop */
} ssmq_coordinate;

typedef struct ssmq_coordinate_result {
    size_t n_left;     /* trials not finished */
    bool was_drained;  /* by signal or time limit */
    bool was_given_up; /* by fail_fast or max_failures */
} ssmq_coordinate_result;

typedef struct ssmq_coordinator ssmq_coordinator;

/* Takes all memory that coordination needs, so that it cannot fail for want of it once workers
 * listen. setup is copied; what it points to is borrowed.
 * Owns: *out, ssmq_coordinator_close().  Ranks: root.  Fails: NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_coordinator_open(ssmq_coordinator **out,
                                                const ssmq_coordinate *setup, ssmq_err *err);
void ssmq_coordinator_close(ssmq_coordinator *coordinator); /* NULL is a no-op */
/* Returns when every worker has stopped or retired; once in a coordinator's life.
 * Ranks: root.  Fails: INTERNAL. */
SSMQ_MUST_USE ssmq_status ssmq_coordinator_run(ssmq_coordinator *coordinator,
                                               ssmq_coordinate_result *result, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
