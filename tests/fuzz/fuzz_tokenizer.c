/* SPDX-License-Identifier: Apache-2.0 */
/* Mutated tokenizer.json texts and mutated texts through the tokenizer: no crash, a status and a
 * one-line text for every failure; whatever is accepted encodes to ids in range, and decodes them
 * to the text. The draws are fixed, so a failure repeats. Meant to run under AddressSanitizer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "fuzz/mutate.h"
#include "json/json.h"
#include "model/tokenizer_file.h"
#include "support/write_tokenizer.h"

enum {
    N_WHOLE = 4000,
    N_PARTS = 16200,
    N_TEXTS = 10000,
    CAPACITY = 1 << 13,
    N_FIELDS = 9,
    MAX_TRIES = 8,
    ADDED_TOKENS_FIELD = 1,
    MAX_LINES = 1000
};

static const char sample[] =
    "abc  ab'll   <|end|> e\xC3\xBC\xE4\xB8\xAD <|endless|>\xF0\x9F\x98\x80"
    "\t12 \r\n  z\xE1\xB9\xA9";

/* How the reader answered: lines at which failures were noticed show how deep mutants come. */
struct tally {
    int n_ok;
    int n_failed;
    int n_lines;
    bool is_seen[MAX_LINES];
};

static void check_failure(struct tally *tally, ssmq_status status, const ssmq_err *err) {
    assert_true(status == SSMQ_CONFIG || status == SSMQ_NOMEM);
    assert_int_equal(err->status, status);
    size_t length = strlen(err->text);
    assert_true(length > 0);
    for (size_t i = 0; i < length; i++) assert_true((unsigned char)err->text[i] >= 0x20);
    tally->n_failed++;
    assert_in_range(err->line, 1, MAX_LINES - 1);
    if (!tally->is_seen[err->line]) tally->n_lines++;
    tally->is_seen[err->line] = true;
}

static void report(const char *what, const struct tally *tally) {
    print_message("%s: %d accepted, %d rejected, at %d places\n", what, tally->n_ok,
                  tally->n_failed, tally->n_lines);
}

/* Encodes the text, checks the ids and decodes them into *out. */
static void there_and_back(const ssmq_tokenizer *t, const char *text, size_t n_bytes,
                           ssmq_str *out) {
    ssmq_ids ids = {0};
    assert_int_equal(ssmq_tokenizer_encode(t, text, n_bytes, &ids, NULL), SSMQ_OK);
    assert_true(ids.n <= 3 * n_bytes);
    for (size_t i = 0; i < ids.n; i++) {
        assert_in_range(ids.ids[i], 0, ssmq_tokenizer_vocab_count(t) - 1);
    }
    ssmq_str_clear(out);
    assert_int_equal(ssmq_tokenizer_decode(t, ids.ids, ids.n, out, NULL), SSMQ_OK);
    assert_int_equal(ssmq_utf8_valid_prefix(ssmq_str_get(out), out->n_bytes), out->n_bytes);
    ssmq_ids_free(&ids);
}

/* An exact copy goes to the reader, so that AddressSanitizer sees a read past its end. */
static void parse(struct tally *tally, const char *json, size_t n_bytes, bool must_come_back) {
    char *copy = NULL;
    ssmq_err err = {0};
    ssmq_tokenizer *t = NULL;
    assert_int_equal(ssmq_calloc(&copy, n_bytes, 1, NULL), SSMQ_OK);
    memcpy(copy, json, n_bytes);
    ssmq_status status = ssmq_tokenizer_parse(&t, copy, n_bytes, "t.json", &err);
    ssmq_free(copy);
    if (status != SSMQ_OK) {
        assert_null(t);
        check_failure(tally, status, &err);
        return;
    }
    tally->n_ok++;
    ssmq_str out;
    ssmq_str_init(&out, (size_t)CAPACITY * 16);
    there_and_back(t, sample, sizeof sample - 1, &out);
    if (must_come_back) assert_string_equal(ssmq_str_get(&out), sample);
    ssmq_str_free(&out);
    ssmq_tokenizer_close(t);
}

static void whole_files(void **state) {
    (void)state;
    static char bytes[CAPACITY];
    struct tally tally = {0};
    ssmq_str seed;
    ssmq_str_init(&seed, CAPACITY);
    write_tokenizer(&seed, &(struct tokenizer_parts){0});
    ssmq_rng rng = ssmq_rng_from_text("fuzz/tokenizer/whole");
    for (int i = 0; i < N_WHOLE; i++) {
        struct mutant m = {.bytes = bytes, .n_bytes = seed.n_bytes, .capacity = CAPACITY};
        memcpy(bytes, seed.text, seed.n_bytes);
        mutate(&m, seed.text, seed.n_bytes, &rng);
        parse(&tally, m.bytes, m.n_bytes, false);
    }
    report("whole files", &tally);
    assert_true(tally.n_ok > N_WHOLE / 100 && tally.n_lines >= 10);
    ssmq_str_free(&seed);
}

/* A part of a file, what makes a JSON text of it, and another text for it, near to what is
 * refused. */
struct field {
    const char **part;
    const char *before;
    const char *behind;
    const char *other;
};

static bool is_json(const struct field *field, const char *part) {
    ssmq_str text;
    ssmq_json *document = NULL;
    ssmq_str_init(&text, (size_t)CAPACITY * 2);
    ssmq_str_addf(&text, "%s%s%s", field->before, part, field->behind);
    ssmq_status status =
        ssmq_json_parse(&document, ssmq_str_get(&text), text.n_bytes, "part", NULL);
    ssmq_json_free(document);
    ssmq_str_free(&text);
    return status == SSMQ_OK;
}

/* A mutant of the part into bytes, which after a few draws is accepted as it is; most are JSON. */
static void mutate_part(char *bytes, const struct field *field, const char *other, ssmq_rng *rng) {
    const char *seed = *field->part;
    for (int tries = 0; tries < MAX_TRIES; tries++) {
        struct mutant m = {.bytes = bytes, .n_bytes = strlen(seed), .capacity = CAPACITY - 1};
        memcpy(bytes, seed, m.n_bytes);
        mutate(&m, other, strlen(other), rng);
        bytes[m.n_bytes] = '\0';
        if (is_json(field, bytes)) return;
    }
}

/* Most of a file is its byte symbols; here one of the other parts is damaged. */
static void parts(void **state) {
    (void)state;
    static char bytes[CAPACITY];
    struct tally tally = {0};
    ssmq_str json;
    ssmq_str_init(&json, (size_t)CAPACITY * 4);
    ssmq_rng rng = ssmq_rng_from_text("fuzz/tokenizer/parts");
    for (int i = 0; i < N_PARTS; i++) {
        struct tokenizer_parts p = tokenizer_defaults((struct tokenizer_parts){0});
        const struct field fields[N_FIELDS] = {
            {&p.root_extra, "{", "\"\":0}", "\"version\":\"1.0\",\"truncation\":{\"x\":[8]},"},
            {&p.added_tokens, "", "",
             "[{\"id\":300,\"content\":\"zz\",\"normalized\":true},"
             "{\"id\":301,\"content\":\"zz\",\"normalized\":true}]"},
            {&p.normalizer, "", "", "null"},
            {&p.pre_tokenizer, "", "",
             "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"},
            {&p.post_processor, "", "",
             "{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{}}]}"},
            {&p.decoder, "", "", "{\"type\":[]}"},
            {&p.model_extra, "{", "\"\":0}",
             "\"end_of_word_suffix\":\"x\",\"byte_fallback\":false,\"ignore_merges\":false,"},
            {&p.vocab_extra, "{\"\":0", "}", ",\"\\u4e2d\":1000,\"ab\":999,\"abc\":257"},
            {&p.merges, "", "", "[]"},
        };
        int damaged = i % N_FIELDS;
        if (i / N_FIELDS % 3 == 0) *fields[damaged].part = fields[damaged].other;
        mutate_part(bytes, &fields[damaged], *fields[ssmq_rng_below(&rng, N_FIELDS)].part, &rng);
        *fields[damaged].part = bytes;
        ssmq_str_clear(&json);
        write_tokenizer(&json, &p);
        parse(&tally, ssmq_str_get(&json), json.n_bytes, damaged != ADDED_TOKENS_FIELD);
    }
    report("parts", &tally);
    assert_true(tally.n_ok > N_PARTS / 5 && tally.n_lines >= 15);
    ssmq_str_free(&json);
}

/* Of damaged texts those that are UTF-8 go there and back; once in normal form they stay. */
static void texts(void **state) {
    (void)state;
    static char bytes[CAPACITY];
    ssmq_tokenizer *t = NULL;
    ssmq_str json;
    ssmq_str once;
    ssmq_str twice;
    int n_ok = 0;
    ssmq_str_init(&json, CAPACITY);
    ssmq_str_init(&once, (size_t)CAPACITY * 16);
    ssmq_str_init(&twice, (size_t)CAPACITY * 16);
    write_tokenizer(&json, &(struct tokenizer_parts){0});
    assert_int_equal(ssmq_tokenizer_parse(&t, ssmq_str_get(&json), json.n_bytes, "t.json", NULL),
                     SSMQ_OK);
    ssmq_rng rng = ssmq_rng_from_text("fuzz/tokenizer/texts");
    for (int i = 0; i < N_TEXTS; i++) {
        struct mutant m = {.bytes = bytes, .n_bytes = sizeof sample - 1, .capacity = CAPACITY};
        memcpy(bytes, sample, m.n_bytes);
        mutate(&m, sample, sizeof sample - 1, &rng);
        size_t n_valid = ssmq_utf8_valid_prefix(m.bytes, m.n_bytes);
        ssmq_ids ids = {0};
        ssmq_status status = ssmq_tokenizer_encode(t, m.bytes, m.n_bytes, &ids, NULL);
        assert_int_equal(status, n_valid == m.n_bytes ? SSMQ_OK : SSMQ_CONFIG);
        ssmq_ids_free(&ids);
        if (status != SSMQ_OK) continue;
        there_and_back(t, m.bytes, m.n_bytes, &once);
        there_and_back(t, ssmq_str_get(&once), once.n_bytes, &twice);
        assert_int_equal(once.n_bytes, twice.n_bytes);
        assert_memory_equal(ssmq_str_get(&once), ssmq_str_get(&twice), once.n_bytes);
        n_ok++;
    }
    print_message("texts: %d of %d are UTF-8\n", n_ok, N_TEXTS);
    assert_true(n_ok > N_TEXTS / 4);
    ssmq_str_free(&twice);
    ssmq_str_free(&once);
    ssmq_str_free(&json);
    ssmq_tokenizer_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_files),
        cmocka_unit_test(parts),
        cmocka_unit_test(texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
