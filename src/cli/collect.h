/* SPDX-License-Identifier: Apache-2.0 */
/* cli/collect.h - journals of hosts that do not see the root's run folder, copied into it. */
#ifndef SSMQ_CLI_COLLECT_H
#define SSMQ_CLI_COLLECT_H

#include <stdbool.h>

#include "base/status.h"
#include "comm/comm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Every journal in run_dir of the first rank of each host that is_apart goes to the root, which
 * keeps it in its own run_dir under a number made of the host's name and the writer's rank. A copy
 * replaces an older one of the same journal, and nothing else. Nobody may be writing a journal.
 * Ranks: all; the same status on all.  Fails: IO, NOMEM; what was copied by then stays. */
SSMQ_MUST_USE ssmq_status ssmq_collect(ssmq_comm *comm, const char *run_dir, bool is_apart,
                                       ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
