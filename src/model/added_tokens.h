/* SPDX-License-Identifier: Apache-2.0 */
/* model/added_tokens.h - tokens that are cut out of the text whole, before any other step. */
#ifndef SSMQ_MODEL_ADDED_TOKENS_H
#define SSMQ_MODEL_ADDED_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_added_token {
    char *text;
    size_t n_bytes;
    int32_t id;
} ssmq_added_token;

/* All zero is an empty set. */
typedef struct ssmq_added_tokens {
    ssmq_added_token *tokens; /* by text, once sorted */
    size_t n;
    size_t capacity;
    bool begins[256]; /* true for the first byte of any token */
} ssmq_added_tokens;
void ssmq_added_tokens_free(ssmq_added_tokens *set);

/* Adds a copy of a text that is not empty.
 * Owns: set's memory, ssmq_added_tokens_free().  Fails: NOMEM; CONFIG (too many). */
SSMQ_MUST_USE ssmq_status ssmq_added_tokens_add(ssmq_added_tokens *set, const char *text,
                                                size_t n_bytes, int32_t id, ssmq_err *err);
/* Makes the set ready for searches. A text that is there twice comes back, else NULL. */
const ssmq_added_token *ssmq_added_tokens_sort(ssmq_added_tokens *set);

/* The leftmost token at or after `at`, of those that begin there the longest; its place into
 * *begin. NULL if there is none; *begin is n_bytes then. */
const ssmq_added_token *ssmq_added_tokens_find(const ssmq_added_tokens *set, const char *text,
                                               size_t n_bytes, size_t at, size_t *begin);

#ifdef __cplusplus
}
#endif
#endif
