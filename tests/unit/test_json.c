/* SPDX-License-Identifier: Apache-2.0 */
/* json/: what is accepted and how it reads, and the message of everything that is not. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "json/json.h"

static ssmq_json *parse(const char *text) {
    ssmq_err err = {0};
    ssmq_json *document = NULL;
    ssmq_status status = ssmq_json_parse(&document, text, strlen(text), "t.json", &err);
    if (status != SSMQ_OK) print_error("%s: %s\n", text, err.text);
    assert_int_equal(status, SSMQ_OK);
    return document;
}

static void reject(const char *text, size_t n_bytes, const char *message) {
    ssmq_err err = {0};
    ssmq_json *document = (ssmq_json *)&err;
    assert_int_equal(ssmq_json_parse(&document, text, n_bytes, "t.json", &err), SSMQ_CONFIG);
    assert_null(document);
    assert_string_equal(err.text, message);
}

static void reads_every_type(void **state) {
    (void)state;
    ssmq_json *document = parse("{\"s\":\"a\\u0000\\ud83d\\ude00\\n\", \"i\":-12, \"f\":1.5e3, "
                                "\"t\":true, \"z\":null, \"a\":[1,[2],{}]}\n");
    const ssmq_json *value = NULL;
    size_t n_bytes = 0;
    assert_int_equal(ssmq_json_type_of(document), SSMQ_JSON_OBJECT);
    assert_int_equal(ssmq_json_n_members(document), 6);
    assert_true(ssmq_json_get(document, "s", &value));
    assert_memory_equal(ssmq_json_string(value, &n_bytes), "a\0\xF0\x9F\x98\x80\n", 7);
    assert_int_equal(n_bytes, 7);
    int64_t integer = 0;
    double number = 0;
    bool truth = false;
    assert_true(ssmq_json_get(document, "i", &value));
    assert_true(ssmq_json_i64(value, &integer) && integer == -12);
    assert_true(ssmq_json_f64(value, &number) && number == -12.0);
    assert_false(ssmq_json_bool(value, &truth));
    assert_true(ssmq_json_get(document, "f", &value));
    assert_int_equal(ssmq_json_type_of(value), SSMQ_JSON_F64);
    assert_true(ssmq_json_i64(value, &integer) && integer == 1500);
    assert_true(ssmq_json_get(document, "t", &value));
    assert_true(ssmq_json_bool(value, &truth) && truth);
    assert_false(ssmq_json_i64(value, &integer));
    assert_true(ssmq_json_get(document, "z", &value));
    assert_null(value);
    assert_int_equal(ssmq_json_type_of(value), SSMQ_JSON_NULL);
    assert_false(ssmq_json_get(document, "absent", &value));
    assert_true(ssmq_json_get(document, "a", &value));
    assert_int_equal(ssmq_json_n_items(value), 3);
    assert_int_equal(ssmq_json_n_items(ssmq_json_item(value, 1)), 1);
    assert_null(ssmq_json_item(value, 3));
    assert_false(ssmq_json_get(value, "s", &value));
    assert_null(ssmq_json_string(document, &n_bytes));
    ssmq_json_free(document);
    ssmq_json_free(NULL);
}

static void members_come_in_file_order(void **state) {
    (void)state;
    ssmq_json *document = parse("{\"z\":1,\"\":2,\"a\":3}");
    const char *keys[] = {"z", "", "a"};
    ssmq_json_iter it = ssmq_json_begin(document);
    for (int i = 0; i < 3; i++) {
        int64_t value = 0;
        assert_true(ssmq_json_next(&it));
        assert_string_equal(it.key, keys[i]);
        assert_true(ssmq_json_i64(it.value, &value) && value == i + 1);
    }
    assert_false(ssmq_json_next(&it));
    ssmq_json_iter none = ssmq_json_begin(NULL);
    assert_false(ssmq_json_next(&none));
    ssmq_json_free(document);
}

static void numbers_at_their_limits(void **state) {
    (void)state;
    ssmq_json *document = parse("[Infinity, -Infinity, NaN, 9223372036854775807, "
                                "-9223372036854775808, 9223372036854775808, 1e19, 0.5, -0, 1e999]");
    double x = 0;
    int64_t i = 0;
    assert_true(ssmq_json_f64(ssmq_json_item(document, 0), &x) && isinf(x) && x > 0);
    assert_false(ssmq_json_i64(ssmq_json_item(document, 0), &i));
    assert_true(ssmq_json_f64(ssmq_json_item(document, 1), &x) && isinf(x) && x < 0);
    assert_true(ssmq_json_f64(ssmq_json_item(document, 2), &x) && isnan(x));
    assert_false(ssmq_json_i64(ssmq_json_item(document, 2), &i));
    assert_true(ssmq_json_i64(ssmq_json_item(document, 3), &i) && i == INT64_MAX);
    assert_true(ssmq_json_i64(ssmq_json_item(document, 4), &i) && i == INT64_MIN);
    assert_false(ssmq_json_i64(ssmq_json_item(document, 5), &i));
    assert_true(ssmq_json_f64(ssmq_json_item(document, 5), &x) && x == 0x1p63);
    assert_false(ssmq_json_i64(ssmq_json_item(document, 6), &i));
    assert_false(ssmq_json_i64(ssmq_json_item(document, 7), &i));
    assert_true(ssmq_json_i64(ssmq_json_item(document, 8), &i) && i == 0);
    assert_true(ssmq_json_f64(ssmq_json_item(document, 9), &x) && isinf(x));
    ssmq_json_free(document);
    document = parse(" 12");
    assert_true(ssmq_json_i64(document, &i) && i == 12);
    ssmq_json_free(document);
    assert_null(parse("null"));
}

static void rejects_what_is_not_json(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {"", "t.json:1:1: not valid JSON: unexpected end of data"},
        {"{\"a\":1", "t.json:1:7: not valid JSON: unexpected end of data"},
        {"[1,\n 2,]", "t.json:2:4: not valid JSON: unexpected character"},
        {"{\"a\":1,}", "t.json:1:8: not valid JSON: unexpected character"},
        {"{'a':1}", "t.json:1:2: not valid JSON: unexpected character"},
        {"['a']", "t.json:1:2: not valid JSON: unexpected character"},
        {"/* c */ 1", "t.json:1:1: not valid JSON: unexpected character"},
        {"[1] x", "t.json:1:5: not valid JSON: unexpected character"},
        {"[1]]", "t.json:1:4: not valid JSON: unexpected character"},
        {"{} {}", "t.json:1:4: not valid JSON: unexpected character"},
        {"[01]", "t.json:1:2: not valid JSON: a number with leading zeros"},
        {"[-01]", "t.json:1:2: not valid JSON: a number with leading zeros"},
        {"[1.]", "t.json:1:2: not valid JSON: a number without digits after '.'"},
        {"[-]", "t.json:1:2: not valid JSON: a number without digits"},
        {"[1e+]", "t.json:1:2: not valid JSON: an exponent without digits"},
        {"[.5]", "t.json:1:2: not valid JSON: unexpected character"},
        {"[+1]", "t.json:1:2: not valid JSON: unexpected character"},
        {"[0x1]", "t.json:1:3: not valid JSON: number expected"},
        {"[18446744073709551616]", "t.json:1:2: not valid JSON: an integer over 64 bits"},
        {"[-9223372036854775809]", "t.json:1:2: not valid JSON: an integer over 64 bits"},
        {"[100000000000000000000000000]", "t.json:1:2: not valid JSON: an integer over 64 bits"},
        {"[\"\\ud836\\uddfe\"]",
         "t.json:1:3: not valid JSON: an escaped pair that json-c misreads; write the character"},
        {"[nan]", "t.json:1:3: not valid JSON: null expected"},
        {"[TRUE]", "t.json:1:2: not valid JSON: boolean expected"},
        {"[\"a\nb\"]", "t.json:1:4: not valid JSON: a control character inside a string"},
        {"[\"ab", "t.json:1:2: not valid JSON: a string without an end"},
        {"[\"ab\\", "t.json:1:2: not valid JSON: a string without an end"},
        {"[\"\\q\"]", "t.json:1:4: not valid JSON: invalid string sequence"},
        {"{\"a\\u0000b\":1}", "t.json:1:2: not valid JSON: a key that holds \\u0000"},
        {"[\"\xC0\x80\"]", "t.json:1:3: not valid JSON: a byte that is not UTF-8"},
        {"\xEF\xBB\xBF[]", "t.json:1:1: not valid JSON: unexpected character"},
        {"{a:1}", "t.json:1:2: not valid JSON: quoted object property name expected"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        reject(cases[i][0], strlen(cases[i][0]), cases[i][1]);
    }
    reject("[1]\0", 4, "t.json:1:4: not valid JSON: unexpected character");
    reject("[\"\0\"]", 5, "t.json:1:3: not valid JSON: a control character inside a string");
}

static void rejects_duplicate_keys(void **state) {
    (void)state;
    const char *message = "t.json: an object has the same key twice";
    static const char *const cases[] = {
        "{\"a\":1,\"a\":1}", "[{\"b\":{\"c\":{\"x\":\":\",\"y\":2,\"x\":1}}}]",
        "{\"a\":1,\"\\u0061\":2}", "{\"a\":{\"b\":1},\"a\":{\"b\":2}}"};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        reject(cases[i], strlen(cases[i]), message);
    }
    ssmq_json_free(parse("{\"a:\\\":\":\"::\",\"b\":{\"a\":1},\"c\":{\"a\":1}}"));
}

static void limits_depth(void **state) {
    (void)state;
    char text[131] = {0};
    memset(text, '[', 64);
    memset(text + 64, ']', 64);
    ssmq_json_free(parse(text));
    memset(text, '[', 65);
    memset(text + 65, ']', 65);
    reject(text, 130, "t.json:1:65: not valid JSON: nested over 64 levels");
}

static void reads_files(void **state) {
    (void)state;
    ssmq_err err = {0};
    ssmq_json *document = NULL;
    assert_int_equal(ssmq_json_read(&document, "configs/demo/config.json", 1 << 20, &err), SSMQ_OK);
    const ssmq_json *value = NULL;
    int64_t d = 0;
    assert_true(ssmq_json_get(document, "hidden_size", &value));
    assert_true(ssmq_json_i64(value, &d) && d == 256);
    ssmq_json_free(document);
    assert_int_equal(ssmq_json_read(&document, "configs/none.json", 99, &err), SSMQ_CONFIG);
    assert_string_equal(err.text, "configs/none.json: No such file or directory");
    assert_null(document);
}

static void names_of_types(void **state) {
    (void)state;
    assert_string_equal(ssmq_json_type_name(SSMQ_JSON_INT), "an integer");
    assert_string_equal(ssmq_json_type_name(SSMQ_JSON_OBJECT), "an object");
    assert_string_equal(ssmq_json_type_name(SSMQ_JSON_NULL), "null");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_type),
        cmocka_unit_test(members_come_in_file_order),
        cmocka_unit_test(numbers_at_their_limits),
        cmocka_unit_test(rejects_what_is_not_json),
        cmocka_unit_test(rejects_duplicate_keys),
        cmocka_unit_test(limits_depth),
        cmocka_unit_test(reads_files),
        cmocka_unit_test(names_of_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
