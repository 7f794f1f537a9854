/* SPDX-License-Identifier: Apache-2.0 */
/* cli/token_input.h - texts and token ids that a user hands to a command: a file, a pipe or
 * standard input. */
#ifndef SSMQ_CLI_TOKEN_INPUT_H
#define SSMQ_CLI_TOKEN_INPUT_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "model/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What messages call the input: its path, or "standard input" for NULL and "-". */
const char *ssmq_input_name(const char *path);

/* Everything the input holds and a terminating zero.  Owns: *out, ssmq_free().
 * Fails: CONFIG (cannot be opened, a folder, over 1 GiB), IO, NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_input_read(char **out, size_t *n_bytes, const char *path,
                                          ssmq_err *err);

/* Appends the ids of a text.  Owns: ids.  Fails: CONFIG (not UTF-8: with the offset), NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_input_encode(const char *text, size_t n_bytes, const char *name,
                                            const ssmq_tokenizer *tokenizer, ssmq_ids *ids,
                                            ssmq_err *err);

/* Appends decimal ids in [0, id_bound) separated by white space.
 * Owns: ids.  Fails: CONFIG ("name:line: ..."), NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_input_parse_ids(const char *text, size_t n_bytes, const char *name,
                                               int64_t id_bound, ssmq_ids *ids, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
