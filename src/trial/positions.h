/* SPDX-License-Identifier: Apache-2.0 */
/* trial/positions.h - a number of each scored token, summed by the bucket of its position in its
 * window and by block, for standard errors of the buckets' means. Internal to this folder. */
#ifndef SSMQ_TRIAL_POSITIONS_H
#define SSMQ_TRIAL_POSITIONS_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum { TRIAL_MAX_BUCKETS = 40 }; /* of positions below 2^40, more than any text has */

/* Bucket k holds positions [2^k, 2^(k+1)). */
size_t trial_bucket_of(int64_t position);

typedef struct trial_positions {
    size_t n_buckets, n_blocks;
    double *sums;    /* [n_buckets, n_blocks] */
    int64_t *counts; /* [n_buckets, n_blocks] */
} trial_positions;

/* For positions up to `longest`.  Owns: *out, release with trial_positions_free().  Fails: NOMEM.
 */
SSMQ_MUST_USE ssmq_status trial_positions_init(trial_positions *out, int64_t longest,
                                               size_t n_blocks, ssmq_err *err);
void trial_positions_free(trial_positions *positions);

/* A token's number, in its own unit, which the standard errors have too. bucket < n_buckets, block
 * < n_blocks. */
void trial_positions_add(trial_positions *positions, size_t bucket, size_t block, double value);

/* out[n]: standard errors of the first n buckets' means, their blocks with tokens as units
 * (ssmq_ratio_sem); NaN of fewer than two.  Fails: NOMEM. */
SSMQ_MUST_USE ssmq_status trial_positions_sem(const trial_positions *positions, size_t n,
                                              double *out, ssmq_err *err);

#endif
