/* SPDX-License-Identifier: Apache-2.0 */
/* trial/templates.h - the versioned wordings of passkey prompts and of prompts like them. */
#ifndef SSMQ_TRIAL_TEMPLATES_H
#define SSMQ_TRIAL_TEMPLATES_H

#include <stdbool.h>

#include "base/hash.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SSMQ_MAX_NEEDLES = 5 };

/* A prompt: intro, filler with needles in it, question. The answer follows it. In every part {K}
 * stands for the key, {W} for a pair of words, {0} to {4} for names of five letters. */
typedef struct ssmq_template {
    const char *version; /* "demo-1" */
    const char *intro;
    const char *needles[SSMQ_MAX_NEEDLES]; /* in their order; NULL after the last */
    const char *question;
    const char *answer;
    const char *key; /* what of the answer counts; it begins the answer */
    const char
        *grass; /* one repetition of the filler, with what separates it from the one before */
    int key_digits;
    bool grass_restarts; /* grass begins without its separator, and again so after a needle;
                            false: it goes on after the needle where it stopped */
    bool has_names;      /* the names are asked for: they are what the wrong-key control changes */
    const char *adjectives, *nouns; /* of {W}, separated by blanks; NULL without {W} */
} ssmq_template;

/* NULL if there is none of that version. */
const ssmq_template *ssmq_template_find(const char *version);
/* Versions of this build, separated by ", ". */
const char *ssmq_template_versions(void);
/* SHA-256 over all parts of the template and the name of the filler. */
void ssmq_template_hash(const ssmq_template *template_, const char *filler,
                        char hex[SSMQ_SHA256_HEX_BYTES]);

#ifdef __cplusplus
}
#endif
#endif
