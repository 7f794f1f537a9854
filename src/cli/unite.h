/* SPDX-License-Identifier: Apache-2.0 */
/* cli/unite.h - several run folders of one grid, such as its shards, as one. */
#ifndef SSMQ_CLI_UNITE_H
#define SSMQ_CLI_UNITE_H

#include <stddef.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Copies the journals of the runs into the run folder `into`, which is made if it is not there and
 * can be resumed like any other; the runs are not changed. Interrupted, the same call goes on. What
 * is derived from journals is left to ssmq_merge().
 * Fails: CONFIG (no run folder; another grid, configuration or inputs than the first's; a trial
 * with different results in two of them: the message names it, the field and both values),
 * IO, NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_unite(const char *into, const char *const *runs, size_t n_runs,
                                     ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
