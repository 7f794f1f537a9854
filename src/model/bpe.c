/* SPDX-License-Identifier: Apache-2.0 */
/* A heap holds every mergeable pair as (rank, position). A merge makes entries of its neighbours
 * stale; an entry counts only while its rank is still that of the pair at its position. */
#include "model/bpe.h"

#include <string.h>

#include "base/mem.h"

enum { MIN_SLOTS = 16, MAX_MERGES = 1 << 24 };
static const uint64_t no_pair = UINT64_MAX;

ssmq_status ssmq_bpe_init(ssmq_bpe *bpe, size_t n_merges, ssmq_err *err) {
    memset(bpe, 0, sizeof *bpe);
    if (n_merges > MAX_MERGES) {
        return SSMQ_FAIL(err, CONFIG, "%zu merges, more than the limit of %d", n_merges,
                         MAX_MERGES);
    }
    size_t n_slots = MIN_SLOTS;
    while (n_slots < 2 * n_merges) n_slots *= 2;
    SSMQ_TRY(ssmq_calloc(&bpe->slots, n_slots, sizeof *bpe->slots, err));
    bpe->n_slots = n_slots;
    for (size_t i = 0; i < n_slots; i++) bpe->slots[i].pair = no_pair;
    return SSMQ_OK;
}

void ssmq_bpe_free(ssmq_bpe *bpe) {
    ssmq_free(bpe->slots);
    memset(bpe, 0, sizeof *bpe);
}

static uint64_t pair_of(int32_t left, int32_t right) {
    return (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
}

/* The pair's slot, or the empty one where it would go; at least half of the slots are empty. */
static ssmq_bpe_slot *find_slot(const ssmq_bpe *bpe, uint64_t pair) {
    uint64_t hash = (pair ^ pair >> 32) * 0x9e3779b97f4a7c15u;
    size_t i = (size_t)(hash ^ hash >> 32) & (bpe->n_slots - 1);
    while (bpe->slots[i].pair != pair && bpe->slots[i].pair != no_pair) {
        i = (i + 1) & (bpe->n_slots - 1);
    }
    return &bpe->slots[i];
}

void ssmq_bpe_add(ssmq_bpe *bpe, int32_t left, int32_t right, int32_t result) {
    uint64_t pair = pair_of(left, right);
    ssmq_bpe_slot *slot = find_slot(bpe, pair);
    *slot = (ssmq_bpe_slot){.pair = pair, .rank = bpe->n_merges++, .result = result};
}

void ssmq_bpe_work_free(ssmq_bpe_work *work) {
    ssmq_free(work->symbols);
    ssmq_free(work->heap);
    memset(work, 0, sizeof *work);
}

static void heap_push(ssmq_bpe_work *work, uint64_t entry) {
    size_t i = work->n_heap++;
    while (i > 0 && work->heap[(i - 1) / 2] > entry) {
        work->heap[i] = work->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    work->heap[i] = entry;
}

static uint64_t heap_pop(ssmq_bpe_work *work) {
    uint64_t top = work->heap[0];
    uint64_t moved = work->heap[--work->n_heap];
    size_t i = 0;
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= work->n_heap) break;
        if (child + 1 < work->n_heap && work->heap[child + 1] < work->heap[child]) child++;
        if (work->heap[child] >= moved) break;
        work->heap[i] = work->heap[child];
        i = child;
    }
    work->heap[i] = moved;
    return top;
}

/* Looks up the merge of the symbol at i with its next one and queues it. */
static void queue_pair(const ssmq_bpe *bpe, ssmq_bpe_work *work, int32_t i) {
    ssmq_bpe_symbol *symbol = &work->symbols[i];
    symbol->rank = -1;
    if (symbol->next < 0) return;
    const ssmq_bpe_slot *slot = find_slot(bpe, pair_of(symbol->id, work->symbols[symbol->next].id));
    if (slot->pair == no_pair) return;
    symbol->rank = slot->rank;
    symbol->result = slot->result;
    heap_push(work, (uint64_t)slot->rank << 32 | (uint32_t)i);
}

static void merge_with_next(ssmq_bpe_work *work, int32_t i) {
    ssmq_bpe_symbol *symbol = &work->symbols[i];
    ssmq_bpe_symbol *gone = &work->symbols[symbol->next];
    symbol->id = symbol->result;
    symbol->next = gone->next;
    gone->rank = -1;
    if (symbol->next >= 0) work->symbols[symbol->next].prev = i;
}

ssmq_status ssmq_bpe_merge(const ssmq_bpe *bpe, ssmq_bpe_work *work, int32_t *ids, size_t n,
                           size_t *n_out, ssmq_err *err) {
    *n_out = n;
    if (n < 2) return SSMQ_OK;
    /* n - 1 pairs to begin with; each of at most n - 1 merges queues two more. */
    SSMQ_TRY(ssmq_grow(&work->symbols, &work->symbols_capacity, n, sizeof *work->symbols,
                       SIZE_MAX / sizeof *work->symbols, err));
    SSMQ_TRY(ssmq_grow(&work->heap, &work->heap_capacity, 3 * n, sizeof *work->heap,
                       SIZE_MAX / sizeof *work->heap, err));
    work->n_heap = 0;
    for (size_t i = 0; i < n; i++) {
        work->symbols[i] = (ssmq_bpe_symbol){.id = ids[i],
                                             .prev = (int32_t)i - 1,
                                             .next = i + 1 < n ? (int32_t)i + 1 : -1,
                                             .rank = -1};
    }
    for (size_t i = 0; i + 1 < n; i++) queue_pair(bpe, work, (int32_t)i);
    while (work->n_heap > 0) {
        uint64_t entry = heap_pop(work);
        int32_t i = (int32_t)(entry & UINT32_MAX);
        if (work->symbols[i].rank != (int32_t)(entry >> 32)) continue;
        merge_with_next(work, i);
        queue_pair(bpe, work, i);
        if (work->symbols[i].prev >= 0) queue_pair(bpe, work, work->symbols[i].prev);
    }
    *n_out = 0;
    for (int32_t i = 0; i >= 0; i = work->symbols[i].next) ids[(*n_out)++] = work->symbols[i].id;
    return SSMQ_OK;
}
