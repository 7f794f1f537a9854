/* SPDX-License-Identifier: Apache-2.0 */
/* support/write_tokenizer.h - small tokenizer.json texts for tests, part by part. */
#ifndef SUPPORT_WRITE_TOKENIZER_H
#define SUPPORT_WRITE_TOKENIZER_H

#include "base/str.h"

/* JSON text of each part; NULL means the default. Ids 0 to 255 are the byte symbols in the order
 * of the bytes. The default rest: "ab" 256, "abc" 257, two spaces 258, "<|end|>" 259 (special, in
 * the vocabulary), runs of 2 and 3 spaces 260 and 261 (normalized), "e" with acute 262
 * (normalized, written decomposed), "<|endless|>" 263. */
struct tokenizer_parts {
    const char *root_extra; /* members before the others, with a comma at the end */
    const char *added_tokens;
    const char *normalizer;
    const char *pre_tokenizer;
    const char *post_processor;
    const char *decoder;
    const char *model_extra; /* members before type, with a comma at the end */
    const char *vocab_extra; /* members behind the byte symbols, with a comma at the beginning */
    const char *merges;
    int skip_byte_p1; /* one over a byte whose symbol is left out; 0 for none */
};

/* The parts with every NULL replaced by its default. */
struct tokenizer_parts tokenizer_defaults(struct tokenizer_parts parts);
/* Appends the file's text. */
void write_tokenizer(ssmq_str *out, const struct tokenizer_parts *parts);

#endif
