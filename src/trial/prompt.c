/* SPDX-License-Identifier: Apache-2.0 */
/* Prompts from templates: intro, filler, needle, filler, question, each part tokenized alone and
 * the ids joined, filler cut between tokens. */
#include "trial/prompt.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"

enum { MAX_PART_BYTES = 4096, N_NAMES = 5, NAME_LETTERS = 5 };

/* What stands for the marks of a template. */
typedef struct values {
    char key[16];
    char words[64];
    char names[N_NAMES][NAME_LETTERS + 1];
} values;

/* The text of a mark, {K}, {W} or {0} to {4}; NULL if mark begins none. */
static const char *value_of(const values *v, const char *mark) {
    if (mark[0] != '{' || mark[1] == '\0' || mark[2] != '}') return NULL;
    if (mark[1] == 'K') return v->key;
    if (mark[1] == 'W') return v->words;
    if (mark[1] >= '0' && mark[1] < '0' + N_NAMES) return v->names[mark[1] - '0'];
    return NULL;
}

/* A part with every mark replaced. */
static void fill_in(ssmq_str *text, const char *part, const values *v) {
    for (const char *at = part; *at != '\0';) {
        const char *value = value_of(v, at);
        ssmq_str_add(text, value != NULL ? value : at, value != NULL ? strlen(value) : 1);
        at += value != NULL ? strlen("{K}") : 1;
    }
}

/* Appends its ids. */
static ssmq_status encode_part(const ssmq_tokenizer *tokenizer, const char *part, const values *v,
                               ssmq_ids *ids, ssmq_err *err) {
    ssmq_str text;
    ssmq_str_init(&text, MAX_PART_BYTES);
    fill_in(&text, part, v);
    ssmq_status status = ssmq_str_check(&text, "prompt part", err);
    if (status == SSMQ_OK) {
        status = ssmq_tokenizer_encode(tokenizer, ssmq_str_get(&text), text.n_bytes, ids, err);
    }
    ssmq_str_free(&text);
    return status;
}

/* The parts of one prompt as ids, and where its filler comes from. */
typedef struct parts {
    ssmq_ids intro, question;
    int n_needles; /* 0 in the control */
    ssmq_ids needles[SSMQ_MAX_NEEDLES];
    double places[SSMQ_MAX_NEEDLES]; /* of the needles after the first, in the filler after it */
    ssmq_ids grass_head;             /* grass without its separator; empty unless grass restarts */
    ssmq_ids grass;
    const int32_t *text; /* NULL: grass */
    int64_t n_text;
    int64_t text_offset;
} parts;

static void parts_free(parts *p) {
    ssmq_ids_free(&p->intro);
    for (int i = 0; i < p->n_needles; i++) ssmq_ids_free(&p->needles[i]);
    ssmq_ids_free(&p->question);
    ssmq_ids_free(&p->grass_head);
    ssmq_ids_free(&p->grass);
}

static ssmq_status parts_init(parts *p, const ssmq_tokenizer *tokenizer,
                              const ssmq_prompt_spec *spec, const values *v, ssmq_err *err) {
    const ssmq_template *t = spec->template_;
    SSMQ_TRY(encode_part(tokenizer, t->intro, v, &p->intro, err));
    for (int i = 0; spec->has_needle && i < SSMQ_MAX_NEEDLES && t->needles[i] != NULL; i++) {
        p->n_needles = i + 1;
        SSMQ_TRY(encode_part(tokenizer, t->needles[i], v, &p->needles[i], err));
    }
    SSMQ_TRY(encode_part(tokenizer, t->question, v, &p->question, err));
    if (p->text != NULL) return SSMQ_OK;
    if (t->grass_restarts) {
        SSMQ_TRY(encode_part(tokenizer, t->grass + 1, v, &p->grass_head, err));
    }
    SSMQ_TRY(encode_part(tokenizer, t->grass, v, &p->grass, err));
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

/* Filler tokens before needle i of n_filler in all. */
static int64_t filler_before(const parts *p, const ssmq_prompt_spec *spec, int i,
                             int64_t n_filler) {
    /* Nearest token to the asked depth. */
    const int64_t first = (int64_t)(spec->depth * (double)n_filler + 0.5);
    return i == 0 ? first : first + (int64_t)(p->places[i] * (double)(n_filler - first) + 0.5);
}

static ssmq_status join(ssmq_prompt *out, const parts *p, const ssmq_prompt_spec *spec,
                        ssmq_err *err) {
    int64_t n_fixed = (int64_t)(p->intro.n + p->question.n);
    for (int i = 0; i < p->n_needles; i++) n_fixed += (int64_t)p->needles[i].n;
    if (spec->n_tokens < n_fixed) {
        return SSMQ_FAIL(err, CONFIG,
                         "a prompt of %lld tokens is too short: template %s needs at least %lld",
                         (long long)spec->n_tokens, spec->template_->version, (long long)n_fixed);
    }
    const int64_t n_filler = spec->n_tokens - n_fixed;
    SSMQ_TRY(ssmq_calloc(&out->prompt.ids, (size_t)spec->n_tokens, sizeof *out->prompt.ids, err));
    out->prompt.capacity = (size_t)spec->n_tokens;
    out->needle_at = -1;
    append_ids(out, &p->intro);
    int64_t n_done = 0, next = 0; /* filler tokens so far, and the one that comes next */
    for (int i = 0; i < p->n_needles; i++) {
        const int64_t n_before = filler_before(p, spec, i, n_filler);
        SSMQ_CHECK(n_before >= n_done && n_before <= n_filler, err);
        append_filler(out, p, next, n_before - n_done);
        next = p->grass_head.n > 0 ? 0 : n_before;
        n_done = n_before;
        if (i == 0) out->needle_at = (int64_t)out->prompt.n;
        append_ids(out, &p->needles[i]);
    }
    append_filler(out, p, next, n_filler - n_done);
    append_ids(out, &p->question);
    return SSMQ_OK;
}

/* The answer, and how many of its first ids are the key's: those of the key's own text, if the
 * tokenizer gives them the same ids with and without what follows; otherwise all. */
static ssmq_status init_answer(ssmq_prompt *out, const ssmq_tokenizer *tokenizer,
                               const ssmq_template *t, const values *v, ssmq_err *err) {
    SSMQ_TRY(encode_part(tokenizer, t->answer, v, &out->answer, err));
    SSMQ_CHECK(out->answer.n > 0, err);
    ssmq_ids key = {0};
    ssmq_status status = encode_part(tokenizer, t->key, v, &key, err);
    if (status == SSMQ_OK) {
        const bool is_prefix = key.n <= out->answer.n &&
                               memcmp(key.ids, out->answer.ids, key.n * sizeof *key.ids) == 0;
        out->n_key_ids = is_prefix ? key.n : out->answer.n;
    }
    ssmq_ids_free(&key);
    out->n_characters = t->has_names ? N_NAMES * NAME_LETTERS : t->key_digits;
    return status;
}

static void draw_key(values *v, int key_digits, ssmq_rng *rng) {
    uint64_t least = 1;
    for (int i = 1; i < key_digits; i++) least *= 10;
    const uint64_t key = least + ssmq_rng_below(rng, 9 * least);
    (void)snprintf(v->key, sizeof v->key, "%llu", (unsigned long long)key);
}

/* Word number i of a list. */
static int word_at(const char *list, uint64_t i, const char **word) {
    for (; i > 0; i--) list = strchr(list, ' ') + 1;
    *word = list;
    return (int)strcspn(list, " ");
}

static void draw_words(values *v, const ssmq_template *t, ssmq_rng *rng) {
    const char *words[2];
    int lengths[2];
    const char *const lists[2] = {t->adjectives, t->nouns};
    for (int k = 0; k < 2; k++) {
        uint64_t n = 1;
        for (const char *at = lists[k]; *at != '\0'; at++) n += *at == ' ' ? 1 : 0;
        lengths[k] = word_at(lists[k], ssmq_rng_below(rng, n), &words[k]);
    }
    (void)snprintf(v->words, sizeof v->words, "%.*s-%.*s", lengths[0], words[0], lengths[1],
                   words[1]);
}

static bool has_name(const values *v, int n, const char *name) {
    for (int i = 0; i < n; i++) {
        if (strcmp(v->names[i], name) == 0) return true;
    }
    return false;
}

/* Five different names, none of which is one of `others` (may be NULL). */
static void draw_names(values *v, const values *others, ssmq_rng *rng) {
    for (int i = 0; i < N_NAMES;) {
        char *name = v->names[i];
        for (int k = 0; k < NAME_LETTERS; k++) name[k] = (char)('A' + ssmq_rng_below(rng, 26));
        name[NAME_LETTERS] = '\0';
        if (!has_name(v, i, name) && (others == NULL || !has_name(others, N_NAMES, name))) i++;
    }
}

/* In ascending order. */
static void draw_places(parts *p, ssmq_rng *rng) {
    for (int i = 1; i < SSMQ_MAX_NEEDLES; i++) {
        const double place = ssmq_rng_f64(rng);
        int at = i;
        for (; at > 1 && p->places[at - 1] > place; at--) p->places[at] = p->places[at - 1];
        p->places[at] = place;
    }
}

/* Puts one of the other keys in the key's place, all of them equally likely; or other names. */
static void draw_wrong_key(values *v, const ssmq_template *t, ssmq_rng *rng) {
    const values right = *v;
    if (t->has_names) {
        draw_names(v, &right, rng);
        return;
    }
    do draw_key(v, t->key_digits, rng);
    while (strcmp(v->key, right.key) == 0);
}

ssmq_status ssmq_prompt_init(ssmq_prompt *out, const ssmq_tokenizer *tokenizer,
                             const ssmq_prompt_spec *spec, ssmq_err *err) {
    const ssmq_template *t = spec->template_;
    memset(out, 0, sizeof *out);
    ssmq_rng rng = ssmq_rng_from_text(spec->draw);
    values v = {0};
    draw_key(&v, t->key_digits, &rng);
    parts p = {.text = spec->filler_ids, .n_text = spec->n_filler_ids};
    if (p.text != NULL) {
        SSMQ_CHECK(p.n_text > 0, err);
        p.text_offset = (int64_t)ssmq_rng_below(&rng, (uint64_t)p.n_text);
    }
    if (t->adjectives != NULL) draw_words(&v, t, &rng);
    if (t->has_names) draw_names(&v, NULL, &rng);
    if (t->needles[1] != NULL) draw_places(&p, &rng);
    if (spec->has_wrong_key) draw_wrong_key(&v, t, &rng);
    ssmq_field_set(out->key, sizeof out->key, v.key);
    ssmq_status status = SSMQ_OK;
    SSMQ_TRY_OR(parts_init(&p, tokenizer, spec, &v, err), out);
    SSMQ_TRY_OR(join(out, &p, spec, err), out);
    SSMQ_TRY_OR(init_answer(out, tokenizer, t, &v, err), out);
out:
    parts_free(&p);
    if (status != SSMQ_OK) ssmq_prompt_free(out);
    return status;
}

void ssmq_prompt_free(ssmq_prompt *prompt) {
    ssmq_ids_free(&prompt->prompt);
    ssmq_ids_free(&prompt->answer);
}
