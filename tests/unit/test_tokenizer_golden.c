/* SPDX-License-Identifier: Apache-2.0 */
/* The tokenizer against the `tokenizers` package: ids and decoded texts of tests/golden/tokenizer.
 * SSMQ_TEST_NEOX_TOKENIZER names a folder with the GPT-NeoX tokenizer.json (and, if
 * make_golden.py put them there, a larger cases.json with its ids.json). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "json/json.h"
#include "model/tokenizer.h"

#define GOLDEN "tests/golden/tokenizer"
enum { MAX_JSON_BYTES = 1 << 28, MAX_REPORTS = 5 };

static ssmq_json *read_list(const char *path) {
    ssmq_err err = {0};
    ssmq_json *document = NULL;
    ssmq_status status = ssmq_json_read(&document, path, MAX_JSON_BYTES, &err);
    if (status != SSMQ_OK) print_error("%s\n", err.text);
    assert_int_equal(status, SSMQ_OK);
    assert_int_equal(ssmq_json_type_of(document), SSMQ_JSON_ARRAY);
    return document;
}

static ssmq_tokenizer *open_tokenizer(const char *folder) {
    ssmq_err err = {0};
    ssmq_tokenizer *tokenizer = NULL;
    ssmq_status status = ssmq_tokenizer_open(&tokenizer, folder, &err);
    if (status != SSMQ_OK) print_error("%s\n", err.text);
    assert_int_equal(status, SSMQ_OK);
    return tokenizer;
}

/* The ids of a JSON list into *out. */
static size_t take_ids(const ssmq_json *list, int32_t **out) {
    size_t n = ssmq_json_n_items(list);
    assert_int_equal(ssmq_calloc(out, n, sizeof **out, NULL), SSMQ_OK);
    for (size_t i = 0; i < n; i++) {
        int64_t id = -1;
        assert_true(ssmq_json_i64(ssmq_json_item(list, i), &id));
        (*out)[i] = (int32_t)id;
    }
    return n;
}

static void report(const char *what, const char *text, size_t n_bytes) {
    ssmq_str quoted;
    ssmq_str_init(&quoted, MAX_JSON_BYTES);
    ssmq_str_add_json(&quoted, text, n_bytes);
    print_error("%s: %.400s\n", what, ssmq_str_get(&quoted));
    ssmq_str_free(&quoted);
}

static bool decodes_to(const ssmq_tokenizer *tokenizer, const int32_t *ids, size_t n,
                       const char *text, size_t n_bytes) {
    ssmq_str out;
    if (text == NULL) return false;
    ssmq_str_init(&out, MAX_JSON_BYTES);
    assert_int_equal(ssmq_tokenizer_decode(tokenizer, ids, n, &out, NULL), SSMQ_OK);
    bool is_same = out.n_bytes == n_bytes && memcmp(ssmq_str_get(&out), text, n_bytes) == 0;
    if (!is_same) report("decoded", ssmq_str_get(&out), out.n_bytes);
    ssmq_str_free(&out);
    return is_same;
}

/* One case: [text] or [text, decoded text]. */
static bool check_case(const ssmq_tokenizer *tokenizer, const ssmq_json *item,
                       const ssmq_json *expected_ids) {
    size_t n_text = 0;
    size_t n_decoded = 0;
    int32_t *expected = NULL;
    ssmq_ids ids = {0};
    const char *text = ssmq_json_string(ssmq_json_item(item, 0), &n_text);
    const char *decoded =
        ssmq_json_string(ssmq_json_item(item, ssmq_json_n_items(item) - 1), &n_decoded);
    assert_true(text != NULL && decoded != NULL);
    size_t n_expected = take_ids(expected_ids, &expected);
    assert_int_equal(ssmq_tokenizer_encode(tokenizer, text, n_text, &ids, NULL), SSMQ_OK);
    bool is_same = ids.n == n_expected;
    for (size_t i = 0; is_same && i < n_expected; i++) is_same = ids.ids[i] == expected[i];
    if (!is_same) report("encoded", text, n_text);
    is_same = decodes_to(tokenizer, expected, n_expected, decoded, n_decoded) && is_same;
    ssmq_ids_free(&ids);
    ssmq_free(expected);
    return is_same;
}

static void check_cases(const char *folder, const char *cases_path, const char *ids_path) {
    ssmq_tokenizer *tokenizer = open_tokenizer(folder);
    ssmq_json *cases = read_list(cases_path);
    ssmq_json *ids = read_list(ids_path);
    size_t n = ssmq_json_n_items(cases);
    size_t n_wrong = 0;
    assert_true(n > 1000);
    assert_int_equal(ssmq_json_n_items(ids), n);
    for (size_t i = 0; i < n && n_wrong < MAX_REPORTS; i++) {
        n_wrong += !check_case(tokenizer, ssmq_json_item(cases, i), ssmq_json_item(ids, i));
    }
    print_message("%s: %zu cases\n", cases_path, n);
    assert_int_equal(n_wrong, 0);
    ssmq_json_free(ids);
    ssmq_json_free(cases);
    ssmq_tokenizer_close(tokenizer);
}

static void demo_encodes_as_package(void **state) {
    (void)state;
    check_cases("configs/demo", GOLDEN "/cases.json", GOLDEN "/ids-demo.json");
}

static void demo_decodes_as_package(void **state) {
    (void)state;
    ssmq_tokenizer *tokenizer = open_tokenizer("configs/demo");
    ssmq_json *items = read_list(GOLDEN "/decodings-demo.json");
    size_t n_replaced = 0;
    for (size_t i = 0; i < ssmq_json_n_items(items); i++) {
        const ssmq_json *item = ssmq_json_item(items, i);
        size_t n_text = 0;
        int32_t *ids = NULL;
        const char *text = ssmq_json_string(ssmq_json_item(item, 0), &n_text);
        assert_non_null(text);
        size_t n = take_ids(ssmq_json_item(item, 1), &ids);
        assert_true(decodes_to(tokenizer, ids, n, text, n_text));
        n_replaced += strstr(text, "\xEF\xBF\xBD") != NULL;
        ssmq_free(ids);
    }
    assert_true(n_replaced > 50);
    ssmq_json_free(items);
    ssmq_tokenizer_close(tokenizer);
}

static void neox_encodes_as_package(void **state) {
    (void)state;
    const char *folder = getenv("SSMQ_TEST_NEOX_TOKENIZER");
    if (folder == NULL) {
        print_message("skipped: SSMQ_TEST_NEOX_TOKENIZER names no folder with the GPT-NeoX "
                      "tokenizer.json; see " GOLDEN "/README.md\n");
        skip();
    }
    check_cases(folder, GOLDEN "/cases.json", GOLDEN "/ids-gpt-neox.json");
    char cases[SSMQ_PATH_BYTES];
    char ids[SSMQ_PATH_BYTES];
    assert_int_equal(ssmq_path_join(cases, folder, "cases.json", NULL), SSMQ_OK);
    assert_int_equal(ssmq_path_join(ids, folder, "ids.json", NULL), SSMQ_OK);
    if (ssmq_path_exists(cases)) check_cases(folder, cases, ids);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(demo_encodes_as_package),
        cmocka_unit_test(demo_decodes_as_package),
        cmocka_unit_test(neox_encodes_as_package),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
