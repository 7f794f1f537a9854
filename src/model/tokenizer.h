/* SPDX-License-Identifier: Apache-2.0 */
/* model/tokenizer.h - byte-level BPE as tokenizer.json describes it (spec section 10). */
#ifndef SSMQ_MODEL_TOKENIZER_H
#define SSMQ_MODEL_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/status.h"
#include "base/str.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_tokenizer ssmq_tokenizer;

/* A growing list of token ids. */
typedef struct ssmq_ids {
    int32_t *ids;
    size_t n;
    size_t capacity;
} ssmq_ids;
void ssmq_ids_free(ssmq_ids *ids);

/* Reads folder/tokenizer.json.  Owns: *out, release with ssmq_tokenizer_close().
 * Fails: CONFIG (missing, malformed, or a kind of tokenizer this one is not; the message names
 * what), NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_tokenizer_open(ssmq_tokenizer **out, const char *folder,
                                              ssmq_err *err);
void ssmq_tokenizer_close(ssmq_tokenizer *tokenizer);

/* Largest id + 1 over vocabulary and added tokens. */
int32_t ssmq_tokenizer_vocab_count(const ssmq_tokenizer *tokenizer);
/* SHA-256 of tokenizer.json, hexadecimal. */
const char *ssmq_tokenizer_sha256(const ssmq_tokenizer *tokenizer);

/* Appends the ids of n_bytes of UTF-8 text to ids (no BOS is added). Text that is not UTF-8 is a
 * fault of the caller: check with ssmq_utf8_valid_prefix() and report first.
 * Owns: ids->ids, ssmq_ids_free().  Fails: CONFIG (invalid UTF-8), NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_tokenizer_encode(const ssmq_tokenizer *tokenizer, const char *text,
                                                size_t n_bytes, ssmq_ids *ids, ssmq_err *err);

/* Appends the text of n ids to out; the bytes of all tokens are joined before invalid UTF-8 is
 * replaced by U+FFFD. Ids without text add nothing.  Fails: CONFIG (over out's maximum), NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_tokenizer_decode(const ssmq_tokenizer *tokenizer, const int32_t *ids,
                                                size_t n, ssmq_str *out, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
