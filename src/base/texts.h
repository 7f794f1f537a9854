/* SPDX-License-Identifier: Apache-2.0 */
/* base/texts.h - many short texts that live and die together, in few allocations. */
#ifndef SSMQ_BASE_TEXTS_H
#define SSMQ_BASE_TEXTS_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* All zero at first. */
typedef struct ssmq_texts {
    struct ssmq_texts_block *last; /* which texts go into; blocks never move */
} ssmq_texts;

/* *out: a copy of text, valid until ssmq_texts_free().  Fails: NOMEM (*out is unchanged). */
SSMQ_MUST_USE ssmq_status ssmq_texts_keep(ssmq_texts *texts, const char *text, const char **out,
                                          ssmq_err *err);
void ssmq_texts_free(ssmq_texts *texts); /* all zero is a no-op */

#ifdef __cplusplus
}
#endif
#endif
