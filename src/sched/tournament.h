/* SPDX-License-Identifier: Apache-2.0 */
/* sched/tournament.h - a winner tree: the largest of n changing keys, or of a range of them, in
 * O(log n) steps. */
#ifndef SSMQ_SCHED_TOURNAMENT_H
#define SSMQ_SCHED_TOURNAMENT_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct tournament {
    size_t n;
    size_t top;      /* power of two, at least n */
    double *key;     /* [n] -INFINITY: takes no part */
    int32_t *winner; /* [2 * top] heap order, leaf i at top + i; -1: nobody */
} tournament;

/* n players that take no part yet.  Owns: *out, tournament_free().  Fails: NOMEM. */
SSMQ_MUST_USE ssmq_status tournament_init(tournament *out, size_t n, ssmq_err *err);
void tournament_free(tournament *t);

void tournament_set(tournament *t, size_t i, double key);
/* After keys have been written directly. */
void tournament_replay(tournament *t);
/* Player with the largest key among begin .. end-1, of equals the first; -1 if none takes part. */
int64_t tournament_best(const tournament *t, size_t begin, size_t end);

#ifdef __cplusplus
}
#endif
#endif
