/* SPDX-License-Identifier: Apache-2.0 */
/* cli/merge.h - journals of a run folder to metrics.jsonl and results.h5, both by atomic replace.
 * The same journals give the same bytes. */
#ifndef SSMQ_CLI_MERGE_H
#define SSMQ_CLI_MERGE_H

#include <stddef.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_run_counts {
    size_t n_planned;
    size_t n_finished;
    size_t by_status[SSMQ_N_STATUSES];
    size_t n_failed; /* finished, neither ok nor skipped */
} ssmq_run_counts;

/* Rows in the order of plan.csv.  Fails: CONFIG (not a run folder), IO, NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_merge(const char *run_dir, ssmq_run_counts *counts, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
