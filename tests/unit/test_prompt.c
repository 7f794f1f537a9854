/* SPDX-License-Identifier: Apache-2.0 */
/* trial/prompt: exact lengths at every length and depth, what stands where, and draws. The demo's
 * tokenizer; parts are checked against ids of their own texts and against the decoded prompt. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "trial/prompt.h"

static ssmq_tokenizer *tokenizer;

static const char intro_demo[] =
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize it. I "
    "will quiz you about the important information there.\n";
static const char intro_landmark[] =
    "There is an important info hidden inside a lot of irrelevant text. Find it and memorize them. "
    "I will quiz you about the important information there.\n";
static const char question[] = "\nWhat is the pass key? The pass key is";

static ssmq_ids encode(const char *text) {
    ssmq_ids ids = {0};
    assert_int_equal(ssmq_tokenizer_encode(tokenizer, text, strlen(text), &ids, NULL), SSMQ_OK);
    return ids;
}

static void assert_ids_at(const ssmq_ids *prompt, size_t at, const char *text) {
    ssmq_ids part = encode(text);
    assert_true(at + part.n <= prompt->n);
    assert_memory_equal(prompt->ids + at, part.ids, part.n * sizeof *part.ids);
    ssmq_ids_free(&part);
}

static size_t count_of(const char *text) {
    ssmq_ids part = encode(text);
    size_t n = part.n;
    ssmq_ids_free(&part);
    return n;
}

static void needle_of(char *out, size_t n_bytes, const char *key) {
    (void)snprintf(out, n_bytes, "\nThe pass key is %s. Remember it. %s is the pass key.\n", key,
                   key);
}

static ssmq_prompt make(const ssmq_prompt_spec *spec) {
    ssmq_prompt prompt;
    ssmq_err err = {0};
    if (ssmq_prompt_init(&prompt, tokenizer, spec, &err) != SSMQ_OK) fail_msg("%s", err.text);
    return prompt;
}

static void check_prompt(const ssmq_prompt_spec *spec, const char *intro) {
    ssmq_prompt prompt = make(spec);
    char needle[128];
    needle_of(needle, sizeof needle, prompt.key);
    assert_int_equal(prompt.prompt.n, spec->n_tokens);
    assert_int_equal(strlen(prompt.key), 5);
    assert_true(prompt.key[0] >= '1' && prompt.key[0] <= '9');
    const size_t n_intro = count_of(intro), n_needle = count_of(needle);
    const size_t n_question = count_of(question);
    const size_t n_filler = prompt.prompt.n - n_intro - n_needle - n_question;
    assert_ids_at(&prompt.prompt, 0, intro);
    assert_ids_at(&prompt.prompt, (size_t)prompt.needle_at, needle);
    assert_ids_at(&prompt.prompt, prompt.prompt.n - n_question, question);
    /* The needle is the asked share of the filler away from the intro, to half a token. */
    const double asked = spec->depth * (double)n_filler;
    const double got = (double)prompt.needle_at - (double)n_intro;
    assert_true(got - asked <= 0.5 && asked - got <= 0.5);
    ssmq_prompt_free(&prompt);
}

static void lengths_are_exact(void **state) {
    (void)state;
    static const char *const versions[] = {"demo-1", "landmark-1"};
    static const double depths[] = {0, 0.1, 0.25, 1.0 / 3, 0.5, 0.75, 0.99, 1};
    int32_t text[777];
    for (int32_t i = 0; i < 777; i++) text[i] = 300 + i;
    for (size_t v = 0; v < 2; v++) {
        for (int64_t n = 90; n <= 400; n += n < 140 ? 1 : 37) {
            for (size_t d = 0; d < sizeof depths / sizeof depths[0]; d++) {
                ssmq_prompt_spec spec = {.template_ = ssmq_template_find(versions[v]),
                                         .n_tokens = n,
                                         .depth = depths[d],
                                         .has_needle = true,
                                         .draw = "lengths"};
                const char *intro = v == 0 ? intro_demo : intro_landmark;
                check_prompt(&spec, intro);
                spec.filler_ids = text;
                spec.n_filler_ids = 777;
                check_prompt(&spec, intro);
            }
        }
    }
}

static void decoded(const ssmq_prompt *prompt, ssmq_str *out) {
    ssmq_str_init(out, 1 << 20);
    assert_int_equal(
        ssmq_tokenizer_decode(tokenizer, prompt->prompt.ids, prompt->prompt.n, out, NULL), SSMQ_OK);
}

/* The text of a whole demo prompt: two units of grass before the needle, one and a part after. */
static void grass_goes_on_after_the_needle(void **state) {
    (void)state;
    static const char unit[] = " The grass is green. The sky is blue. The sun is yellow. Here we "
                               "go. There and back again.";
    const ssmq_template *template_ = ssmq_template_find("demo-1");
    const size_t n_unit = count_of(unit);
    const size_t n_fixed = count_of(intro_demo) + count_of(question);
    char needle[128];
    /* How many tokens the key has is the draw's. */
    ssmq_prompt_spec spec = {
        .template_ = template_, .n_tokens = 200, .has_needle = true, .draw = "grass"};
    ssmq_prompt prompt = make(&spec);
    needle_of(needle, sizeof needle, prompt.key);
    ssmq_prompt_free(&prompt);
    spec.n_tokens = (int64_t)(n_fixed + count_of(needle) + 4 * n_unit);
    /* Half of four units and three tokens more: a part of a unit stands before the needle. */
    spec.depth = (double)(2 * n_unit + 3) / (double)(4 * n_unit);
    prompt = make(&spec);
    char before[512], after[512];
    (void)snprintf(before, sizeof before, "%s%s%s The", intro_demo, unit, unit);
    ssmq_str text;
    decoded(&prompt, &text);
    const char *found = strstr(ssmq_str_get(&text), needle);
    assert_non_null(found);
    assert_memory_equal(ssmq_str_get(&text), before, strlen(before));
    /* Filler before and after the needle joined is whole units. */
    (void)snprintf(after, sizeof after, "%s%s%s%s", unit, unit, unit, unit);
    char joined[512];
    const size_t n_before = (size_t)(found - ssmq_str_get(&text)) - strlen(intro_demo);
    const char *rest = found + strlen(needle);
    const char *end = strstr(rest, question);
    assert_non_null(end);
    assert_string_equal(end, question);
    (void)snprintf(joined, sizeof joined, "%.*s%.*s", (int)n_before,
                   ssmq_str_get(&text) + strlen(intro_demo), (int)(end - rest), rest);
    assert_string_equal(joined, after);
    ssmq_str_free(&text);
    ssmq_prompt_free(&prompt);
}

static void landmark_grass_starts_again(void **state) {
    (void)state;
    const ssmq_prompt_spec spec = {.template_ = ssmq_template_find("landmark-1"),
                                   .n_tokens = 200,
                                   .depth = 0.4,
                                   .has_needle = true,
                                   .draw = "landmark"};
    ssmq_prompt prompt = make(&spec);
    ssmq_str text;
    decoded(&prompt, &text);
    char expected[128];
    (void)snprintf(expected, sizeof expected,
                   "\nThe pass key is %s. Remember it. %s is the pass key.\nThe grass is green. "
                   "The sky",
                   prompt.key, prompt.key);
    assert_non_null(strstr(ssmq_str_get(&text), "there.\nThe grass is green. The sky"));
    assert_non_null(strstr(ssmq_str_get(&text), expected));
    ssmq_str_free(&text);
    ssmq_prompt_free(&prompt);
}

static void text_filler_runs_on_and_wraps(void **state) {
    (void)state;
    int32_t text[50];
    for (int32_t i = 0; i < 50; i++) text[i] = 1000 + i;
    const ssmq_prompt_spec spec = {.template_ = ssmq_template_find("demo-1"),
                                   .filler_ids = text,
                                   .n_filler_ids = 50,
                                   .n_tokens = 250,
                                   .depth = 0.5,
                                   .has_needle = true,
                                   .draw = "text"};
    ssmq_prompt prompt = make(&spec);
    char needle[128];
    needle_of(needle, sizeof needle, prompt.key);
    const size_t first = count_of(intro_demo), at = (size_t)prompt.needle_at;
    const size_t skip = count_of(needle), end = prompt.prompt.n - count_of(question);
    int32_t expected = prompt.prompt.ids[first];
    assert_in_range(expected, 1000, 1049);
    for (size_t i = first; i < end; i++) {
        if (i >= at && i < at + skip) continue;
        assert_int_equal(prompt.prompt.ids[i], expected);
        expected = expected == 1049 ? 1000 : expected + 1;
    }
    ssmq_prompt_free(&prompt);
}

static void draws_decide_everything(void **state) {
    (void)state;
    int32_t text[500];
    for (int32_t i = 0; i < 500; i++) text[i] = 1000 + i;
    ssmq_prompt_spec spec = {.template_ = ssmq_template_find("demo-1"),
                             .filler_ids = text,
                             .n_filler_ids = 500,
                             .n_tokens = 150,
                             .depth = 0.5,
                             .has_needle = true,
                             .draw = "a"};
    ssmq_prompt a = make(&spec), b = make(&spec);
    assert_memory_equal(a.prompt.ids, b.prompt.ids, 150 * sizeof *a.prompt.ids);
    assert_string_equal(a.key, b.key);
    ssmq_prompt_free(&b);
    spec.draw = "b";
    b = make(&spec);
    assert_string_not_equal(a.key, b.key);
    assert_int_not_equal(a.prompt.ids[45], b.prompt.ids[45]);
    ssmq_prompt_free(&b);
    /* The control has the same key and beginning, no needle, and the same length. */
    spec.draw = "a";
    spec.has_needle = false;
    b = make(&spec);
    assert_int_equal(b.needle_at, -1);
    assert_int_equal(b.prompt.n, 150);
    assert_string_equal(a.key, b.key);
    assert_memory_equal(a.answer.ids, b.answer.ids, a.answer.n * sizeof *a.answer.ids);
    ssmq_str all;
    decoded(&b, &all);
    assert_null(strstr(ssmq_str_get(&all), b.key));
    ssmq_str_free(&all);
    ssmq_prompt_free(&a);
    ssmq_prompt_free(&b);
}

/* The wrong-key control is the prompt with every mention of its key exchanged, its answer too. */
static void wrong_key_changes_the_key_alone(void **state) {
    (void)state;
    for (int i = 0; i < 50; i++) {
        char draw[16], needle[128], answer[16];
        (void)snprintf(draw, sizeof draw, "wrong %d", i);
        int32_t text[300];
        for (int32_t k = 0; k < 300; k++) text[k] = 1000 + k;
        ssmq_prompt_spec spec = {.template_ = ssmq_template_find("demo-1"),
                                 .filler_ids = text,
                                 .n_filler_ids = 300,
                                 .n_tokens = 140,
                                 .depth = 0,
                                 .has_needle = true,
                                 .draw = draw};
        ssmq_prompt right = make(&spec);
        spec.has_wrong_key = true;
        ssmq_prompt wrong = make(&spec);
        assert_string_not_equal(wrong.key, right.key);
        assert_int_equal(strlen(wrong.key), 5);
        assert_int_equal(wrong.prompt.n, 140);
        assert_int_equal(wrong.needle_at, right.needle_at);
        needle_of(needle, sizeof needle, wrong.key);
        assert_ids_at(&wrong.prompt, (size_t)wrong.needle_at, needle);
        (void)snprintf(answer, sizeof answer, " %s.", wrong.key);
        assert_ids_at(&wrong.answer, 0, answer);
        /* Filler goes on from the same token of the text. */
        const size_t at = (size_t)wrong.needle_at + count_of(needle);
        needle_of(needle, sizeof needle, right.key);
        assert_int_equal(wrong.prompt.ids[at],
                         right.prompt.ids[(size_t)right.needle_at + count_of(needle)]);
        ssmq_str all;
        decoded(&wrong, &all);
        assert_null(strstr(ssmq_str_get(&all), right.key));
        ssmq_str_free(&all);
        ssmq_prompt_free(&right);
        ssmq_prompt_free(&wrong);
    }
}

static void answers_hold_the_key_first(void **state) {
    (void)state;
    ssmq_prompt_spec spec = {.template_ = ssmq_template_find("demo-1"),
                             .n_tokens = 120,
                             .has_needle = true,
                             .draw = "answers"};
    ssmq_prompt prompt = make(&spec);
    char text[32];
    (void)snprintf(text, sizeof text, " %s.", prompt.key);
    assert_ids_at(&prompt.answer, 0, text);
    assert_int_equal(prompt.answer.n, count_of(text));
    (void)snprintf(text, sizeof text, " %s", prompt.key);
    assert_ids_at(&prompt.answer, 0, text);
    assert_int_equal(prompt.n_key_ids, count_of(text));
    assert_int_equal(prompt.n_key_ids + 1, prompt.answer.n);
    ssmq_prompt_free(&prompt);
    spec.template_ = ssmq_template_find("landmark-1");
    prompt = make(&spec);
    assert_int_equal(prompt.n_key_ids, prompt.answer.n);
    ssmq_prompt_free(&prompt);
}

static void too_short_names_the_least_length(void **state) {
    (void)state;
    /* 40 tokens of intro, 13 of question, 32 of a needle whose key has six tokens. */
    ssmq_prompt_spec spec = {.template_ = ssmq_template_find("demo-1"),
                             .n_tokens = 84,
                             .depth = 0.5,
                             .has_needle = true,
                             .draw = "short"};
    ssmq_prompt prompt;
    ssmq_err err = {0};
    assert_int_equal(ssmq_prompt_init(&prompt, tokenizer, &spec, &err), SSMQ_CONFIG);
    assert_string_equal(err.text,
                        "a prompt of 84 tokens is too short: template demo-1 needs at least 85");
    assert_null(prompt.prompt.ids);
    spec.n_tokens = 85;
    prompt = make(&spec);
    assert_int_equal(prompt.prompt.n, 85);
    assert_int_equal(prompt.needle_at, 40);
    ssmq_prompt_free(&prompt);
}

static void templates_have_names_and_hashes(void **state) {
    (void)state;
    char a[SSMQ_SHA256_HEX_BYTES], b[SSMQ_SHA256_HEX_BYTES];
    assert_null(ssmq_template_find("demo-2"));
    assert_string_equal(ssmq_template_versions(), "demo-1, landmark-1, ruler-niah-1, ruler-vt-1");
    ssmq_template_hash(ssmq_template_find("demo-1"), "grass", a);
    ssmq_template_hash(ssmq_template_find("demo-1"), "text", b);
    assert_string_not_equal(a, b);
    ssmq_template_hash(ssmq_template_find("landmark-1"), "grass", b);
    assert_string_not_equal(a, b);
    ssmq_template_hash(ssmq_template_find("demo-1"), "grass", b);
    assert_string_equal(a, b);
    assert_int_equal(strlen(a), 64);
    /* Of records that exist: a template that changes needs a new version. */
    assert_string_equal(a, "f840818d01b766286c277e6108217dbbbee9bc88eba64d8cfe88413766d32898");
    ssmq_template_hash(ssmq_template_find("ruler-niah-1"), "grass", a);
    ssmq_template_hash(ssmq_template_find("ruler-vt-1"), "grass", b);
    assert_string_not_equal(a, b);
}

static const char noise[] =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

/* The whole text of a prompt whose filler is whole sentences, put together here as RULER does. */
static void ruler_niah_is_the_published_text(void **state) {
    (void)state;
    for (int i = 0; i < 30; i++) {
        char draw[16], expected[2048], needle[160];
        (void)snprintf(draw, sizeof draw, "niah %d", i);
        ssmq_prompt_spec spec = {.template_ = ssmq_template_find("ruler-niah-1"),
                                 .n_tokens = 300,
                                 .depth = 0,
                                 .has_needle = true,
                                 .draw = draw};
        ssmq_prompt prompt = make(&spec);
        ssmq_str text;
        decoded(&prompt, &text);
        char word[64];
        const char *at = strstr(ssmq_str_get(&text), "numbers for ");
        assert_non_null(at);
        assert_int_equal(sscanf(at, "numbers for %63s", word), 1);
        assert_non_null(strchr(word, '-'));
        assert_int_equal(strlen(prompt.key), 7);
        assert_int_equal(prompt.n_characters, 7);
        (void)snprintf(needle, sizeof needle, "\nOne of the special magic numbers for %s is: %s.\n",
                       word, prompt.key);
        (void)snprintf(expected, sizeof expected,
                       "A special magic number is hidden within the following text. Make sure to "
                       "memorize it. I will quiz you about the number afterwards.\n%s%s\n%s\nThe",
                       needle, noise, noise);
        assert_memory_equal(ssmq_str_get(&text), expected, strlen(expected));
        (void)snprintf(expected, sizeof expected,
                       "\nWhat is the special magic number for %s mentioned in the provided text? "
                       "The special magic number for %s mentioned in the provided text is",
                       word, word);
        const size_t n_end = strlen(expected);
        assert_string_equal(ssmq_str_get(&text) + text.n_bytes - n_end, expected);
        (void)snprintf(expected, sizeof expected, " %s", prompt.key);
        assert_ids_at(&prompt.answer, 0, expected);
        assert_int_equal(prompt.n_key_ids, prompt.answer.n);
        /* With another key the word and all else stays. */
        spec.has_wrong_key = true;
        ssmq_prompt wrong = make(&spec);
        ssmq_str other;
        decoded(&wrong, &other);
        assert_string_not_equal(wrong.key, prompt.key);
        (void)snprintf(needle, sizeof needle, "\nOne of the special magic numbers for %s is: %s.\n",
                       word, wrong.key);
        assert_non_null(strstr(ssmq_str_get(&other), needle));
        assert_null(strstr(ssmq_str_get(&other), prompt.key));
        ssmq_str_free(&text);
        ssmq_str_free(&other);
        ssmq_prompt_free(&wrong);
        ssmq_prompt_free(&prompt);
    }
}

typedef struct chain {
    char names[5][8];
    char value[8];
    const char *at[5]; /* of its statements in the text */
} chain;

/* Reads the chain that the text asks for, behind the solved example. */
static void read_chain(chain *c, const char *text, const char *value) {
    char line[64];
    const char *begin = strstr(text, "RUL\n\n");
    assert_non_null(begin);
    (void)snprintf(line, sizeof line, " = %s\n", value);
    const char *found = strstr(begin, line);
    assert_non_null(found);
    c->at[0] = found - strlen("VAR ABCDE");
    assert_int_equal(sscanf(c->at[0], "VAR %5[A-Z] = %7s", c->names[0], c->value), 2);
    for (int i = 1; i < 5; i++) {
        (void)snprintf(line, sizeof line, " = VAR %s\n", c->names[i - 1]);
        found = strstr(begin, line);
        assert_non_null(found);
        c->at[i] = found - strlen("VAR ABCDE");
        assert_int_equal(sscanf(c->at[i], "VAR %5[A-Z] =", c->names[i]), 1);
        assert_true(c->at[i] > c->at[i - 1]);
    }
}

static void ruler_vt_is_a_chain(void **state) {
    (void)state;
    static const char question_begin[] =
        "\nQuestion: Find all variables that are assigned the value";
    for (int i = 0; i < 30; i++) {
        char draw[16], answer[64];
        (void)snprintf(draw, sizeof draw, "vt %d", i);
        ssmq_prompt_spec spec = {.template_ = ssmq_template_find("ruler-vt-1"),
                                 .n_tokens = 900,
                                 .depth = 0.5,
                                 .has_needle = true,
                                 .draw = draw};
        ssmq_prompt prompt = make(&spec);
        assert_int_equal(prompt.prompt.n, 900);
        ssmq_str text;
        decoded(&prompt, &text);
        chain right = {0}, other = {0};
        read_chain(&right, ssmq_str_get(&text), prompt.key);
        assert_string_equal(right.value, prompt.key);
        (void)snprintf(answer, sizeof answer, " %s %s %s %s %s", right.names[0], right.names[1],
                       right.names[2], right.names[3], right.names[4]);
        assert_ids_at(&prompt.answer, 0, answer);
        assert_int_equal(prompt.n_key_ids, prompt.answer.n);
        assert_int_equal(prompt.n_characters, 25);
        assert_ids_at(&prompt.prompt, (size_t)prompt.needle_at, "\nVAR");
        /* Each name stands in its statement and, but the last, in the next: nowhere else. */
        const char *end = ssmq_str_get(&text) + text.n_bytes;
        for (int k = 0; k < 5; k++) {
            int n = 0;
            for (const char *at = ssmq_str_get(&text); (at = strstr(at, right.names[k])) != NULL;
                 at++)
                n++;
            assert_int_equal(n, k < 4 ? 2 : 1);
            assert_true(right.at[k] < end);
        }
        assert_non_null(strstr(right.at[4], question_begin));
        /* Other names at the same places; the value stays. */
        spec.has_wrong_key = true;
        ssmq_prompt wrong = make(&spec);
        ssmq_str changed;
        decoded(&wrong, &changed);
        read_chain(&other, ssmq_str_get(&changed), prompt.key);
        assert_string_equal(wrong.key, prompt.key);
        for (int k = 0; k < 5; k++) assert_null(strstr(ssmq_str_get(&changed), right.names[k]));
        ssmq_str_free(&changed);
        ssmq_prompt_free(&wrong);
        /* Without needles nothing of it is left but the question's value. */
        spec.has_wrong_key = false;
        spec.has_needle = false;
        wrong = make(&spec);
        decoded(&wrong, &changed);
        for (int k = 0; k < 5; k++) assert_null(strstr(ssmq_str_get(&changed), right.names[k]));
        assert_int_equal(wrong.prompt.n, 900);
        assert_int_equal(wrong.needle_at, -1);
        assert_memory_equal(wrong.answer.ids, prompt.answer.ids,
                            prompt.answer.n * sizeof *prompt.answer.ids);
        ssmq_str_free(&changed);
        ssmq_prompt_free(&wrong);
        ssmq_str_free(&text);
        ssmq_prompt_free(&prompt);
    }
}

/* The first statement is where it is asked to be; with depth 1 all stand together at the end. */
static void ruler_lengths_are_exact(void **state) {
    (void)state;
    static const char *const versions[] = {"ruler-niah-1", "ruler-vt-1"};
    for (size_t v = 0; v < 2; v++) {
        for (int64_t n = 600; n < 640; n++) {
            for (int depth = 0; depth <= 4; depth++) {
                const ssmq_prompt_spec spec = {.template_ = ssmq_template_find(versions[v]),
                                               .n_tokens = n,
                                               .depth = 0.25 * depth,
                                               .has_needle = true,
                                               .draw = "exact"};
                ssmq_prompt prompt = make(&spec), again = make(&spec);
                assert_int_equal(prompt.prompt.n, n);
                assert_memory_equal(prompt.prompt.ids, again.prompt.ids,
                                    (size_t)n * sizeof *prompt.prompt.ids);
                const size_t n_intro = count_of(spec.template_->intro);
                assert_ids_at(&prompt.prompt, 0, spec.template_->intro);
                if (depth == 0) assert_int_equal(prompt.needle_at, n_intro);
                ssmq_prompt_free(&again);
                ssmq_prompt_free(&prompt);
            }
        }
    }
}

static int open_demo(void **state) {
    (void)state;
    ssmq_err err = {0};
    if (ssmq_tokenizer_open(&tokenizer, "configs/demo", &err) == SSMQ_OK) return 0;
    print_error("%s\n", err.text);
    return -1;
}

static int close_demo(void **state) {
    (void)state;
    ssmq_tokenizer_close(tokenizer);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lengths_are_exact),
        cmocka_unit_test(grass_goes_on_after_the_needle),
        cmocka_unit_test(landmark_grass_starts_again),
        cmocka_unit_test(text_filler_runs_on_and_wraps),
        cmocka_unit_test(draws_decide_everything),
        cmocka_unit_test(wrong_key_changes_the_key_alone),
        cmocka_unit_test(answers_hold_the_key_first),
        cmocka_unit_test(too_short_names_the_least_length),
        cmocka_unit_test(templates_have_names_and_hashes),
        cmocka_unit_test(ruler_niah_is_the_published_text),
        cmocka_unit_test(ruler_vt_is_a_chain),
        cmocka_unit_test(ruler_lengths_are_exact),
    };
    return cmocka_run_group_tests_name("prompt", tests, open_demo, close_demo);
}
