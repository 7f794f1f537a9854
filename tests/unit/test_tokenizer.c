/* SPDX-License-Identifier: Apache-2.0 */
/* model/tokenizer.h on small files: which are accepted, the message of each that is not, the
 * rules for added tokens, decoding of damaged bytes, and time on hostile texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "model/tokenizer_file.h"
#include "support/write_tokenizer.h"

enum { MAX_JSON = 1 << 16, LONG_TEXT = 1 << 20 };
/* What is linear takes a tenth of a second; a quadratic step takes hours. */
static const int64_t limit_ns = 10000000000;

static ssmq_status parse(ssmq_tokenizer **out, struct tokenizer_parts parts, ssmq_err *err) {
    ssmq_str json;
    ssmq_str_init(&json, MAX_JSON);
    write_tokenizer(&json, &parts);
    assert_int_equal(ssmq_str_check(&json, "json", NULL), SSMQ_OK);
    ssmq_status status =
        ssmq_tokenizer_parse(out, ssmq_str_get(&json), json.n_bytes, "t.json", err);
    ssmq_str_free(&json);
    return status;
}

static ssmq_tokenizer *accept(struct tokenizer_parts parts) {
    ssmq_err err = {0};
    ssmq_tokenizer *tokenizer = NULL;
    ssmq_status status = parse(&tokenizer, parts, &err);
    if (status != SSMQ_OK) print_error("%s\n", err.text);
    assert_int_equal(status, SSMQ_OK);
    return tokenizer;
}

static void reject(struct tokenizer_parts parts, const char *message) {
    ssmq_err err = {0};
    ssmq_tokenizer *tokenizer = (ssmq_tokenizer *)&err;
    assert_int_equal(parse(&tokenizer, parts, &err), SSMQ_CONFIG);
    assert_null(tokenizer);
    assert_string_equal(err.text, message);
}

#define CHECK_IDS(tokenizer, text, ...)                                                            \
    do {                                                                                           \
        const int32_t expected_[] = {__VA_ARGS__};                                                 \
        check_ids(tokenizer, text, expected_, sizeof expected_ / sizeof expected_[0]);             \
    } while (0)

static void check_ids(const ssmq_tokenizer *tokenizer, const char *text, const int32_t *expected,
                      size_t n) {
    ssmq_ids ids = {0};
    assert_int_equal(ssmq_tokenizer_encode(tokenizer, text, strlen(text), &ids, NULL), SSMQ_OK);
    assert_int_equal(ids.n, n);
    for (size_t i = 0; i < n; i++) assert_int_equal(ids.ids[i], expected[i]);
    ssmq_ids_free(&ids);
}

static void check_text(const ssmq_tokenizer *tokenizer, const int32_t *ids, size_t n,
                       const char *expected) {
    ssmq_str out;
    ssmq_str_init(&out, MAX_JSON);
    assert_int_equal(ssmq_tokenizer_decode(tokenizer, ids, n, &out, NULL), SSMQ_OK);
    assert_string_equal(ssmq_str_get(&out), expected);
    ssmq_str_free(&out);
}

static void encodes_in_order(void **state) {
    (void)state;
    ssmq_tokenizer *t = accept((struct tokenizer_parts){0});
    assert_int_equal(ssmq_tokenizer_vocab_count(t), 264);
    CHECK_IDS(t, "abcab", 257, 256);
    CHECK_IDS(t, "a b", 'a', ' ', 'b');
    CHECK_IDS(t, "\xC3\xBC", 0xC3, 0xBC);
    /* Longest of the tokens that begin leftmost; runs of spaces three at a time. */
    CHECK_IDS(t, "<|end|><|endless|><|end|", 259, 263, '<', '|', 'e', 'n', 'd', '|');
    CHECK_IDS(t, "<<|end|>", '<', 259);
    CHECK_IDS(t, "       x", 261, 261, ' ', 'x');
    CHECK_IDS(t, "     x", 261, 260, 'x');
    /* "e" with acute is found in the normal form however it was written; the mark behind a raw
     * token has no base, since pieces are normalized one by one. */
    CHECK_IDS(t, "\xC3\xA9", 262);
    CHECK_IDS(t, "e\xCC\x81z", 262, 'z');
    CHECK_IDS(t, "e<|end|>\xCC\x81", 'e', 259, 0xCC, 0x81);
    check_ids(t, "", NULL, 0);
    ssmq_tokenizer_close(t);
    ssmq_tokenizer_close(NULL);
}

static void contractions_are_words(void **state) {
    (void)state;
    ssmq_tokenizer *t = accept((struct tokenizer_parts){
        .added_tokens = "[]",
        .vocab_extra = ",\"'s\":256,\"sa\":257,\"'l\":258,\"\\u0120'\":259,\"ll\":260",
        .merges = "[\"s a\", \"' s\", \"' l\", \"\\u0120 '\", \"l l\"]"});
    CHECK_IDS(t, "'sa", 256, 'a');
    CHECK_IDS(t, "'Sa", '\'', 'S', 'a');
    CHECK_IDS(t, " 'sa", 259, 257);
    CHECK_IDS(t, "'ll", 258, 'l');
    CHECK_IDS(t, "'l", '\'', 'l');
    ssmq_tokenizer_close(t);
}

static void appends_and_restores(void **state) {
    (void)state;
    ssmq_err err = {0};
    ssmq_ids ids = {0};
    ssmq_tokenizer *t = accept((struct tokenizer_parts){0});
    assert_int_equal(ssmq_tokenizer_encode(t, "a", 1, &ids, &err), SSMQ_OK);
    assert_int_equal(ssmq_tokenizer_encode(t, "b\0c", 3, &ids, &err), SSMQ_OK);
    assert_int_equal(ids.n, 4);
    assert_int_equal(ids.ids[2], 0);
    assert_int_equal(ssmq_tokenizer_encode(t, "ok<|end|>\xC3(", 11, &ids, &err), SSMQ_CONFIG);
    assert_string_equal(err.text, "text is not UTF-8 at byte 9");
    assert_int_equal(ids.n, 4);
    ssmq_err_clear(&err);
    assert_int_equal(ssmq_tokenizer_encode(t, "", ((size_t)1 << 29) + 1, &ids, &err), SSMQ_CONFIG);
    assert_string_equal(err.text, "text of 536870913 bytes; the tokenizer takes at most 536870912");
    ssmq_ids_free(&ids);
    assert_null(ids.ids);
    ssmq_tokenizer_close(t);
}

static void decodes_bytes_then_characters(void **state) {
    (void)state;
    ssmq_tokenizer *t = accept((struct tokenizer_parts){
        .vocab_extra = ",\"ab\":256,\"abc\":257,\"\\u0120\\u0120\":258,\"<|end|>\":259,"
                       "\"\\u00e9 \\u4e2d\":300"});
    assert_int_equal(ssmq_tokenizer_vocab_count(t), 301);
    check_text(t, (const int32_t[]){257, 258, 259, 261}, 4, "abc  <|end|>   ");
    check_text(t, (const int32_t[]){0xE4, 0xB8, 0xAD}, 3, "\xE4\xB8\xAD");
    /* A text with a character that stands for no byte is itself; id 299 has no text. */
    check_text(t, (const int32_t[]){300, 299, -1, 301, INT32_MAX, INT32_MIN, 262}, 7,
               "\xC3\xA9 \xE4\xB8\xAD"
               "e\xCC\x81");
    /* One U+FFFD for each longest beginning of a character. */
    check_text(t, (const int32_t[]){0xE4, 0xB8, 'x', 0xF0, 0x9F, 0x98}, 6,
               "\xEF\xBF\xBDx\xEF\xBF\xBD");
    check_text(t, (const int32_t[]){0xED, 0xA0, 0x80}, 3, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
    check_text(t, (const int32_t[]){0xF4, 0x90, 0xC0, 0x80, 0xE0, 0x9F}, 6,
               "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
    ssmq_err err = {0};
    ssmq_str out;
    ssmq_str_init(&out, 3);
    assert_int_equal(ssmq_tokenizer_decode(t, (const int32_t[]){257, 'd'}, 2, &out, &err),
                     SSMQ_CONFIG);
    assert_string_equal(err.text, "decoded text: longer than 3 bytes");
    ssmq_str_free(&out);
    ssmq_tokenizer_close(t);
}

static void accepts_variants(void **state) {
    (void)state;
    const struct tokenizer_parts variants[] = {
        {.post_processor = "null"},
        {.post_processor =
             "{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"A\","
             "\"type_id\":0}}],\"pair\":[],\"special_tokens\":{}}"},
        {.model_extra =
             "\"dropout\":null,\"continuing_subword_prefix\":\"\",\"end_of_word_suffix\":"
             "null,\"byte_fallback\":false,\"ignore_merges\":false,\"unk_token\":\"?\","},
        {.pre_tokenizer = "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":true}"},
        {.decoder = "{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true}"},
        {.root_extra = "\"truncation\":{\"max_length\":8},\"unheard_of\":[],"},
        {.skip_byte_p1 = 0xC0 + 1},
        {.skip_byte_p1 = 0xF5 + 1},
    };
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        ssmq_tokenizer *t = accept(variants[i]);
        CHECK_IDS(t, "abc  d", 257, 260, 'd');
        ssmq_tokenizer_close(t);
    }
    ssmq_tokenizer *t = accept((struct tokenizer_parts){.added_tokens = "null"});
    CHECK_IDS(t, "<|end|>   x", '<', '|', 'e', 'n', 'd', '|', '>', 258, ' ', 'x');
    ssmq_tokenizer_close(t);
}

static void rejects_other_kinds(void **state) {
    (void)state;
#define REJECT(part, json, message) reject((struct tokenizer_parts){.part = (json)}, message)
    REJECT(root_extra, "\"version\":\"2.0\",",
           "t.json: version: \"2.0\" is not supported; only \"1.0\" is");
    REJECT(normalizer, "null", "t.json: normalizer: missing or null; only NFC is supported");
    REJECT(normalizer, "{\"type\":\"NFKC\"}",
           "t.json: normalizer: type \"NFKC\" is not supported; only NFC is");
    REJECT(normalizer, "[\"NFC\"]", "t.json: normalizer: an object with a type is needed");
    REJECT(normalizer, "{\"type\":[]}",
           "t.json: normalizer: type an array is not supported; only NFC is");
    REJECT(pre_tokenizer, "{\"type\":\"Sequence\",\"pretokenizers\":[]}",
           "t.json: pre_tokenizer: type \"Sequence\" is not supported; only ByteLevel is");
    REJECT(pre_tokenizer, "{\"type\":\"ByteLevel\"}",
           "t.json: pre_tokenizer.add_prefix_space: missing");
    REJECT(pre_tokenizer, "{\"type\":\"ByteLevel\",\"add_prefix_space\":true}",
           "t.json: pre_tokenizer.add_prefix_space: true is not supported; only false is");
    REJECT(pre_tokenizer, "{\"type\":\"ByteLevel\",\"add_prefix_space\":false,\"use_regex\":false}",
           "t.json: pre_tokenizer.use_regex: false is not supported; only true is");
    REJECT(post_processor, "{\"type\":\"BertProcessing\"}",
           "t.json: post_processor: type \"BertProcessing\" is not supported; only ByteLevel is");
    REJECT(post_processor, "7",
           "t.json: post_processor: type null is not supported; only "
           "ByteLevel is");
    REJECT(post_processor,
           "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},"
           "{\"Sequence\":{\"id\":\"A\"}}]}",
           "t.json: post_processor: a template that adds tokens is not supported");
    REJECT(decoder, "{\"type\":\"Metaspace\"}",
           "t.json: decoder: type \"Metaspace\" is not supported; only ByteLevel is");
    REJECT(model_extra, "\"dropout\":0.1,",
           "t.json: model.dropout: a number is not supported; only null is");
    REJECT(model_extra, "\"end_of_word_suffix\":\"</w>\",",
           "t.json: model.end_of_word_suffix: \"</w>\" is not supported; only null is");
    REJECT(model_extra, "\"continuing_subword_prefix\":\"##\",",
           "t.json: model.continuing_subword_prefix: \"##\" is not supported; only null is");
    REJECT(model_extra, "\"byte_fallback\":true,",
           "t.json: model.byte_fallback: true is not supported; only false is");
    REJECT(model_extra, "\"ignore_merges\":true,",
           "t.json: model.ignore_merges: true is not supported; only false is");
}

static void rejects_broken_tables(void **state) {
    (void)state;
    REJECT(vocab_extra, ",\"ax\":5", "t.json: token \"ax\": id 5 is another token's too");
    REJECT(vocab_extra, ",\"x\":256", "t.json: an object has the same key twice");
    REJECT(vocab_extra, ",\"ax\":-1", "t.json: token \"ax\": id is no integer from 0 to 1048575");
    REJECT(vocab_extra, ",\"ax\":1048576",
           "t.json: token \"ax\": id is no integer from 0 to 1048575");
    REJECT(vocab_extra, ",\"a\\n0123456789012345678901234567890123456789\":\"\"",
           "t.json: token \"a\\u000a012345678901234567890123456789\": id is no integer from 0 to "
           "1048575");
    REJECT(skip_byte_p1, 0x20 + 1, "t.json: model.vocab: no token for byte 0x20 (\"\xC4\xA0\")");
    REJECT(merges, "{}", "t.json: model.merges: a list is needed");
    REJECT(merges, "[\"a b\", \"ab\"]",
           "t.json: model.merges[1]: neither \"a b\" nor [\"a\", \"b\"]");
    REJECT(merges, "[\"a b c\"]", "t.json: model.merges[0]: neither \"a b\" nor [\"a\", \"b\"]");
    REJECT(merges, "[\" b\"]", "t.json: model.merges[0]: neither \"a b\" nor [\"a\", \"b\"]");
    REJECT(merges, "[[\"a\",\"b\",\"c\"]]",
           "t.json: model.merges[0]: neither \"a b\" nor [\"a\", \"b\"]");
    REJECT(merges, "[[\"a\",7]]", "t.json: model.merges[0]: neither \"a b\" nor [\"a\", \"b\"]");
    REJECT(merges, "[null]", "t.json: model.merges[0]: neither \"a b\" nor [\"a\", \"b\"]");
    REJECT(merges, "[\"a bq\"]", "t.json: model.merges[0]: \"bq\" is not in the vocabulary");
    REJECT(merges, "[\"xq b\"]", "t.json: model.merges[0]: \"xq\" is not in the vocabulary");
    REJECT(merges, "[\"a q\"]", "t.json: model.merges[0]: \"aq\" is not in the vocabulary");
    REJECT(merges, "[[\"a\",\"b\\u0000\"]]",
           "t.json: model.merges[0]: \"b\\u0000\" is not in the vocabulary");
    REJECT(added_tokens, "{}", "t.json: added_tokens: a list is needed");
    REJECT(added_tokens, "[7]", "t.json: added_tokens: a token without content");
    REJECT(added_tokens, "[{\"id\":1,\"content\":\"\",\"normalized\":true}]",
           "t.json: added_tokens: a token without content");
    REJECT(added_tokens, "[{\"content\":\"zz\",\"normalized\":true}]",
           "t.json: token \"zz\": id is no integer from 0 to 1048575");
    REJECT(added_tokens, "[{\"id\":300,\"content\":\"zz\",\"normalized\":1}]",
           "t.json: added token \"zz\": normalized is not true or false");
    REJECT(added_tokens, "[{\"id\":300,\"content\":\"zz\",\"normalized\":true,\"lstrip\":true}]",
           "t.json: added_tokens.lstrip: true is not supported; only false is");
    REJECT(added_tokens, "[{\"id\":65,\"content\":\"zz\",\"normalized\":true}]",
           "t.json: token \"zz\": id 65 is another token's too");
    REJECT(added_tokens, "[{\"id\":300,\"content\":\"ab\",\"normalized\":true}]",
           "t.json: added token \"ab\": id 300, but 256 in the vocabulary");
    REJECT(added_tokens,
           "[{\"id\":300,\"content\":\"zz\",\"normalized\":true},"
           "{\"id\":300,\"content\":\"zz\",\"normalized\":true}]",
           "t.json: token \"zz\": id 300 is another token's too");
    REJECT(added_tokens,
           "[{\"id\":300,\"content\":\"\\u1e69\",\"normalized\":true},"
           "{\"id\":301,\"content\":\"s\\u0323\\u0307\",\"normalized\":true}]",
           "t.json: added token \"\xE1\xB9\xA9\" is there twice");
#undef REJECT
}

static void rejects_what_is_no_tokenizer(void **state) {
    (void)state;
    static const struct {
        const char *text;
        const char *message;
    } files[] = {
        {"[]", "t.json: an object is needed"},
        {"{}", "t.json: normalizer: missing or null; only NFC is supported"},
        {"{\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"ByteLevel\","
         "\"add_prefix_space\":false},\"decoder\":{\"type\":\"ByteLevel\"}}",
         "t.json: model: missing or null; only BPE is supported"},
        {"{\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"ByteLevel\","
         "\"add_prefix_space\":false},\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":"
         "\"Unigram\",\"vocab\":[]}}",
         "t.json: model: type \"Unigram\" is not supported; only BPE is"},
        {"{\"normalizer\":{\"type\":\"NFC\"},\"pre_tokenizer\":{\"type\":\"ByteLevel\","
         "\"add_prefix_space\":false},\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":"
         "\"BPE\",\"vocab\":[]}}",
         "t.json: model.vocab: an object is needed"},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        ssmq_err err = {0};
        ssmq_tokenizer *t = NULL;
        assert_int_equal(
            ssmq_tokenizer_parse(&t, files[i].text, strlen(files[i].text), "t.json", &err),
            SSMQ_CONFIG);
        assert_string_equal(err.text, files[i].message);
    }
    enum { N_COMMAS = (1 << 22) + 1 };
    ssmq_err err = {0};
    ssmq_tokenizer *t = NULL;
    char *commas = NULL;
    assert_int_equal(ssmq_calloc(&commas, N_COMMAS, 1, NULL), SSMQ_OK);
    memset(commas, ',', N_COMMAS);
    assert_int_equal(ssmq_tokenizer_parse(&t, commas, N_COMMAS, "t.json", &err), SSMQ_CONFIG);
    assert_string_equal(err.text,
                        "t.json: over 4194304 values or 65536 objects; too large for a tokenizer");
    ssmq_free(commas);
}

static void opens_folders(void **state) {
    (void)state;
    ssmq_err err = {0};
    ssmq_tokenizer *t = (ssmq_tokenizer *)&err;
    assert_int_equal(ssmq_tokenizer_open(&t, "tests/unit", &err), SSMQ_CONFIG);
    assert_null(t);
    assert_non_null(strstr(err.text, "tests/unit/tokenizer.json"));
    char hex[SSMQ_SHA256_HEX_BYTES];
    char *text = NULL;
    size_t n_bytes = 0;
    assert_int_equal(ssmq_tokenizer_open(&t, "configs/demo", NULL), SSMQ_OK);
    assert_int_equal(ssmq_file_read(&text, &n_bytes, "configs/demo/tokenizer.json", 1 << 20, NULL),
                     SSMQ_OK);
    ssmq_sha256_of(text, n_bytes, hex);
    assert_string_equal(ssmq_tokenizer_sha256(t), hex);
    assert_int_equal(ssmq_tokenizer_vocab_count(t), 4096);
    ssmq_free(text);
    ssmq_tokenizer_close(t);
}

/* Decoding what was encoded gives the text back; the texts are in normal form C. */
static void round_trip(const ssmq_tokenizer *t, const char *text, size_t n_bytes, size_t max_ids) {
    ssmq_ids ids = {0};
    ssmq_str out;
    ssmq_str_init(&out, (size_t)LONG_TEXT * 4);
    int64_t begin_ns = ssmq_now_ns();
    assert_int_equal(ssmq_tokenizer_encode(t, text, n_bytes, &ids, NULL), SSMQ_OK);
    assert_int_equal(ssmq_tokenizer_decode(t, ids.ids, ids.n, &out, NULL), SSMQ_OK);
    int64_t took_ns = ssmq_now_ns() - begin_ns;
    print_message("%zu bytes, %zu ids: %.1f ms\n", n_bytes, ids.n, (double)took_ns / 1e6);
    assert_true(took_ns < limit_ns);
    assert_true(ids.n <= max_ids);
    assert_int_equal(out.n_bytes, n_bytes);
    assert_memory_equal(out.text, text, n_bytes);
    ssmq_str_free(&out);
    ssmq_ids_free(&ids);
}

static void long_texts_take_linear_time(void **state) {
    (void)state;
    static const char *const units[] = {"a",
                                        " ",
                                        "abc",
                                        " a",
                                        "\n",
                                        "!",
                                        "7",
                                        "\xE4\xB8\xAD",
                                        "'s",
                                        "<|endles",
                                        "\xF0\x9F\x98\x80 ",
                                        " x\t"};
    ssmq_tokenizer *t = NULL;
    char *text = NULL;
    assert_int_equal(ssmq_tokenizer_open(&t, "configs/demo", NULL), SSMQ_OK);
    assert_int_equal(ssmq_calloc(&text, LONG_TEXT, 1, NULL), SSMQ_OK);
    for (size_t u = 0; u < sizeof units / sizeof units[0]; u++) {
        size_t length = strlen(units[u]);
        size_t n_bytes = LONG_TEXT / length * length;
        for (size_t i = 0; i < n_bytes; i++) text[i] = units[u][i % length];
        round_trip(t, text, n_bytes, n_bytes);
    }
    ssmq_free(text);
    ssmq_tokenizer_close(t);
}

/* Every byte but the last few takes part in three merges, in words of a megabyte. */
static void long_words_merge_quickly(void **state) {
    (void)state;
    ssmq_tokenizer *t = accept((struct tokenizer_parts){
        .added_tokens = "[]",
        .vocab_extra = ",\"aa\":256,\"aaaa\":257,\"aaaaaaaa\":258,\"aaa\":259",
        .merges = "[\"a a\", \"aa aa\", \"aa a\", \"aaaa aaaa\"]"});
    char *text = NULL;
    assert_int_equal(ssmq_calloc(&text, LONG_TEXT, 1, NULL), SSMQ_OK);
    memset(text, 'a', LONG_TEXT);
    CHECK_IDS(t, "aaaaaaaaaaa", 258, 259);
    round_trip(t, text, LONG_TEXT, LONG_TEXT / 8);
    round_trip(t, text, LONG_TEXT - 1, LONG_TEXT / 8 + 1);
    ssmq_free(text);
    ssmq_tokenizer_close(t);
}

/* U+0301 (class 230) before as many U+0323 (class 220): sorting by exchange would be quadratic. */
static void marks_are_ordered_in_linear_time(void **state) {
    (void)state;
    enum { N_MARKS = LONG_TEXT / 4 };
    ssmq_ids ids = {0};
    ssmq_str out;
    char *text = NULL;
    ssmq_tokenizer *t = accept((struct tokenizer_parts){0});
    assert_int_equal(ssmq_calloc(&text, N_MARKS * 4, 1, NULL), SSMQ_OK);
    for (size_t i = 0; i < N_MARKS; i++) {
        text[2 * i] = text[2 * (N_MARKS + i)] = '\xCC';
        text[2 * i + 1] = '\x81';
        text[2 * (N_MARKS + i) + 1] = '\xA3';
    }
    int64_t begin_ns = ssmq_now_ns();
    assert_int_equal(ssmq_tokenizer_encode(t, text, N_MARKS * 4, &ids, NULL), SSMQ_OK);
    assert_true(ssmq_now_ns() - begin_ns < limit_ns);
    ssmq_str_init(&out, LONG_TEXT);
    assert_int_equal(ssmq_tokenizer_decode(t, ids.ids, ids.n, &out, NULL), SSMQ_OK);
    assert_int_equal(out.n_bytes, N_MARKS * 4);
    assert_memory_equal(out.text, text + 2 * N_MARKS, 2 * N_MARKS);
    assert_memory_equal(out.text + 2 * N_MARKS, text, 2 * N_MARKS);
    ssmq_str_free(&out);
    ssmq_ids_free(&ids);
    ssmq_free(text);
    ssmq_tokenizer_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(encodes_in_order),
        cmocka_unit_test(contractions_are_words),
        cmocka_unit_test(appends_and_restores),
        cmocka_unit_test(decodes_bytes_then_characters),
        cmocka_unit_test(accepts_variants),
        cmocka_unit_test(rejects_other_kinds),
        cmocka_unit_test(rejects_broken_tables),
        cmocka_unit_test(rejects_what_is_no_tokenizer),
        cmocka_unit_test(opens_folders),
        cmocka_unit_test(long_texts_take_linear_time),
        cmocka_unit_test(long_words_merge_quickly),
        cmocka_unit_test(marks_are_ordered_in_linear_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
