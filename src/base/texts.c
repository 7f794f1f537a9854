/* SPDX-License-Identifier: Apache-2.0 */
#include "base/texts.h"

#include <string.h>

#include "base/mem.h"

enum { BLOCK_BYTES = 1 << 16 };

struct ssmq_texts_block {
    struct ssmq_texts_block *before;
    size_t n_used, n_bytes;
    char bytes[];
};

static ssmq_status add_block(ssmq_texts *texts, size_t n_bytes, ssmq_err *err) {
    struct ssmq_texts_block *block = NULL;
    if (n_bytes < BLOCK_BYTES - sizeof *block) n_bytes = BLOCK_BYTES - sizeof *block;
    SSMQ_TRY(ssmq_calloc(&block, 1, sizeof *block + n_bytes, err));
    block->before = texts->last;
    block->n_bytes = n_bytes;
    texts->last = block;
    return SSMQ_OK;
}

ssmq_status ssmq_texts_keep(ssmq_texts *texts, const char *text, const char **out, ssmq_err *err) {
    const size_t n = strlen(text) + 1;
    if (texts->last == NULL || texts->last->n_bytes - texts->last->n_used < n) {
        SSMQ_TRY(add_block(texts, n, err));
    }
    char *to = texts->last->bytes + texts->last->n_used;
    memcpy(to, text, n);
    texts->last->n_used += n;
    *out = to;
    return SSMQ_OK;
}

void ssmq_texts_free(ssmq_texts *texts) {
    while (texts->last != NULL) {
        struct ssmq_texts_block *block = texts->last;
        texts->last = block->before;
        ssmq_free(block);
    }
}
