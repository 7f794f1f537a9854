/* SPDX-License-Identifier: Apache-2.0 */
/* model/pretokenize.h - the words that BPE works on: the pattern of byte-level tokenizers,
 *   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
 * matched by hand (spec section 10). */
#ifndef SSMQ_MODEL_PRETOKENIZE_H
#define SSMQ_MODEL_PRETOKENIZE_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Where the word that begins at `at` ends; at < n_bytes, the result is over `at`. The text is
 * valid UTF-8, and `at` a character's begin. The pattern sees nothing behind n_bytes. */
size_t ssmq_word_end(const char *text, size_t n_bytes, size_t at);

#ifdef __cplusplus
}
#endif
#endif
