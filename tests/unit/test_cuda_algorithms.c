/* SPDX-License-Identifier: Apache-2.0 */
/* The file of measured GEMM algorithms: what is added is found, the first line of a key counts, and
 * torn or foreign lines are no algorithm. Needs no GPU. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/mem.h"
#include "engine/cuda/algorithms.h"

enum { N_BYTES = 8 };

static const cuda_algorithm_key key = {
    "130100\tNVIDIA H100\t132\t1\t3360\t768\t3360\tbf16\tbf16\t0\t"};
static const cuda_algorithm_key other = {
    "130100\tNVIDIA H100\t132\t1\t768\t1536\t768\tbf16\tbf16\t0\t"};

typedef struct folder {
    char path[64];
    char file[96];
    cuda_algorithms *algorithms;
} folder;

static int begin(void **state) {
    static folder f;
    memset(&f, 0, sizeof f);
    (void)snprintf(f.path, sizeof f.path, "/tmp/ssmq-algorithms-XXXXXX");
    if (mkdtemp(f.path) == NULL) return 1;
    (void)snprintf(f.file, sizeof f.file, "%s/gemm_algorithms.tsv", f.path);
    *state = &f;
    return cuda_algorithms_open(&f.algorithms, f.file, NULL) == SSMQ_OK ? 0 : 1;
}

static int end(void **state) {
    folder *f = *state;
    cuda_algorithms_close(f->algorithms);
    (void)unlink(f->file);
    return rmdir(f->path);
}

static void write_file(const folder *f, const char *text) {
    FILE *file = fopen(f->file, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

static void what_is_added_is_found(void **state) {
    const folder *f = *state;
    const unsigned char first[N_BYTES] = {0, 1, 0x7f, 0x80, 0xff, 5, 6, 7};
    const unsigned char second[N_BYTES] = {9, 9, 9, 9, 9, 9, 9, 9};
    unsigned char found[N_BYTES];
    assert_false(cuda_algorithms_find(f->algorithms, &key, found, N_BYTES));
    assert_int_equal(cuda_algorithms_add(f->algorithms, &other, second, N_BYTES, NULL), SSMQ_OK);
    assert_false(cuda_algorithms_find(f->algorithms, &key, found, N_BYTES));
    assert_int_equal(cuda_algorithms_add(f->algorithms, &key, first, N_BYTES, NULL), SSMQ_OK);
    assert_true(cuda_algorithms_find(f->algorithms, &key, found, N_BYTES));
    assert_memory_equal(found, first, N_BYTES);
    /* A rank that was later measured the same: all keep the first. */
    assert_int_equal(cuda_algorithms_add(f->algorithms, &key, second, N_BYTES, NULL), SSMQ_OK);
    assert_true(cuda_algorithms_find(f->algorithms, &key, found, N_BYTES));
    assert_memory_equal(found, first, N_BYTES);
}

static void the_file_is_text(void **state) {
    const folder *f = *state;
    const unsigned char bytes[N_BYTES] = {0, 1, 0x7f, 0x80, 0xff, 5, 6, 7};
    char expected[256], *text = NULL;
    size_t n_text = 0;
    assert_int_equal(cuda_algorithms_add(f->algorithms, &key, bytes, N_BYTES, NULL), SSMQ_OK);
    assert_int_equal(ssmq_file_read(&text, &n_text, f->file, 4096, NULL), SSMQ_OK);
    (void)snprintf(expected, sizeof expected, "%s00017f80ff050607\n", key.text);
    assert_string_equal(text, expected);
    ssmq_free(text);
}

static void torn_and_foreign_lines_are_passed_over(void **state) {
    const folder *f = *state;
    unsigned char found[N_BYTES];
    const unsigned char expected[N_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8};
    const char *const bad[] = {"0102030405060708", "01020304050607\n", "010203040506070g\n",
                               "010203040506070809\n", "\n"};
    char text[1024];
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        (void)snprintf(text, sizeof text, "# not a line of ours\n%s%s", key.text, bad[i]);
        write_file(f, text);
        assert_false(cuda_algorithms_find(f->algorithms, &key, found, N_BYTES));
        /* A torn line in the middle is followed by whole ones. */
        (void)snprintf(text, sizeof text, "%s%s\n%s0102030405060708\n", key.text, "0102", key.text);
        write_file(f, text);
        assert_true(cuda_algorithms_find(f->algorithms, &key, found, N_BYTES));
        assert_memory_equal(found, expected, N_BYTES);
    }
}

static void without_a_file_nothing_is_kept(void **state) {
    const unsigned char bytes[N_BYTES] = {0};
    unsigned char found[N_BYTES];
    cuda_algorithms *none = NULL;
    (void)state;
    assert_int_equal(cuda_algorithms_open(&none, NULL, NULL), SSMQ_OK);
    assert_int_equal(cuda_algorithms_add(none, &key, bytes, N_BYTES, NULL), SSMQ_OK);
    assert_false(cuda_algorithms_find(none, &key, found, N_BYTES));
    cuda_algorithms_close(none);
}

static void a_folder_that_is_gone_is_an_error(void **state) {
    const unsigned char bytes[N_BYTES] = {0};
    cuda_algorithms *lost = NULL;
    ssmq_err err = {0};
    (void)state;
    assert_int_equal(cuda_algorithms_open(&lost, "/nonexistent/gemm_algorithms.tsv", NULL),
                     SSMQ_OK);
    assert_int_equal(cuda_algorithms_add(lost, &key, bytes, N_BYTES, &err), SSMQ_IO);
    assert_string_equal(err.text, "/nonexistent/gemm_algorithms.tsv: No such file or directory");
    cuda_algorithms_close(lost);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_added_is_found, begin, end),
        cmocka_unit_test_setup_teardown(the_file_is_text, begin, end),
        cmocka_unit_test_setup_teardown(torn_and_foreign_lines_are_passed_over, begin, end),
        cmocka_unit_test(without_a_file_nothing_is_kept),
        cmocka_unit_test(a_folder_that_is_gone_is_an_error),
    };
    return cmocka_run_group_tests_name("cuda_algorithms", tests, NULL, NULL);
}
