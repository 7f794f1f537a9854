/* SPDX-License-Identifier: Apache-2.0 */
/* base/mem.h - the only place that calls malloc and free. Sizes are overflow-checked. */
#ifndef SSMQ_BASE_MEM_H
#define SSMQ_BASE_MEM_H

#include <stddef.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* n * size zeroed bytes into *out (void **); never NULL on OK, also for n = 0.
 * Owns: *out, release with ssmq_free().  Fails: NOMEM (*out is NULL). */
SSMQ_MUST_USE ssmq_status ssmq_calloc(void *out, size_t n, size_t size, ssmq_err *err);

/* As ssmq_calloc, 64-byte aligned, for numeric buffers. */
SSMQ_MUST_USE ssmq_status ssmq_calloc_aligned(void *out, size_t n, size_t size, ssmq_err *err);

/* Grows *array (void **) from *capacity to at least n items of size bytes, doubling; new items
 * are not initialized. At most max_n items.
 * Fails: NOMEM; CONFIG if n > max_n. *array stays valid. */
SSMQ_MUST_USE ssmq_status ssmq_grow(void *array, size_t *capacity, size_t n, size_t size,
                                    size_t max_n, ssmq_err *err);

/* Copy of n_bytes of text with a terminating zero.  Owns: *out, ssmq_free().  Fails: NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_strndup(char **out, const char *text, size_t n_bytes, ssmq_err *err);

/* NULL is a no-op. Serves every allocation of this header. */
void ssmq_free(void *p);

#ifdef __cplusplus
}
#endif
#endif
