/* SPDX-License-Identifier: Apache-2.0 */
/* trial/prompt.h - passkey prompts of an exact token length from versioned templates. */
#ifndef SSMQ_TRIAL_PROMPT_H
#define SSMQ_TRIAL_PROMPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/status.h"
#include "model/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A prompt: intro, filler, needle with the key, filler, question. The answer follows it. */
typedef struct ssmq_template {
    const char *version; /* "demo-1", "landmark-1" */
    const char *intro;
    const char *needle; /* {K} stands for the key, here and in answer */
    const char *question;
    const char *answer;
    const char *grass; /* one repetition of the filler, with the space before it */
    int key_digits;
    bool grass_restarts; /* grass begins without its space, and again so after the needle;
                            false: it goes on after the needle where it stopped */
} ssmq_template;

/* NULL if there is none of that version. */
const ssmq_template *ssmq_template_find(const char *version);
/* Versions of this build, separated by ", ". */
const char *ssmq_template_versions(void);
/* SHA-256 over all parts of the template and the name of the filler. */
void ssmq_template_hash(const ssmq_template *template_, const char *filler,
                        char hex[SSMQ_SHA256_HEX_BYTES]);

typedef struct ssmq_prompt {
    ssmq_ids prompt;   /* exactly the asked length */
    ssmq_ids answer;   /* what a right model goes on with */
    size_t n_key_ids;  /* the first ids of answer that hold the key; the rest is punctuation */
    int64_t needle_at; /* position of the needle's first token; -1 without needle */
    char key[16];      /* decimal digits */
} ssmq_prompt;

typedef struct ssmq_prompt_spec {
    const ssmq_template *template_;
    const int32_t *filler_ids; /* text filler; NULL: the template's grass */
    int64_t n_filler_ids;
    int64_t n_tokens;   /* exact length of the prompt */
    double depth;       /* of the needle among filler tokens, 0 to 1 */
    bool has_needle;    /* false: the control; filler takes the needle's place */
    bool has_wrong_key; /* the needle and the answer hold another key than the draw's; all else
                           stays */
    const char *draw;   /* seeds keys and filler offset; same text, same prompt */
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
