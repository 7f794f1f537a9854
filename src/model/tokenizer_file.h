/* SPDX-License-Identifier: Apache-2.0 */
/* model/tokenizer_file.h - a tokenizer.json read, checked and made ready for encoding. */
#ifndef SSMQ_MODEL_TOKENIZER_FILE_H
#define SSMQ_MODEL_TOKENIZER_FILE_H

#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/status.h"
#include "model/added_tokens.h"
#include "model/bpe.h"
#include "model/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    SSMQ_TOKENIZER_MAX_BYTES = 64 << 20,
    /* Four times the largest vocabularies in use; bounds the tables of a hostile file. */
    SSMQ_TOKENIZER_MAX_IDS = 1 << 20
};

struct ssmq_tokenizer {
    char sha256[SSMQ_SHA256_HEX_BYTES];
    int32_t n_ids;
    char *text;            /* what the ids decode to, one behind the other */
    size_t *text_begin;    /* [n_ids + 1]: id i is text[text_begin[i]] to text[text_begin[i + 1]] */
    int32_t byte_ids[256]; /* symbol of a byte; -1 for bytes that no UTF-8 text has */
    ssmq_bpe bpe;
    ssmq_added_tokens raw;        /* cut out of the text as it is */
    ssmq_added_tokens normalized; /* cut out of the NFC form; their texts are NFC too */
};

/* Reads n_bytes of a tokenizer.json. `path` is what messages call it.
 * Owns: *out, ssmq_tokenizer_close().  Fails: as ssmq_tokenizer_open(). */
SSMQ_MUST_USE ssmq_status ssmq_tokenizer_parse(ssmq_tokenizer **out, const char *text,
                                               size_t n_bytes, const char *path, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
