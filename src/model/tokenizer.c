/* SPDX-License-Identifier: Apache-2.0 */
/* Encoding: cut out raw added tokens; NFC; cut out normalized added tokens; split the rest into
 * words; map each byte of a word to its symbol; merge. Decoding: join the bytes of the tokens. */
#include "model/tokenizer.h"

#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "model/nfc.h"
#include "model/pretokenize.h"
#include "model/tokenizer_file.h"

/* NFC at most triples the bytes, and places in a word are 31 bits. */
static const size_t max_text_bytes = (size_t)1 << 29;
static const size_t max_ids = SIZE_MAX / sizeof(int32_t) / 2;
static const size_t max_decoded_bytes = SIZE_MAX / 4;

/* Buffers of one call. */
typedef struct encoder {
    const ssmq_tokenizer *tokenizer;
    ssmq_ids *ids;
    ssmq_str nfc;
    ssmq_nfc_work nfc_work;
    ssmq_bpe_work bpe_work;
} encoder;

void ssmq_ids_free(ssmq_ids *ids) {
    ssmq_free(ids->ids);
    memset(ids, 0, sizeof *ids);
}

ssmq_status ssmq_tokenizer_open(ssmq_tokenizer **out, const char *folder, ssmq_err *err) {
    char path[SSMQ_PATH_BYTES];
    char *text = NULL;
    size_t n_bytes = 0;
    *out = NULL;
    SSMQ_TRY(ssmq_path_join(path, folder, "tokenizer.json", err));
    SSMQ_TRY(ssmq_file_read(&text, &n_bytes, path, SSMQ_TOKENIZER_MAX_BYTES, err));
    ssmq_status status = ssmq_tokenizer_parse(out, text, n_bytes, path, err);
    ssmq_free(text);
    return status;
}

void ssmq_tokenizer_close(ssmq_tokenizer *tokenizer) {
    if (tokenizer == NULL) return;
    ssmq_free(tokenizer->text);
    ssmq_free(tokenizer->text_begin);
    ssmq_bpe_free(&tokenizer->bpe);
    ssmq_added_tokens_free(&tokenizer->raw);
    ssmq_added_tokens_free(&tokenizer->normalized);
    ssmq_free(tokenizer);
}

int32_t ssmq_tokenizer_vocab_count(const ssmq_tokenizer *tokenizer) {
    return tokenizer->n_ids;
}

const char *ssmq_tokenizer_sha256(const ssmq_tokenizer *tokenizer) {
    return tokenizer->sha256;
}

static ssmq_status reserve_ids(ssmq_ids *ids, size_t n, ssmq_err *err) {
    return ssmq_grow(&ids->ids, &ids->capacity, ids->n + n, sizeof *ids->ids, max_ids, err);
}

static ssmq_status append_id(ssmq_ids *ids, int32_t id, ssmq_err *err) {
    SSMQ_TRY(reserve_ids(ids, 1, err));
    ids->ids[ids->n++] = id;
    return SSMQ_OK;
}

/* The symbols of a word's bytes are merged where they will stay. */
static ssmq_status encode_word(encoder *e, const char *word, size_t n_bytes, ssmq_err *err) {
    SSMQ_TRY(reserve_ids(e->ids, n_bytes, err));
    int32_t *symbols = e->ids->ids + e->ids->n;
    for (size_t i = 0; i < n_bytes; i++) {
        symbols[i] = e->tokenizer->byte_ids[(unsigned char)word[i]];
        SSMQ_CHECK(symbols[i] >= 0, err);
    }
    size_t n_merged = 0;
    SSMQ_TRY(ssmq_bpe_merge(&e->tokenizer->bpe, &e->bpe_work, symbols, n_bytes, &n_merged, err));
    e->ids->n += n_merged;
    return SSMQ_OK;
}

static ssmq_status encode_words(encoder *e, const char *text, size_t n_bytes, ssmq_err *err) {
    for (size_t at = 0; at < n_bytes;) {
        size_t end = ssmq_word_end(text, n_bytes, at);
        SSMQ_TRY(encode_word(e, text + at, end - at, err));
        at = end;
    }
    return SSMQ_OK;
}

typedef ssmq_status (*encode_piece)(encoder *e, const char *text, size_t n_bytes, ssmq_err *err);

/* Cuts the tokens of the set out of the text and gives what is between them to encode_rest. */
static ssmq_status encode_between(encoder *e, const ssmq_added_tokens *set, const char *text,
                                  size_t n_bytes, encode_piece encode_rest, ssmq_err *err) {
    for (size_t at = 0; at < n_bytes;) {
        size_t begin = 0;
        const ssmq_added_token *token = ssmq_added_tokens_find(set, text, n_bytes, at, &begin);
        if (begin > at) SSMQ_TRY(encode_rest(e, text + at, begin - at, err));
        if (token == NULL) break;
        SSMQ_TRY(append_id(e->ids, token->id, err));
        at = begin + token->n_bytes;
    }
    return SSMQ_OK;
}

static ssmq_status encode_normalized(encoder *e, const char *text, size_t n_bytes, ssmq_err *err) {
    ssmq_str_clear(&e->nfc);
    SSMQ_TRY(ssmq_nfc_append(&e->nfc_work, &e->nfc, text, n_bytes, err));
    SSMQ_TRY(ssmq_str_check(&e->nfc, "normalized text", err));
    return encode_between(e, &e->tokenizer->normalized, ssmq_str_get(&e->nfc), e->nfc.n_bytes,
                          encode_words, err);
}

ssmq_status ssmq_tokenizer_encode(const ssmq_tokenizer *tokenizer, const char *text, size_t n_bytes,
                                  ssmq_ids *ids, ssmq_err *err) {
    if (n_bytes > max_text_bytes) {
        return SSMQ_FAIL(err, CONFIG, "text of %zu bytes; the tokenizer takes at most %zu", n_bytes,
                         max_text_bytes);
    }
    size_t n_valid = ssmq_utf8_valid_prefix(text, n_bytes);
    if (n_valid < n_bytes) return SSMQ_FAIL(err, CONFIG, "text is not UTF-8 at byte %zu", n_valid);
    size_t n_before = ids->n;
    encoder e = {.tokenizer = tokenizer, .ids = ids};
    ssmq_str_init(&e.nfc, 3 * max_text_bytes);
    ssmq_status status = encode_between(&e, &tokenizer->raw, text, n_bytes, encode_normalized, err);
    if (status != SSMQ_OK) ids->n = n_before;
    ssmq_str_free(&e.nfc);
    ssmq_nfc_work_free(&e.nfc_work);
    ssmq_bpe_work_free(&e.bpe_work);
    return status;
}

/* Bytes of the damaged character at text that one U+FFFD stands for: the longest beginning of a
 * valid character, at least one byte (Unicode 15.0, chapter 3.9, table 3-8). */
static size_t damaged_bytes(const unsigned char *text, size_t n_bytes) {
    unsigned char lead = text[0];
    if (lead < 0xC2 || lead > 0xF4) return 1;
    size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    size_t n = 1;
    while (n < length && n < n_bytes && text[n] >= low && text[n] <= high) {
        low = 0x80;
        high = 0xBF;
        n++;
    }
    return n;
}

static void append_repaired(ssmq_str *out, const char *text, size_t n_bytes) {
    for (size_t at = 0; at < n_bytes;) {
        size_t n_valid = ssmq_utf8_valid_prefix(text + at, n_bytes - at);
        ssmq_str_add(out, text + at, n_valid);
        at += n_valid;
        if (at == n_bytes) break;
        ssmq_str_add(out, "\xEF\xBF\xBD", 3);
        at += damaged_bytes((const unsigned char *)text + at, n_bytes - at);
    }
}

ssmq_status ssmq_tokenizer_decode(const ssmq_tokenizer *tokenizer, const int32_t *ids, size_t n,
                                  ssmq_str *out, ssmq_err *err) {
    ssmq_str joined;
    ssmq_str_init(&joined, max_decoded_bytes);
    for (size_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= tokenizer->n_ids) continue;
        const size_t *begin = &tokenizer->text_begin[ids[i]];
        ssmq_str_add(&joined, tokenizer->text + begin[0], begin[1] - begin[0]);
    }
    ssmq_status status = ssmq_str_check(&joined, "decoded text", err);
    if (status == SSMQ_OK) {
        append_repaired(out, ssmq_str_get(&joined), joined.n_bytes);
        status = ssmq_str_check(out, "decoded text", err);
    }
    ssmq_str_free(&joined);
    return status;
}
