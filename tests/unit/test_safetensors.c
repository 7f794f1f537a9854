/* SPDX-License-Identifier: Apache-2.0 */
/* model/safetensors: a valid file, and every way to break the rules of the format. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "model/safetensors.h"

enum { FILE_BYTES = 4096 };

/* A file of this header and n_data bytes 0, 1, 2, ...; returns its length. */
static size_t build(unsigned char *file, const char *header, size_t n_data) {
    size_t n = strlen(header);
    memset(file, 0, 8);
    file[0] = (unsigned char)(n & 0xFF);
    file[1] = (unsigned char)(n >> 8);
    (void)snprintf((char *)file + 8, FILE_BYTES - 8, "%s", header);
    for (size_t i = 0; i < n_data; i++) file[8 + n + i] = (unsigned char)i;
    return 8 + n + n_data;
}

static void reject(const unsigned char *file, size_t n_bytes, const char *message) {
    ssmq_err err = {0};
    ssmq_safetensors parsed;
    assert_int_equal(ssmq_safetensors_parse(&parsed, file, n_bytes, "m", &err), SSMQ_CONFIG);
    assert_string_equal(err.text, message);
    assert_null(parsed.tensors);
    assert_null(parsed.header);
    assert_int_equal(parsed.n, 0);
}

static void reject_header(const char *header, size_t n_data, const char *message) {
    unsigned char file[FILE_BYTES];
    reject(file, build(file, header, n_data), message);
}

static void reads_a_valid_file(void **state) {
    (void)state;
    unsigned char file[FILE_BYTES];
    ssmq_err err = {0};
    ssmq_safetensors parsed;
    /* Not in name order, an odd offset, an empty tensor, a scalar, packed numbers, padding. */
    size_t n = build(file,
                     "{\"__metadata__\":{\"format\":\"pt\"},"
                     "\"z\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},"
                     "\"a\":{\"dtype\":\"F16\",\"shape\":[2,1,2],\"data_offsets\":[3,11]},"
                     "\"e\":{\"dtype\":\"F32\",\"shape\":[0,7],\"data_offsets\":[11,11]},"
                     "\"s\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[11,13]},"
                     "\"q\":{\"dtype\":\"F4\",\"shape\":[2,3],\"data_offsets\":[13,16]}}   ",
                     16);
    assert_int_equal(ssmq_safetensors_parse(&parsed, file, n, "m", &err), SSMQ_OK);
    assert_int_equal(parsed.n, 5);
    const ssmq_safetensor *a = ssmq_safetensors_find(&parsed, "a");
    assert_non_null(a);
    assert_string_equal(a->dtype, "F16");
    assert_int_equal(a->n_dims, 3);
    assert_true(a->shape[0] == 2 && a->shape[1] == 1 && a->shape[2] == 2);
    assert_int_equal(a->n_bytes, 8);
    assert_int_equal(a->bytes[0], 3);
    const ssmq_safetensor *s = ssmq_safetensors_find(&parsed, "s");
    assert_true(s != NULL && s->n_dims == 0 && s->n_bytes == 2 && s->bytes[0] == 11);
    assert_int_equal(ssmq_safetensors_find(&parsed, "e")->n_bytes, 0);
    assert_null(ssmq_safetensors_find(&parsed, "__metadata__"));
    for (size_t i = 1; i < parsed.n; i++) {
        assert_true(strcmp(parsed.tensors[i - 1].name, parsed.tensors[i].name) < 0);
    }
    ssmq_safetensors_free(&parsed);
    assert_null(ssmq_safetensors_find(&parsed, "a"));
    n = build(file, "{}", 0);
    assert_int_equal(ssmq_safetensors_parse(&parsed, file, n, "m", &err), SSMQ_OK);
    assert_int_equal(parsed.n, 0);
    ssmq_safetensors_free(&parsed);
}

static void rejects_bad_lengths(void **state) {
    (void)state;
    unsigned char file[FILE_BYTES] = {0};
    reject(file, 0, "m: 0 bytes, too short for a safetensors file");
    reject(file, 7, "m: 7 bytes, too short for a safetensors file");
    reject(file, 8, "m: the header does not start with '{'");
    size_t n = build(file, "{}", 0);
    reject(file, n - 1, "m: truncated or no safetensors file: a header of 2 bytes in a file of 9");
    memset(file, 0xFF, 8);
    reject(file, n,
           "m: truncated or no safetensors file: a header of 18446744073709551615 bytes in a file "
           "of 10");
    static unsigned char large[SSMQ_SAFETENSORS_MAX_HEADER_BYTES + 100];
    large[0] = 1;
    large[2] = 0x40;
    reject(large, sizeof large, "m: a header of 4194305 bytes, more than the limit of 4194304");
    reject_header(" {}", 0, "m: the header does not start with '{'");
    reject_header("[]", 0, "m: the header does not start with '{'");
    reject_header("{\"a\"}", 0,
                  "m:1:5: not valid JSON: object property name separator ':' expected");
    reject_header("{}x", 0, "m:1:3: not valid JSON: unexpected character");
}

#define ENTRY(dtype, shape, offsets)                                                               \
    "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define ONE(dtype, shape, offsets) "{\"t\":" ENTRY(dtype, shape, offsets) "}"

static void rejects_bad_entries(void **state) {
    (void)state;
    static const char *const cases[][2] = {
        {ONE("F31", "[1]", "[0,4]"), "m: tensor t: unknown dtype F31"},
        {ONE("F3\\n", "[1]", "[0,4]"), "m: tensor t: unknown dtype ?"},
        {ONE("F32", "[1,-1]", "[0,4]"), "m: tensor t: size 1 of the shape is no whole number"},
        {ONE("F32", "[1.0]", "[0,4]"), "m: tensor t: size 0 of the shape is no whole number"},
        {ONE("F32", "[\"1\"]", "[0,4]"), "m: tensor t: size 0 of the shape is no whole number"},
        {ONE("F32", "1", "[0,4]"), "m: tensor t: shape is no list of at most 8 sizes"},
        {ONE("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]"),
         "m: tensor t: shape is no list of at most 8 sizes"},
        {ONE("F32", "[4294967296,4294967296]", "[0,4]"), "m: tensor t: the shape is too large"},
        {ONE("F64", "[288230376151711744]", "[0,4]"), "m: tensor t: the shape is too large"},
        {ONE("F4", "[3]", "[0,1]"), "m: tensor t: its numbers do not fill whole bytes"},
        {ONE("F32", "[1]", "[4,0]"), "m: tensor t: data_offsets are no [begin, end]"},
        {ONE("F32", "[1]", "[0]"), "m: tensor t: data_offsets are no [begin, end]"},
        {ONE("F32", "[1]", "[-4,0]"), "m: tensor t: data_offsets are no [begin, end]"},
        {ONE("F32", "[1]", "[0,4,8]"), "m: tensor t: data_offsets are no [begin, end]"},
        {ONE("F32", "[1]", "null"), "m: tensor t: data_offsets are no [begin, end]"},
        {ONE("F32", "[1]", "[0,18446744073709551615]"),
         "m: tensor t: data_offsets are no [begin, end]"},
        {ONE("F32", "[2]", "[0,8]"), "m: tensor t ends at byte 8 of 4 bytes of data"},
        {ONE("F32", "[1]", "[0,3]"), "m: tensor t: 3 bytes stored, dtype and shape ask for 4"},
        {ONE("F16", "[1]", "[0,4]"), "m: tensor t: 4 bytes stored, dtype and shape ask for 2"},
        {ONE("F16", "[1]", "[0,2]"), "m: 4 bytes of data, the tensors cover 2"},
        {ONE("F16", "[1]", "[2,4]"),
         "m: tensor t begins at byte 2 of the data, after a hole from 0"},
        {"{\"t\":[]}", "m: tensor t: its entry is no object"},
        {"{\"t\":{\"shape\":[1],\"data_offsets\":[0,4]}}", "m: tensor t: no dtype"},
        {"{\"\":" ENTRY("F32", "[1]", "[0,4]") "}",
         "m: a tensor name is empty, over 200 bytes or holds control characters"},
        {"{\"a\\nb\":" ENTRY("F32", "[1]", "[0,4]") "}",
         "m: a tensor name is empty, over 200 bytes or holds control characters"},
        {"{\"__metadata__\":[]}", "m: __metadata__ does not map strings to strings"},
        {"{\"__metadata__\":{\"a\":1}}", "m: __metadata__ does not map strings to strings"},
        {"{}", "m: 4 bytes of data, the tensors cover 0"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        reject_header(cases[i][0], 4, cases[i][1]);
    }
}

static void rejects_overlaps_and_duplicates(void **state) {
    (void)state;
    reject_header("{\"a\":" ENTRY("F16", "[2]", "[0,4]") ",\"b\":" ENTRY("F16", "[2]", "[2,6]") "}",
                  6, "m: tensor b begins at byte 2 of the data, inside another that ends at 4");
    reject_header("{\"a\":" ENTRY("F16", "[2]", "[0,4]") ",\"b\":" ENTRY("F16", "[2]", "[0,4]") "}",
                  4, "m: tensor b begins at byte 0 of the data, inside another that ends at 4");
    reject_header("{\"b\":" ENTRY("U8", "[1]", "[3,4]") ",\"a\":" ENTRY("U8", "[2]", "[0,2]") "}",
                  4, "m: tensor b begins at byte 3 of the data, after a hole from 2");
    reject_header("{\"a\":" ENTRY("U8", "[2]", "[0,2]") ",\"a\":" ENTRY("U8", "[2]", "[2,4]") "}",
                  4, "m: an object has the same key twice");
}

/* Every prefix of a valid file is rejected. */
static void rejects_truncation(void **state) {
    (void)state;
    unsigned char file[FILE_BYTES];
    size_t n = build(file, ONE("F32", "[2]", "[0,8]"), 8);
    for (size_t i = 0; i < n; i++) {
        ssmq_err err = {0};
        ssmq_safetensors parsed;
        assert_int_equal(ssmq_safetensors_parse(&parsed, file, i, "m", &err), SSMQ_CONFIG);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_a_valid_file),  cmocka_unit_test(rejects_bad_lengths),
        cmocka_unit_test(rejects_bad_entries), cmocka_unit_test(rejects_overlaps_and_duplicates),
        cmocka_unit_test(rejects_truncation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
