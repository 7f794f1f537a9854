/* SPDX-License-Identifier: Apache-2.0 */
/* model/bpe.h - byte pair encoding of one word: merges by rank, lowest first, leftmost on ties. */
#ifndef SSMQ_MODEL_BPE_H
#define SSMQ_MODEL_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a pair of adjacent symbols becomes. */
typedef struct ssmq_bpe_slot {
    uint64_t pair; /* left id in the upper half, right id in the lower */
    int32_t rank;
    int32_t result;
} ssmq_bpe_slot;

/* The merges, hashed by pair with open addressing; n_slots is a power of two. */
typedef struct ssmq_bpe {
    ssmq_bpe_slot *slots;
    size_t n_slots;
    int32_t n_merges;
} ssmq_bpe;

/* Room for n_merges.  Owns: *bpe, ssmq_bpe_free().  Fails: NOMEM; CONFIG (over 2^24 merges). */
SSMQ_MUST_USE ssmq_status ssmq_bpe_init(ssmq_bpe *bpe, size_t n_merges, ssmq_err *err);
void ssmq_bpe_free(ssmq_bpe *bpe);
/* Adds the merge of the next rank, at most as many as there is room for; ids are not negative. A
 * pair that comes again takes its new rank and result. */
void ssmq_bpe_add(ssmq_bpe *bpe, int32_t left, int32_t right, int32_t result);

/* One symbol of a word under merging: a doubly linked list in an array. */
typedef struct ssmq_bpe_symbol {
    int32_t id;
    int32_t prev;   /* -1 before the first */
    int32_t next;   /* -1 behind the last */
    int32_t rank;   /* of the merge with the next symbol, -1 if there is none */
    int32_t result; /* of that merge */
} ssmq_bpe_symbol;

/* Buffers that are kept from word to word. All zero to begin with. */
typedef struct ssmq_bpe_work {
    ssmq_bpe_symbol *symbols;
    size_t symbols_capacity;
    uint64_t *heap; /* rank in the upper half, position in the lower: a binary min-heap */
    size_t heap_capacity;
    size_t n_heap;
} ssmq_bpe_work;
void ssmq_bpe_work_free(ssmq_bpe_work *work);

/* Merges the word of n symbols in place; *n_out of them are left in ids. n < 2^31.
 * Takes O(n log n) time whatever the word.  Fails: NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_bpe_merge(const ssmq_bpe *bpe, ssmq_bpe_work *work, int32_t *ids,
                                         size_t n, size_t *n_out, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
