/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGN_BYTES = 64, FIRST_CAPACITY = 16 };

static ssmq_status no_memory(size_t n, size_t size, ssmq_err *err) {
    return SSMQ_FAIL(err, NOMEM, "out of memory: asked for %zu items of %zu bytes", n, size);
}

ssmq_status ssmq_calloc(void *out, size_t n, size_t size, ssmq_err *err) {
    void *p = calloc(n > 0 ? n : 1, size > 0 ? size : 1);
    memcpy(out, &p, sizeof p);
    return p != NULL ? SSMQ_OK : no_memory(n, size, err);
}

ssmq_status ssmq_calloc_aligned(void *out, size_t n, size_t size, ssmq_err *err) {
    void *p = NULL;
    memcpy(out, &p, sizeof p);
    if (size > 0 && n > (SIZE_MAX - ALIGN_BYTES) / size) return no_memory(n, size, err);
    size_t bytes = (n * size + ALIGN_BYTES) / ALIGN_BYTES * ALIGN_BYTES;
    p = aligned_alloc(ALIGN_BYTES, bytes);
    if (p == NULL) return no_memory(n, size, err);
    memset(p, 0, bytes);
    memcpy(out, &p, sizeof p);
    return SSMQ_OK;
}

ssmq_status ssmq_grow(void *array, size_t *capacity, size_t n, size_t size, size_t max_n,
                      ssmq_err *err) {
    if (n <= *capacity) return SSMQ_OK;
    if (n > max_n) return SSMQ_FAIL(err, CONFIG, "%zu items, more than the limit of %zu", n, max_n);
    size_t grown = *capacity > 0 ? *capacity : FIRST_CAPACITY;
    while (grown < n) grown = grown <= max_n / 2 ? grown * 2 : max_n;
    if (size > 0 && grown > SIZE_MAX / size) return no_memory(grown, size, err);
    void *p = NULL;
    memcpy(&p, array, sizeof p);
    p = realloc(p, grown * size);
    if (p == NULL) return no_memory(grown, size, err);
    memcpy(array, &p, sizeof p);
    *capacity = grown;
    return SSMQ_OK;
}

ssmq_status ssmq_strndup(char **out, const char *text, size_t n_bytes, ssmq_err *err) {
    SSMQ_TRY(ssmq_calloc(out, n_bytes + 1, 1, err));
    memcpy(*out, text, n_bytes);
    return SSMQ_OK;
}

void ssmq_free(void *p) {
    free(p);
}
