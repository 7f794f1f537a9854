/* SPDX-License-Identifier: Apache-2.0 */
/* The sorted list serves as a trie: tokens with a common beginning are a range of it, which each
 * further byte of the text narrows by bisection. */
#include "model/added_tokens.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { MAX_TOKENS = 1 << 16 };

void ssmq_added_tokens_free(ssmq_added_tokens *set) {
    for (size_t i = 0; i < set->n; i++) ssmq_free(set->tokens[i].text);
    ssmq_free(set->tokens);
    memset(set, 0, sizeof *set);
}

ssmq_status ssmq_added_tokens_add(ssmq_added_tokens *set, const char *text, size_t n_bytes,
                                  int32_t id, ssmq_err *err) {
    SSMQ_CHECK(n_bytes > 0, err);
    SSMQ_TRY(
        ssmq_grow(&set->tokens, &set->capacity, set->n + 1, sizeof *set->tokens, MAX_TOKENS, err));
    ssmq_added_token *token = &set->tokens[set->n];
    SSMQ_TRY(ssmq_strndup(&token->text, text, n_bytes, err));
    token->n_bytes = n_bytes;
    token->id = id;
    set->n++;
    set->begins[(unsigned char)text[0]] = true;
    return SSMQ_OK;
}

static int compare(const void *a, const void *b) {
    const ssmq_added_token *x = a;
    const ssmq_added_token *y = b;
    int order = memcmp(x->text, y->text, x->n_bytes < y->n_bytes ? x->n_bytes : y->n_bytes);
    if (order != 0) return order;
    return (x->n_bytes > y->n_bytes) - (x->n_bytes < y->n_bytes);
}

const ssmq_added_token *ssmq_added_tokens_sort(ssmq_added_tokens *set) {
    if (set->n > 1) qsort(set->tokens, set->n, sizeof *set->tokens, compare);
    for (size_t i = 1; i < set->n; i++) {
        if (compare(&set->tokens[i - 1], &set->tokens[i]) == 0) return &set->tokens[i];
    }
    return NULL;
}

/* First of the tokens [low, high), which share `depth` bytes, whose next byte is at least
 * `byte`; a token that ends at depth comes before all others. */
static size_t lower_bound(const ssmq_added_tokens *set, size_t low, size_t high, size_t depth,
                          unsigned byte) {
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const ssmq_added_token *token = &set->tokens[middle];
        bool is_less =
            token->n_bytes == depth || (unsigned)(unsigned char)token->text[depth] < byte;
        if (is_less) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The longest token at the beginning of the text. */
static const ssmq_added_token *match(const ssmq_added_tokens *set, const char *text,
                                     size_t n_bytes) {
    const ssmq_added_token *longest = NULL;
    size_t low = 0;
    size_t high = set->n;
    for (size_t depth = 0; depth < n_bytes && low < high; depth++) {
        unsigned byte = (unsigned char)text[depth];
        low = lower_bound(set, low, high, depth, byte);
        high = lower_bound(set, low, high, depth, byte + 1);
        if (low < high && set->tokens[low].n_bytes == depth + 1) longest = &set->tokens[low];
    }
    return longest;
}

const ssmq_added_token *ssmq_added_tokens_find(const ssmq_added_tokens *set, const char *text,
                                               size_t n_bytes, size_t at, size_t *begin) {
    for (; set->n > 0 && at < n_bytes; at++) {
        if (!set->begins[(unsigned char)text[at]]) continue;
        const ssmq_added_token *token = match(set, text + at, n_bytes - at);
        if (token != NULL) {
            *begin = at;
            return token;
        }
    }
    *begin = n_bytes;
    return NULL;
}
