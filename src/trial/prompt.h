/* SPDX-License-Identifier: Apache-2.0 */
/* trial/prompt.h - prompts of an exact token length from versioned templates. */
#ifndef SSMQ_TRIAL_PROMPT_H
#define SSMQ_TRIAL_PROMPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "model/tokenizer.h"
#include "trial/templates.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_prompt {
    ssmq_ids prompt;   /* exactly the asked length */
    ssmq_ids answer;   /* what a right model goes on with */
    size_t n_key_ids;  /* the first ids of answer that hold the key; the rest is punctuation */
    int64_t needle_at; /* position of the first needle's first token; -1 without needle */
    char key[16];      /* decimal digits */
    int n_characters;  /* digits and letters of what is asked for */
} ssmq_prompt;

typedef struct ssmq_prompt_spec {
    const ssmq_template *template_;
    const int32_t *filler_ids; /* text filler; NULL: the template's grass */
    int64_t n_filler_ids;
    int64_t n_tokens;   /* exact length of the prompt */
    double depth;       /* of the first needle among filler tokens, 0 to 1; others follow it at
                           random places */
    bool has_needle;    /* false: the control; filler takes the needles' place */
    bool has_wrong_key; /* needles and answer hold another key, or other names, than the draw's; all
                           else stays */
    const char *draw;   /* seeds keys, names, places and filler offset; same text, same prompt */
} ssmq_prompt_spec;

/* Builds the prompt: its parts are tokenized one by one and their ids joined, and filler is cut
 * between tokens, so that the length is exact.  Owns: *out, ssmq_prompt_free().
 * Fails: CONFIG (n_tokens shorter than the fixed parts; the message names the least length). */
SSMQ_MUST_USE ssmq_status ssmq_prompt_init(ssmq_prompt *out, const ssmq_tokenizer *tokenizer,
                                           const ssmq_prompt_spec *spec, ssmq_err *err);
void ssmq_prompt_free(ssmq_prompt *prompt);

#ifdef __cplusplus
}
#endif
#endif
