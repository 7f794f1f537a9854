/* SPDX-License-Identifier: Apache-2.0 */
/* base/: published test vectors and the failure paths of files, buffers and numbers. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/sha256_blocks.h"
#include "base/str.h"
#include "base/texts.h"

/* FIPS 180-4 examples, and RFC 3720 B.4. */
static void hash_vectors(void **state) {
    (void)state;
    char hex[SSMQ_SHA256_HEX_BYTES];
    ssmq_sha256_of("", 0, hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    ssmq_sha256_of("abc", 3, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    const char *two_blocks = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
    ssmq_sha256_of(two_blocks, strlen(two_blocks), hex);
    assert_string_equal(hex, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    assert_int_equal(ssmq_crc32c(0, "123456789", 9), 0xe3069283u);
    unsigned char zeros[32] = {0};
    assert_int_equal(ssmq_crc32c(0, zeros, sizeof zeros), 0x8a9136aau);
    assert_int_equal(ssmq_crc32c(ssmq_crc32c(0, "1234", 4), "56789", 5), 0xe3069283u);
    /* Bit by bit, at every length and alignment around a word. */
    unsigned char bytes[64];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)(i * i * 37 + 11);
    for (size_t begin = 0; begin < 9; begin++) {
        for (size_t n = 0; begin + n <= sizeof bytes; n++) {
            uint32_t crc = 0xffffffffu;
            for (size_t i = begin; i < begin + n; i++) {
                crc ^= bytes[i];
                for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
            }
            assert_int_equal(ssmq_crc32c(0, bytes + begin, n), ~crc);
        }
    }
}

static void hash_in_pieces(void **state) {
    (void)state;
    unsigned char bytes[300];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)(i * 7);
    char whole[SSMQ_SHA256_HEX_BYTES];
    ssmq_sha256_of(bytes, sizeof bytes, whole);
    for (size_t piece = 1; piece < 140; piece++) {
        ssmq_sha256 sha;
        unsigned char digest[SSMQ_SHA256_BYTES];
        char hex[SSMQ_SHA256_HEX_BYTES];
        ssmq_sha256_init(&sha);
        for (size_t i = 0; i < sizeof bytes; i += piece) {
            size_t n = sizeof bytes - i < piece ? sizeof bytes - i : piece;
            ssmq_sha256_add(&sha, bytes + i, n);
        }
        ssmq_sha256_end(&sha, digest);
        ssmq_sha256_hex(digest, hex);
        assert_string_equal(hex, whole);
    }
}

/* Instructions of the processor against ordinary ones, any state and number of blocks. */
static void blocks_either_way(void **state) {
    enum { MAX_BLOCKS = 9, BLOCK_BYTES = 64, N_TRIES = 500 };
    unsigned char bytes[MAX_BLOCKS * BLOCK_BYTES + 1];
    ssmq_rng rng = ssmq_rng_from_seed(1);
    (void)state;
    for (int i = 0; i < N_TRIES; i++) {
        uint32_t here[8], there[8];
        for (size_t k = 0; k < sizeof bytes; k++) bytes[k] = (unsigned char)ssmq_rng_u64(&rng);
        for (int k = 0; k < 8; k++) here[k] = there[k] = (uint32_t)ssmq_rng_u64(&rng);
        ssmq_sha256_blocks(here, bytes + i % 2, (size_t)(i % MAX_BLOCKS) + 1);
        ssmq_sha256_blocks_portable(there, bytes + i % 2, (size_t)(i % MAX_BLOCKS) + 1);
        assert_memory_equal(here, there, sizeof here);
    }
    if (!ssmq_sha256_is_fast()) print_message("this processor has no SHA instructions\n");
}

/* First outputs of SplitMix64 from state 0, as in its authors' reference code. */
static void rng_vectors(void **state) {
    (void)state;
    ssmq_rng rng = ssmq_rng_from_seed(0);
    assert_true(ssmq_rng_u64(&rng) == 0xe220a8397b1dcdafu);
    assert_true(ssmq_rng_u64(&rng) == 0x6e789e6aa1b965f4u);
    assert_true(ssmq_rng_u64(&rng) == 0x06c45d188009454fu);
    ssmq_rng a = ssmq_rng_from_text("passkey");
    ssmq_rng b = ssmq_rng_from_text("passkex");
    assert_true(a.state != b.state);
    size_t counts[5] = {0};
    double sum = 0.0;
    double squares = 0.0;
    enum { DRAWS = 100000 };
    for (int i = 0; i < DRAWS; i++) {
        counts[ssmq_rng_below(&a, 5)]++;
        double x = ssmq_rng_normal(&b);
        sum += x;
        squares += x * x;
    }
    for (int i = 0; i < 5; i++) assert_in_range(counts[i], 19400, 20600);
    assert_true(fabs(sum / DRAWS) < 0.02);
    assert_true(fabs(squares / DRAWS - 1.0) < 0.03);
}

static void str_limits(void **state) {
    (void)state;
    ssmq_err err = {0};
    ssmq_str str;
    ssmq_str_init(&str, 8);
    assert_string_equal(ssmq_str_get(&str), "");
    ssmq_str_addf(&str, "%d", 12345678);
    assert_int_equal(ssmq_str_check(&str, "number", &err), SSMQ_OK);
    ssmq_str_add(&str, "9", 1);
    assert_string_equal(ssmq_str_get(&str), "12345678");
    assert_int_equal(ssmq_str_check(&str, "number", &err), SSMQ_CONFIG);
    assert_string_equal(err.text, "number: longer than 8 bytes");
    ssmq_str_clear(&str);
    ssmq_str_add_json_f64(&str, NAN);
    assert_string_equal(ssmq_str_get(&str), "null");
    ssmq_str_free(&str);
}

static void str_json_escapes(void **state) {
    (void)state;
    ssmq_str str;
    ssmq_str_init(&str, 100);
    const char text[] = "a\"\\\n\x01\xC3\xA9\xFF\xED\xA0\x80";
    ssmq_str_add_json(&str, text, sizeof text - 1);
    assert_string_equal(ssmq_str_get(&str), "\"a\\\"\\\\\\u000a\\u0001\xC3\xA9\xEF\xBF\xBD"
                                            "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");
    ssmq_str_free(&str);
}

static void field_cuts_at_characters(void **state) {
    (void)state;
    char field[6];
    memset(field, 'x', sizeof field);
    ssmq_field_set(field, sizeof field, "abcd\xC3\xA9");
    assert_memory_equal(field, "abcd\0\0", 6);
    ssmq_field_set(field, sizeof field, "a");
    assert_memory_equal(field, "a\0\0\0\0\0", 6);
    assert_int_equal(ssmq_utf8_valid_prefix("ab\xC0\x80", 4), 2);
    assert_int_equal(ssmq_utf8_valid_prefix("\xF4\x90\x80\x80", 4), 0);
    assert_int_equal(ssmq_utf8_valid_prefix("\xF0\x9F\x98\x80", 4), 4);
}

static void file_round_trip(void **state) {
    (void)state;
    ssmq_err err = {0};
    char folder[] = "/tmp/ssmq-test-XXXXXX";
    assert_non_null(mkdtemp(folder));
    char deep[SSMQ_PATH_BYTES];
    char path[SSMQ_PATH_BYTES];
    assert_int_equal(ssmq_path_join(deep, folder, "a/b/c", &err), SSMQ_OK);
    assert_int_equal(ssmq_folder_make(deep, &err), SSMQ_OK);
    assert_int_equal(ssmq_folder_make(deep, &err), SSMQ_OK);
    assert_int_equal(ssmq_path_join(path, deep, "f", &err), SSMQ_OK);
    assert_int_equal(ssmq_file_replace(path, "old", 3, &err), SSMQ_OK);
    assert_int_equal(ssmq_file_replace(path, "new!", 4, &err), SSMQ_OK);
    char *bytes = NULL;
    size_t n_bytes = 0;
    assert_int_equal(ssmq_file_read(&bytes, &n_bytes, path, 4, &err), SSMQ_OK);
    assert_int_equal(n_bytes, 4);
    assert_string_equal(bytes, "new!");
    ssmq_free(bytes);
    assert_int_equal(ssmq_file_read(&bytes, &n_bytes, path, 3, &err), SSMQ_CONFIG);
    assert_non_null(strstr(err.text, "more than the limit of 3"));
    ssmq_err_clear(&err);
    assert_int_equal(ssmq_file_read(&bytes, &n_bytes, deep, 3, &err), SSMQ_CONFIG);
    assert_non_null(strstr(err.text, "not a regular file"));
    ssmq_map map;
    ssmq_err_clear(&err);
    assert_int_equal(ssmq_map_open(&map, path, &err), SSMQ_OK);
    assert_memory_equal(map.bytes, "new!", 4);
    ssmq_map_close(&map);
    ssmq_map_close(&map);
    assert_int_equal(ssmq_folder_make(path, &err), SSMQ_IO);
    assert_int_equal(unlink(path), 0);
}

static void names_stay_in_their_folder(void **state) {
    (void)state;
    assert_true(ssmq_name_is_safe("model-00001-of-00002.safetensors"));
    const char *bad[] = {"", ".", "..", "a/b", "/etc", "../x", "-rf", "a\nb"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) assert_false(ssmq_name_is_safe(bad[i]));
}

static void last_part_of_a_path(void **state) {
    (void)state;
    const char *const paths[][2] = {{"a/b", "b"},     {"a/b/", "b"}, {"/a//", "a"},    {"a", "a"},
                                    {"./a.b", "a.b"}, {"", ""},      {"a/long", "lon"}};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        char name[4];
        ssmq_path_name(name, sizeof name, paths[i][0]);
        assert_string_equal(name, paths[i][1]);
    }
}

static void first_cause_wins(void **state) {
    (void)state;
    ssmq_err err = {0};
    assert_int_equal(SSMQ_FAIL(&err, NOMEM, "first %d", 1), SSMQ_NOMEM);
    assert_int_equal(SSMQ_FAIL(&err, IO, "second"), SSMQ_IO);
    assert_string_equal(err.text, "first 1");
    assert_int_equal(err.status, SSMQ_NOMEM);
    for (int i = 0; i < SSMQ_N_STATUSES; i++) {
        ssmq_status status = SSMQ_OK;
        assert_true(ssmq_status_from_name(ssmq_status_name((ssmq_status)i), &status));
        assert_int_equal(status, i);
    }
}

static void memory_limits(void **state) {
    (void)state;
    ssmq_err err = {0};
    double *p = NULL;
    assert_int_equal(ssmq_calloc(&p, SIZE_MAX / 4, 8, &err), SSMQ_NOMEM);
    assert_null(p);
    ssmq_err_clear(&err);
    assert_int_equal(ssmq_calloc_aligned(&p, SIZE_MAX / 4, 8, &err), SSMQ_NOMEM);
    assert_int_equal(ssmq_calloc_aligned(&p, 3, 8, &err), SSMQ_OK);
    assert_int_equal((uintptr_t)p % 64, 0);
    ssmq_free(p);
    int *array = NULL;
    size_t capacity = 0;
    ssmq_err_clear(&err);
    assert_int_equal(ssmq_grow(&array, &capacity, 17, sizeof *array, 20, &err), SSMQ_OK);
    assert_int_equal(capacity, 20);
    assert_int_equal(ssmq_grow(&array, &capacity, 21, sizeof *array, 20, &err), SSMQ_CONFIG);
    ssmq_free(array);
}

/* Texts stay where they are while others come, those longer than a block too. */
static void texts_stay(void **state) {
    (void)state;
    enum { N_TEXTS = 5000, LONG = 100000 };
    static const char *kept[N_TEXTS];
    ssmq_texts texts = {0};
    ssmq_err err = {0};
    char *text = NULL;
    assert_int_equal(ssmq_calloc(&text, LONG + 1, 1, &err), SSMQ_OK);
    for (int i = 0; i < N_TEXTS; i++) {
        if (i % 1000 == 7) {
            memset(text, 'a' + i % 26, LONG);
        } else {
            (void)snprintf(text, LONG, "text %d", i);
        }
        assert_int_equal(ssmq_texts_keep(&texts, text, &kept[i], &err), SSMQ_OK);
        memset(text, 0, LONG);
    }
    for (int i = 0; i < N_TEXTS; i++) {
        if (i % 1000 == 7) {
            assert_int_equal(strlen(kept[i]), LONG);
            assert_int_equal(kept[i][LONG - 1], 'a' + i % 26);
        } else {
            (void)snprintf(text, LONG, "text %d", i);
            assert_string_equal(kept[i], text);
        }
    }
    ssmq_free(text);
    ssmq_texts_free(&texts);
    ssmq_texts_free(&texts);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hash_vectors),
        cmocka_unit_test(hash_in_pieces),
        cmocka_unit_test(blocks_either_way),
        cmocka_unit_test(rng_vectors),
        cmocka_unit_test(str_limits),
        cmocka_unit_test(str_json_escapes),
        cmocka_unit_test(field_cuts_at_characters),
        cmocka_unit_test(file_round_trip),
        cmocka_unit_test(names_stay_in_their_folder),
        cmocka_unit_test(last_part_of_a_path),
        cmocka_unit_test(first_cause_wins),
        cmocka_unit_test(memory_limits),
        cmocka_unit_test(texts_stay),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
