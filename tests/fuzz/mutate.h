/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz/mutate.h - deterministic damage to texts and files, for tests that feed a reader with it. */
#ifndef FUZZ_MUTATE_H
#define FUZZ_MUTATE_H

#include <stddef.h>

#include "base/rng.h"

/* Bytes under mutation; never more than capacity. */
struct mutant {
    char *bytes;
    size_t n_bytes;
    size_t capacity;
};

/* Applies one to four of: flipped bits, replaced bytes, a cut end, a deleted, doubled or swapped-in
 * span, a number replaced by an extreme one. `other` is where swapped-in spans come from. */
void mutate(struct mutant *m, const char *other, size_t n_other, ssmq_rng *rng);

#endif
