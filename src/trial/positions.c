/* SPDX-License-Identifier: Apache-2.0 */
#include "trial/positions.h"

#include "base/mem.h"
#include "trial/stats.h"

size_t trial_bucket_of(int64_t position) {
    size_t k = 0;
    while (position >> (k + 1) > 0) k++;
    return k;
}

ssmq_status trial_positions_init(trial_positions *out, int64_t longest, size_t n_blocks,
                                 ssmq_err *err) {
    *out = (trial_positions){.n_buckets = trial_bucket_of(longest) + 1, .n_blocks = n_blocks};
    const size_t n = out->n_buckets * n_blocks;
    SSMQ_TRY(ssmq_calloc(&out->sums, n, sizeof *out->sums, err));
    return ssmq_calloc(&out->counts, n, sizeof *out->counts, err);
}

void trial_positions_free(trial_positions *p) {
    ssmq_free(p->sums);
    ssmq_free(p->counts);
}

void trial_positions_add(trial_positions *p, size_t bucket, size_t block, double value) {
    p->sums[bucket * p->n_blocks + block] += value;
    p->counts[bucket * p->n_blocks + block]++;
}

ssmq_status trial_positions_sem(const trial_positions *p, size_t n, double *out, ssmq_err *err) {
    double *sums = NULL;
    int64_t *counts = NULL;
    ssmq_status status = ssmq_calloc(&sums, p->n_blocks, sizeof *sums, err);
    if (status == SSMQ_OK) status = ssmq_calloc(&counts, p->n_blocks, sizeof *counts, err);
    for (size_t k = 0; status == SSMQ_OK && k < n; k++) {
        size_t n_units = 0;
        for (size_t i = k * p->n_blocks; i < (k + 1) * p->n_blocks; i++) {
            if (p->counts[i] == 0) continue;
            sums[n_units] = p->sums[i];
            counts[n_units++] = p->counts[i];
        }
        out[k] = ssmq_ratio_sem(sums, counts, n_units);
    }
    ssmq_free(sums);
    ssmq_free(counts);
    return status;
}
