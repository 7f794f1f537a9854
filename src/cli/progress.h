/* SPDX-License-Identifier: Apache-2.0 */
/* cli/progress.h - the line that says how far a sweep is. */
#ifndef SSMQ_CLI_PROGRESS_H
#define SSMQ_CLI_PROGRESS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_progress {
    size_t n_done, n_total, n_failed; /* trials of all sessions */
    double cost_done, cost_total;     /* of this session */
    double elapsed_s;                 /* of this session */
    int n_ranks_busy, n_ranks;
} ssmq_progress;

/* "12/96 trials, 1 failed, 3/4 ranks busy, 1m10s, about 8m left" into out. The time left is the
 * time so far scaled by expected work, "?" before anything has finished. */
void ssmq_progress_text(const ssmq_progress *progress, char *out, size_t out_bytes);

/* "45s", "1m10s", "2h05m" into out. */
void ssmq_duration_text(double seconds, char *out, size_t out_bytes);

#ifdef __cplusplus
}
#endif
#endif
