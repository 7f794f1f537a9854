/* SPDX-License-Identifier: Apache-2.0 */
/* A complete binary tree over the keys; each node holds the player that wins below it (Knuth, The
 * Art of Computer Programming 3, 5.4.1). */
#include "sched/tournament.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

ssmq_status tournament_init(tournament *out, size_t n, ssmq_err *err) {
    memset(out, 0, sizeof *out);
    SSMQ_CHECK(n < INT32_MAX / 4, err);
    out->n = n;
    for (out->top = 1; out->top < n; out->top *= 2) continue;
    SSMQ_TRY(ssmq_calloc(&out->key, n, sizeof *out->key, err));
    SSMQ_TRY(ssmq_calloc(&out->winner, 2 * out->top, sizeof *out->winner, err));
    for (size_t i = 0; i < n; i++) out->key[i] = -INFINITY;
    tournament_replay(out);
    return SSMQ_OK;
}

void tournament_free(tournament *t) {
    ssmq_free(t->key);
    ssmq_free(t->winner);
}

/* Of two players, the first standing left of the second. */
static int32_t better(const tournament *t, int32_t left, int32_t right) {
    if (left < 0) return right;
    if (right < 0) return left;
    return t->key[right] > t->key[left] ? right : left;
}

static int32_t leaf(const tournament *t, size_t i) {
    return i < t->n && t->key[i] > -INFINITY ? (int32_t)i : -1;
}

void tournament_set(tournament *t, size_t i, double key) {
    size_t node = t->top + i;
    t->key[i] = key;
    t->winner[node] = leaf(t, i);
    for (node /= 2; node > 0; node /= 2) {
        t->winner[node] = better(t, t->winner[2 * node], t->winner[2 * node + 1]);
    }
}

void tournament_replay(tournament *t) {
    for (size_t i = 0; i < t->top; i++) t->winner[t->top + i] = leaf(t, i);
    for (size_t node = t->top - 1; node > 0; node--) {
        t->winner[node] = better(t, t->winner[2 * node], t->winner[2 * node + 1]);
    }
}

int64_t tournament_best(const tournament *t, size_t begin, size_t end) {
    int32_t left = -1;
    int32_t right = -1;
    size_t low = t->top + begin;
    size_t high = t->top + end;
    for (; low < high; low /= 2, high /= 2) {
        if (low % 2 == 1) left = better(t, left, t->winner[low++]);
        if (high % 2 == 1) right = better(t, t->winner[--high], right);
    }
    return better(t, left, right);
}
