/* SPDX-License-Identifier: Apache-2.0 */
/* The templates of prompts: data with a version each. A wording that changes gets a new version. */
#include "trial/templates.h"

#include <stdio.h>
#include <string.h>

#define GRASS                                                                                      \
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."

#define RULER_ADJECTIVES                                                                           \
    "amber ancient bitter blue brave bright broken calm careful clever cold crooked curious deep " \
    "distant dusty eager early empty faint fierce gentle golden hidden hollow humble idle late "   \
    "lazy little lonely loud narrow noble pale patient quick quiet rapid rough rusty sharp "       \
    "silent "                                                                                      \
    "silver slow small solid stern strange sturdy sudden tall tame tiny vast velvet warm weary "   \
    "wild wooden"
#define RULER_NOUNS                                                                                \
    "anchor apple arrow barrel basket beacon bell blanket bottle bridge bucket button candle "     \
    "canyon carpet castle cellar chapel chimney cloud copper corner cottage curtain desert "       \
    "engine feather fence field finger forest fountain garden glacier glove hammer harbor "        \
    "helmet island kettle ladder lantern ledger letter lumber marble meadow mirror needle oven "   \
    "paper pebble pocket quarry ribbon river saddle shadow window winter"

/* demo-1 is what the embedded checkpoint saw in training. landmark-1 is the prompt of Landmark
 * Attention (Mohtashami and Jaggi, arXiv:2305.16300, run_test.py) and LongLoRA: five parts joined
 * by line feeds, the garbage begun again after the needle. It differs in that keys always have five
 * digits, so that digit accuracy means something, and that filler is cut between tokens.
 *
 * ruler-niah-1 and ruler-vt-1 are niah_single_1 and vt (one chain of four hops) of RULER (Hsieh et
 * al., arXiv:2404.06654; wording as published, with its spelling), without chat markup. They differ
 * in that filler is cut between tokens, that the first needle stands at the asked depth, that words
 * come from lists of ours, and that the one solved example of vt is always the same and short.
 * Their answers count only if they are said exactly, names in the order of the chain; RULER looks
 * for each anywhere in what is generated. */
static const ssmq_template templates[] = {
    {
        .version = "demo-1",
        .intro = "There is an important info hidden inside a lot of irrelevant text. Find it and "
                 "memorize it. I will quiz you about the important information there.\n",
        .needles = {"\nThe pass key is {K}. Remember it. {K} is the pass key.\n"},
        .question = "\nWhat is the pass key? The pass key is",
        .answer = " {K}.",
        .key = " {K}",
        .grass = " " GRASS,
        .key_digits = 5,
        .grass_restarts = false,
    },
    {
        .version = "landmark-1",
        .intro = "There is an important info hidden inside a lot of irrelevant text. Find it and "
                 "memorize them. I will quiz you about the important information there.\n",
        .needles = {"\nThe pass key is {K}. Remember it. {K} is the pass key.\n"},
        .question = "\nWhat is the pass key? The pass key is",
        .answer = " {K}",
        .key = " {K}",
        .grass = " " GRASS,
        .key_digits = 5,
        .grass_restarts = true,
    },
    {
        .version = "ruler-niah-1",
        .intro = "A special magic number is hidden within the following text. Make sure to "
                 "memorize it. I will quiz you about the number afterwards.\n",
        .needles = {"\nOne of the special magic numbers for {W} is: {K}.\n"},
        .question =
            "\nWhat is the special magic number for {W} mentioned in the provided text? The "
            "special magic number for {W} mentioned in the provided text is",
        .answer = " {K}",
        .key = " {K}",
        .grass = "\n" GRASS,
        .key_digits = 7,
        .grass_restarts = true,
        .adjectives = RULER_ADJECTIVES,
        .nouns = RULER_NOUNS,
    },
    {
        .version = "ruler-vt-1",
        .intro = "Memorize and track the chain(s) of variable assignment hidden in the following "
                 "text.\n\n" GRASS "\nVAR QKD = 12345\n" GRASS "\nVAR MTO = VAR QKD\nVAR WBE = VAR "
                 "MTO\n" GRASS "\nVAR HAZ = VAR WBE\nVAR RUL = VAR HAZ\n" GRASS
                 "\nQuestion: Find all variables that are assigned the value 12345 in the text "
                 "above. Answer: According to the chain(s) of variable assignment in the text "
                 "above, 5 variables are assgined the value 12345, they are: QKD MTO WBE HAZ "
                 "RUL\n\nMemorize and track the chain(s) of variable assignment hidden in the "
                 "following text.\n\n",
        .needles = {"\nVAR {0} = {K}\n", "\nVAR {1} = VAR {0}\n", "\nVAR {2} = VAR {1}\n",
                    "\nVAR {3} = VAR {2}\n", "\nVAR {4} = VAR {3}\n"},
        .question = "\nQuestion: Find all variables that are assigned the value {K} in the text "
                    "above. Answer: According to the chain(s) of variable assignment in the text "
                    "above, 5 variables are assgined the value {K}, they are:",
        .answer = " {0} {1} {2} {3} {4}",
        .key = " {0} {1} {2} {3} {4}",
        .grass = "\n" GRASS,
        .key_digits = 5,
        .grass_restarts = true,
        .has_names = true,
    },
};

enum { N_TEMPLATES = sizeof templates / sizeof templates[0] };

const ssmq_template *ssmq_template_find(const char *version) {
    for (size_t i = 0; i < N_TEMPLATES; i++) {
        if (strcmp(templates[i].version, version) == 0) return &templates[i];
    }
    return NULL;
}

const char *ssmq_template_versions(void) {
    return "demo-1, landmark-1, ruler-niah-1, ruler-vt-1";
}

/* The terminating zero is hashed too, so that no two splits of a text are equal. */
static void add_part(ssmq_sha256 *sha, const char *part) {
    if (part != NULL) ssmq_sha256_add(sha, part, strlen(part) + 1);
}

void ssmq_template_hash(const ssmq_template *template_, const char *filler,
                        char hex[SSMQ_SHA256_HEX_BYTES]) {
    char numbers[32];
    (void)snprintf(numbers, sizeof numbers, "%d %d", template_->key_digits,
                   template_->grass_restarts ? 1 : 0);
    const char *const parts[] = {template_->version,
                                 template_->intro,
                                 template_->needles[0],
                                 template_->question,
                                 template_->answer,
                                 template_->grass,
                                 numbers,
                                 filler,
                                 template_->adjectives,
                                 template_->nouns};
    unsigned char digest[SSMQ_SHA256_BYTES];
    ssmq_sha256 sha;
    ssmq_sha256_init(&sha);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) add_part(&sha, parts[i]);
    for (int i = 1; i < SSMQ_MAX_NEEDLES; i++) add_part(&sha, template_->needles[i]);
    ssmq_sha256_end(&sha, digest);
    ssmq_sha256_hex(digest, hex);
}
