/* SPDX-License-Identifier: Apache-2.0 */
/* Passkey templates, and prompts from them: intro, filler, needle, filler, question, each part
 * tokenized alone and the ids joined, filler cut between tokens. */
#include "trial/prompt.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"

#define GRASS                                                                                      \
    " The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again."

/* demo-1 is what the embedded checkpoint saw in training. landmark-1 is the prompt of Landmark
 * Attention (Mohtashami and Jaggi, arXiv:2305.16300, run_test.py) and LongLoRA: five parts joined
 * by line feeds, the garbage begun again after the needle. It differs in that keys always have five
 * digits, so that digit accuracy means something, and that filler is cut between tokens. */
static const ssmq_template templates[] = {
    {
        .version = "demo-1",
        .intro = "There is an important info hidden inside a lot of irrelevant text. Find it and "
                 "memorize it. I will quiz you about the important information there.\n",
        .needle = "\nThe pass key is {K}. Remember it. {K} is the pass key.\n",
        .question = "\nWhat is the pass key? The pass key is",
        .answer = " {K}.",
        .grass = GRASS,
        .key_digits = 5,
        .grass_restarts = false,
    },
    {
        .version = "landmark-1",
        .intro = "There is an important info hidden inside a lot of irrelevant text. Find it and "
                 "memorize them. I will quiz you about the important information there.\n",
        .needle = "\nThe pass key is {K}. Remember it. {K} is the pass key.\n",
        .question = "\nWhat is the pass key? The pass key is",
        .answer = " {K}",
        .grass = GRASS,
        .key_digits = 5,
        .grass_restarts = true,
    },
};

enum { N_TEMPLATES = sizeof templates / sizeof templates[0], MAX_PART_BYTES = 4096 };

const ssmq_template *ssmq_template_find(const char *version) {
    for (size_t i = 0; i < N_TEMPLATES; i++) {
        if (strcmp(templates[i].version, version) == 0) return &templates[i];
    }
    return NULL;
}

const char *ssmq_template_versions(void) {
    return "demo-1, landmark-1";
}

void ssmq_template_hash(const ssmq_template *template_, const char *filler,
                        char hex[SSMQ_SHA256_HEX_BYTES]) {
    char numbers[32];
    (void)snprintf(numbers, sizeof numbers, "%d %d", template_->key_digits,
                   template_->grass_restarts ? 1 : 0);
    const char *const parts[] = {
        template_->version, template_->intro, template_->needle, template_->question,
        template_->answer,  template_->grass, numbers,           filler};
    unsigned char digest[SSMQ_SHA256_BYTES];
    ssmq_sha256 sha;
    ssmq_sha256_init(&sha);
    /* The terminating zeros are hashed too, so that no two splits of a text are equal. */
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        ssmq_sha256_add(&sha, parts[i], strlen(parts[i]) + 1);
    }
    ssmq_sha256_end(&sha, digest);
    ssmq_sha256_hex(digest, hex);
}

/* Appends the ids of a part with every {K} replaced. */
static ssmq_status encode_part(const ssmq_tokenizer *tokenizer, const char *part, const char *key,
                               ssmq_ids *ids, ssmq_err *err) {
    ssmq_str text;
    ssmq_str_init(&text, MAX_PART_BYTES);
    for (const char *at = part; *at != '\0';) {
        const char *mark = strstr(at, "{K}");
        ssmq_str_add(&text, at, mark != NULL ? (size_t)(mark - at) : strlen(at));
        if (mark == NULL) break;
        ssmq_str_add(&text, key, strlen(key));
        at = mark + strlen("{K}");
    }
    ssmq_status status = ssmq_str_check(&text, "prompt part", err);
    if (status == SSMQ_OK) {
        status = ssmq_tokenizer_encode(tokenizer, ssmq_str_get(&text), text.n_bytes, ids, err);
    }
    ssmq_str_free(&text);
    return status;
}

/* The parts of one prompt as ids, and where its filler comes from. */
typedef struct parts {
    ssmq_ids intro, needle, question;
    ssmq_ids grass_head; /* grass without its space; empty unless grass restarts */
    ssmq_ids grass;
    const int32_t *text; /* NULL: grass */
    int64_t n_text;
    int64_t text_offset;
} parts;

static void parts_free(parts *p) {
    ssmq_ids_free(&p->intro);
    ssmq_ids_free(&p->needle);
    ssmq_ids_free(&p->question);
    ssmq_ids_free(&p->grass_head);
    ssmq_ids_free(&p->grass);
}

static ssmq_status parts_init(parts *p, const ssmq_tokenizer *tokenizer,
                              const ssmq_prompt_spec *spec, const char *key, ssmq_err *err) {
    const ssmq_template *t = spec->template_;
    SSMQ_TRY(encode_part(tokenizer, t->intro, key, &p->intro, err));
    if (spec->has_needle) SSMQ_TRY(encode_part(tokenizer, t->needle, key, &p->needle, err));
    SSMQ_TRY(encode_part(tokenizer, t->question, key, &p->question, err));
    if (p->text != NULL) return SSMQ_OK;
    if (t->grass_restarts) {
        SSMQ_TRY(encode_part(tokenizer, t->grass + 1, key, &p->grass_head, err));
    }
    SSMQ_TRY(encode_part(tokenizer, t->grass, key, &p->grass, err));
    SSMQ_CHECK(p->grass.n > 0, err);
    return SSMQ_OK;
}

/* Filler token i, counted from where a run of filler begins. */
static int32_t filler_id(const parts *p, int64_t i) {
    if (p->text != NULL) return p->text[(p->text_offset + i) % p->n_text];
    const int64_t n_head = (int64_t)p->grass_head.n;
    if (i < n_head) return p->grass_head.ids[i];
    return p->grass.ids[(i - n_head) % (int64_t)p->grass.n];
}

static void append_ids(ssmq_prompt *out, const ssmq_ids *ids) {
    if (ids->n == 0) return;
    memcpy(out->prompt.ids + out->prompt.n, ids->ids, ids->n * sizeof *ids->ids);
    out->prompt.n += ids->n;
}

static void append_filler(ssmq_prompt *out, const parts *p, int64_t first, int64_t n) {
    for (int64_t i = 0; i < n; i++) out->prompt.ids[out->prompt.n++] = filler_id(p, first + i);
}

static ssmq_status join(ssmq_prompt *out, const parts *p, const ssmq_prompt_spec *spec,
                        ssmq_err *err) {
    const int64_t n_fixed = (int64_t)(p->intro.n + p->needle.n + p->question.n);
    if (spec->n_tokens < n_fixed) {
        return SSMQ_FAIL(err, CONFIG,
                         "a prompt of %lld tokens is too short: template %s needs at least %lld",
                         (long long)spec->n_tokens, spec->template_->version, (long long)n_fixed);
    }
    const int64_t n_filler = spec->n_tokens - n_fixed;
    /* Nearest token to the asked depth. */
    const int64_t n_before = (int64_t)(spec->depth * (double)n_filler + 0.5);
    SSMQ_CHECK(n_before >= 0 && n_before <= n_filler, err);
    SSMQ_TRY(ssmq_calloc(&out->prompt.ids, (size_t)spec->n_tokens, sizeof *out->prompt.ids, err));
    out->prompt.capacity = (size_t)spec->n_tokens;
    append_ids(out, &p->intro);
    append_filler(out, p, 0, n_before);
    out->needle_at = spec->has_needle ? (int64_t)out->prompt.n : -1;
    append_ids(out, &p->needle);
    const bool restarts = spec->has_needle && p->grass_head.n > 0;
    append_filler(out, p, restarts ? 0 : n_before, n_filler - n_before);
    append_ids(out, &p->question);
    return SSMQ_OK;
}

/* The answer, and how many of its first ids are the key's: those of the key's own text, if the
 * tokenizer gives them the same ids with and without what follows; otherwise all. */
static ssmq_status init_answer(ssmq_prompt *out, const ssmq_tokenizer *tokenizer,
                               const ssmq_template *t, ssmq_err *err) {
    SSMQ_TRY(encode_part(tokenizer, t->answer, out->key, &out->answer, err));
    SSMQ_CHECK(out->answer.n > 0, err);
    ssmq_ids key = {0};
    ssmq_status status = encode_part(tokenizer, " {K}", out->key, &key, err);
    if (status == SSMQ_OK) {
        const bool is_prefix = key.n <= out->answer.n &&
                               memcmp(key.ids, out->answer.ids, key.n * sizeof *key.ids) == 0;
        out->n_key_ids = is_prefix ? key.n : out->answer.n;
    }
    ssmq_ids_free(&key);
    return status;
}

static void draw_key(ssmq_prompt *out, int key_digits, ssmq_rng *rng) {
    uint64_t least = 1;
    for (int i = 1; i < key_digits; i++) least *= 10;
    const uint64_t key = least + ssmq_rng_below(rng, 9 * least);
    (void)snprintf(out->key, sizeof out->key, "%llu", (unsigned long long)key);
}

/* Puts one of the other keys in the key's place, all of them equally likely. */
static void draw_wrong_key(ssmq_prompt *out, int key_digits, ssmq_rng *rng) {
    const ssmq_prompt right = *out;
    do draw_key(out, key_digits, rng);
    while (strcmp(out->key, right.key) == 0);
}

ssmq_status ssmq_prompt_init(ssmq_prompt *out, const ssmq_tokenizer *tokenizer,
                             const ssmq_prompt_spec *spec, ssmq_err *err) {
    memset(out, 0, sizeof *out);
    ssmq_rng rng = ssmq_rng_from_text(spec->draw);
    draw_key(out, spec->template_->key_digits, &rng);
    parts p = {.text = spec->filler_ids, .n_text = spec->n_filler_ids};
    if (p.text != NULL) {
        SSMQ_CHECK(p.n_text > 0, err);
        p.text_offset = (int64_t)ssmq_rng_below(&rng, (uint64_t)p.n_text);
    }
    if (spec->has_wrong_key) draw_wrong_key(out, spec->template_->key_digits, &rng);
    ssmq_status status = SSMQ_OK;
    SSMQ_TRY_OR(parts_init(&p, tokenizer, spec, out->key, err), out);
    SSMQ_TRY_OR(join(out, &p, spec, err), out);
    SSMQ_TRY_OR(init_answer(out, tokenizer, spec->template_, err), out);
out:
    parts_free(&p);
    if (status != SSMQ_OK) ssmq_prompt_free(out);
    return status;
}

void ssmq_prompt_free(ssmq_prompt *prompt) {
    ssmq_ids_free(&prompt->prompt);
    ssmq_ids_free(&prompt->answer);
}
