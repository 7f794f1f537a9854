/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "engine/cuda/check.h"
#include "engine/cuda/cuda_engine.h"

enum { FAULT_ROW_BITS = 40 };

static ssmq_status describe(const cuda_engine *e, unsigned long long word, int64_t first, int64_t T,
                            ssmq_err *err) {
    const int64_t layer = (int64_t)(word >> FAULT_ROW_BITS);
    const int64_t row = (int64_t)(word & ((1ull << FAULT_ROW_BITS) - 1));
    char place[48];
    if (layer < e->shape.L) {
        (void)snprintf(place, sizeof place, "input of layer %lld", (long long)layer);
    } else {
        (void)snprintf(place, sizeof place, "%s", layer == e->shape.L ? "final norm" : "logits");
    }
    return SSMQ_FAIL(err, NUMERIC, "%s: not finite at token %lld of sequence %lld", place,
                     (long long)(first + row % T), (long long)(row / T));
}

ssmq_status cuda_check_faults(cuda_engine *e, const cuda_fault_words *words, ssmq_err *err) {
    for (int64_t i = 0; i < words->n; i++) {
        const unsigned long long word = e->staging.fault[i];
        if (word == CUDA_NO_FAULT) continue;
        CUDA_TRY(cudaMemsetAsync(e->buffers.fault, 0xff, sizeof word, e->stream), err);
        return describe(e, word, words->first + i * words->step_tokens, words->T, err);
    }
    return SSMQ_OK;
}
