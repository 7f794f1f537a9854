/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/progress.h"

#include <stdio.h>

enum { DURATION_BYTES = 32 };

void ssmq_duration_text(double seconds, char *out, size_t out_bytes) {
    long long s = seconds > 0 ? (long long)(seconds + 0.5) : 0;
    if (s < 60) {
        (void)snprintf(out, out_bytes, "%llds", s);
    } else if (s < 3600) {
        (void)snprintf(out, out_bytes, "%lldm%02llds", s / 60, s % 60);
    } else {
        (void)snprintf(out, out_bytes, "%lldh%02lldm", s / 3600, s / 60 % 60);
    }
}

void ssmq_progress_text(const ssmq_progress *progress, char *out, size_t out_bytes) {
    char elapsed[DURATION_BYTES];
    char left[DURATION_BYTES] = "?";
    ssmq_duration_text(progress->elapsed_s, elapsed, sizeof elapsed);
    if (progress->cost_done > 0) {
        double cost_left = progress->cost_total - progress->cost_done;
        ssmq_duration_text(progress->elapsed_s * cost_left / progress->cost_done, left,
                           sizeof left);
    }
    (void)snprintf(out, out_bytes,
                   "%zu/%zu trials, %zu failed, %d/%d ranks busy, %s, about %s left",
                   progress->n_done, progress->n_total, progress->n_failed, progress->n_ranks_busy,
                   progress->n_ranks, elapsed, left);
}
