/* SPDX-License-Identifier: Apache-2.0 */
/* Mutated YAML through ssmq_config_read, as files and as --set values: no crash, at least one fault
 * line for every failure, each of one form, and what is accepted is written and read to the same
 * bytes. The draws are fixed, so a failure repeats. Meant to run under AddressSanitizer. */
#include <fcntl.h>
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
#include "config/config.h"
#include "fuzz/mutate.h"

enum { N_FILES = 24000, N_SETS = 12000, CAPACITY = 1 << 13 };

static char path[] = "/tmp/ssmq_fuzz_config_XXXXXX";
static int fd = -1;

static const char *const texts[] = {
    "model: {path: configs/demo, device: auto, threads: 2}\n"
    "sweep:\n  tasks: [ppl, passkey, profile]\n  seed: [0, 1]\n  max_trial_s: 1.5e2\n"
    "  precisions: [fp16, w4a8:g64, {name: mine, dtype: fp32, w_bits: 4, group_size: 32}]\n"
    "  scopes: [all, \"only:each.in_proj\", 'except:0-3.out_proj']\n",
    "ppl:\n  protocols: [disjoint, sliding, stream]\n  seq_len: [512, 1024]\n  stride: 256\n"
    "  text: |\n    a\n    b\npasskey:\n  depth: [0.1, 0.30000000000000004, 1]\n"
    "  control: true\n  filler: text\n  filler_text: \"\\u00e9 \\\\ \\\"\"\n",
    "%YAML 1.1\n---\nppl: &a [x, *a]\nmodel: !!map {? a : b}\nrun: >-\n  folded\n...\n---\n",
    "include: [configs/demo, /dev/null, nothing.yaml]\nrun: {run_id: x, time_limit_s: 0.5, "
    "fail_fast: false, max_failures: 3}\nprofile:\n  batch_size: [1, 2]\n  gen_len: 16\n",
};
enum { N_TEXTS = sizeof texts / sizeof texts[0] };

static const char *const sets[] = {
    "ppl.seq_len=[512, 1024]",
    "sweep.precisions={w_bits: 4, a_bits: 8, name: mine}",
    "sweep.scopes=['only:each.in_proj', all]",
    "passkey.depth=0.5",
    "run.run_id=\"a b\"",
};
enum { N_SET_TEXTS = sizeof sets / sizeof sets[0] };

/* True at ":line:column: ". */
static bool is_mark(const char *text) {
    char *end = NULL;
    if (text[0] != ':' || strtol(text + 1, &end, 10) < 1 || *end != ':') return false;
    return strtol(end + 1, &end, 10) >= 1 && strncmp(end, ": ", 2) == 0;
}

/* source:line:column: key: what; allowed */
static void check_line(const char *line, size_t length) {
    char text[4096];
    assert_true(length > 0 && length < sizeof text);
    memcpy(text, line, length);
    text[length] = '\0';
    for (size_t i = 0; i < length; i++) assert_true((unsigned char)text[i] >= 0x20);
    if (strncmp(text, "and ", 4) == 0) return;
    bool has_mark = false;
    for (size_t i = 0; i < length && !has_mark; i++) has_mark = is_mark(text + i);
    assert_true(has_mark);
    assert_non_null(strstr(text, "; "));
}

static void check_faults(const ssmq_str *faults, const ssmq_err *err) {
    assert_true(faults->n_bytes > 0);
    assert_int_equal(err->status, SSMQ_CONFIG);
    const char *line = ssmq_str_get(faults);
    while (*line != '\0') {
        size_t length = strcspn(line, "\n");
        check_line(line, length);
        line += length + 1;
    }
}

static void put_file(const char *bytes, size_t n_bytes) {
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(pwrite(fd, bytes, n_bytes, 0), (ssize_t)n_bytes);
}

/* What was accepted survives being written and read. */
static void check_accepted(const ssmq_config *config, ssmq_str *faults) {
    static ssmq_config again;
    ssmq_str first;
    ssmq_str second;
    ssmq_err err = {0};
    const char *files[1] = {path};
    ssmq_config_sources sources = {files, 1, NULL, 0};
    ssmq_str_init(&first, 1 << 20);
    ssmq_str_init(&second, 1 << 20);
    assert_int_equal(ssmq_config_write(config, false, &first, &err), SSMQ_OK);
    put_file(ssmq_str_get(&first), first.n_bytes);
    ssmq_status status = ssmq_config_read(&again, &sources, faults, &err);
    assert_string_equal(ssmq_str_get(faults), "");
    assert_int_equal(status, SSMQ_OK);
    assert_int_equal(ssmq_config_write(&again, false, &second, &err), SSMQ_OK);
    assert_string_equal(ssmq_str_get(&first), ssmq_str_get(&second));
    ssmq_str_free(&first);
    ssmq_str_free(&second);
}

/* True if the source was accepted. */
static bool try_source(const ssmq_config_sources *sources, ssmq_str *faults) {
    static ssmq_config config;
    ssmq_err err = {0};
    ssmq_status status = ssmq_config_read(&config, sources, faults, &err);
    if (status == SSMQ_OK) {
        check_accepted(&config, faults);
        return true;
    }
    assert_int_equal(status, SSMQ_CONFIG);
    check_faults(faults, &err);
    return false;
}

static void mutated_files(void **state) {
    (void)state;
    ssmq_rng rng = ssmq_rng_from_text("fuzz config files");
    ssmq_str faults;
    char *bytes = NULL;
    int n_accepted = 0;
    ssmq_str_init(&faults, 1 << 20);
    assert_int_equal(ssmq_calloc(&bytes, CAPACITY, 1, NULL), SSMQ_OK);
    for (int i = 0; i < N_FILES; i++) {
        const char *text = texts[i % N_TEXTS];
        const char *other = texts[ssmq_rng_below(&rng, N_TEXTS)];
        struct mutant m = {bytes, strlen(text), CAPACITY};
        memcpy(bytes, text, m.n_bytes);
        mutate(&m, other, strlen(other), &rng);
        put_file(m.bytes, m.n_bytes);
        const char *files[1] = {path};
        ssmq_config_sources sources = {files, 1, NULL, 0};
        n_accepted += try_source(&sources, &faults) ? 1 : 0;
    }
    print_message("files: %d of %d accepted\n", n_accepted, N_FILES);
    assert_true(n_accepted > N_FILES / 100 && n_accepted < N_FILES);
    ssmq_free(bytes);
    ssmq_str_free(&faults);
}

static void mutated_sets(void **state) {
    (void)state;
    ssmq_rng rng = ssmq_rng_from_text("fuzz config sets");
    ssmq_str faults;
    char *bytes = NULL;
    int n_accepted = 0;
    ssmq_str_init(&faults, 1 << 20);
    assert_int_equal(ssmq_calloc(&bytes, CAPACITY + 1, 1, NULL), SSMQ_OK);
    for (int i = 0; i < N_SETS; i++) {
        const char *text = sets[i % N_SET_TEXTS];
        const char *other = sets[ssmq_rng_below(&rng, N_SET_TEXTS)];
        struct mutant m = {bytes, strlen(text), CAPACITY};
        memcpy(bytes, text, m.n_bytes);
        mutate(&m, other, strlen(other), &rng);
        m.bytes[m.n_bytes] = '\0';
        const char *values[1] = {m.bytes};
        ssmq_config_sources sources = {NULL, 0, values, 1};
        n_accepted += try_source(&sources, &faults) ? 1 : 0;
    }
    print_message("sets: %d of %d accepted\n", n_accepted, N_SETS);
    assert_true(n_accepted > N_SETS / 100 && n_accepted < N_SETS);
    ssmq_free(bytes);
    ssmq_str_free(&faults);
}

static int open_file(void **state) {
    (void)state;
    fd = mkstemp(path);
    return fd >= 0 ? 0 : -1;
}

static int remove_file(void **state) {
    (void)state;
    (void)close(fd);
    return unlink(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(mutated_files),
        cmocka_unit_test(mutated_sets),
    };
    return cmocka_run_group_tests(tests, open_file, remove_file);
}
