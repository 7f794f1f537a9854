/* SPDX-License-Identifier: Apache-2.0 */
/* cli/args: every form of an option, and the exact text of every refusal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "cli/args.h"

static const ssmq_option options[] = {
    {"config", 'c', "F", true, "a file"},
    {"count", 'n', "N", false, "a number"},
    {"limit", 0, "S", false, "seconds"},
    {"quiet", 'q', NULL, false, "say less"},
};
enum { N_OPTIONS = sizeof options / sizeof options[0], MAX_WORDS = SSMQ_MAX_ARGS + 8 };

/* Parses the words after the command's name; a NULL ends them. */
static ssmq_status parse(ssmq_args *args, ssmq_err *err, const char *const *words) {
    static const char *argv[MAX_WORDS] = {"command"};
    int argc = 1;
    while (argc < MAX_WORDS && words[argc - 1] != NULL) {
        argv[argc] = words[argc - 1];
        argc++;
    }
    ssmq_err_clear(err);
    return ssmq_args_parse(args, options, N_OPTIONS, argc, argv, err);
}

#define PARSE(args, err, ...) parse(args, err, (const char *const[]){__VA_ARGS__, NULL})

static void refused(const char *const *words, const char *text) {
    ssmq_args args;
    ssmq_err err = {0};
    assert_int_equal(parse(&args, &err, words), SSMQ_CONFIG);
    assert_string_equal(err.text, text);
}

#define REFUSED(text, ...) refused((const char *const[]){__VA_ARGS__, NULL}, text)

static void forms(void **state) {
    (void)state;
    ssmq_args args;
    ssmq_err err = {0};
    const char *all[SSMQ_MAX_ARGS];
    assert_int_equal(PARSE(&args, &err, "--count", "3", "run", "-q", "--config=a=b", "-c", "--odd"),
                     SSMQ_OK);
    assert_string_equal(ssmq_args_get(&args, "count"), "3");
    assert_string_equal(ssmq_args_get(&args, "quiet"), "");
    assert_null(ssmq_args_get(&args, "limit"));
    assert_int_equal(ssmq_args_all(&args, "config", all), 2);
    assert_string_equal(all[0], "a=b");
    assert_string_equal(all[1], "--odd");
    assert_int_equal(ssmq_args_all(&args, NULL, all), 1);
    assert_string_equal(all[0], "run");
    assert_int_equal(PARSE(&args, &err, "-", "--", "--count", "-q"), SSMQ_OK);
    assert_null(ssmq_args_get(&args, "count"));
    assert_int_equal(ssmq_args_all(&args, NULL, all), 3);
    assert_string_equal(all[0], "-");
    assert_string_equal(all[1], "--count");
    assert_int_equal(PARSE(&args, &err, "--limit="), SSMQ_OK);
    assert_string_equal(ssmq_args_get(&args, "limit"), "");
}

static void refusals(void **state) {
    (void)state;
    const char *allowed = ": unknown option; allowed are --config, --count, --limit, --quiet";
    const char *const unknown[] = {"--counts", "--coun", "-x", "-q1", "--=3", "---count"};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        char text[128];
        (void)snprintf(text, sizeof text, "%s%s", unknown[i], allowed);
        REFUSED(text, unknown[i]);
    }
    REFUSED("--count: N is missing", "run", "--count");
    REFUSED("--count: N is missing", "-n");
    REFUSED("--quiet: takes no value", "--quiet=yes");
    REFUSED("--count: given twice", "--count", "3", "-n", "3");
    REFUSED("--quiet: given twice", "-q", "--quiet");
}

static void too_many(void **state) {
    (void)state;
    const char *words[SSMQ_MAX_ARGS + 2];
    ssmq_args args;
    ssmq_err err = {0};
    for (size_t i = 0; i < SSMQ_MAX_ARGS + 1; i++) words[i] = "x";
    words[SSMQ_MAX_ARGS] = NULL;
    assert_int_equal(parse(&args, &err, words), SSMQ_OK);
    words[SSMQ_MAX_ARGS] = "x";
    words[SSMQ_MAX_ARGS + 1] = NULL;
    refused(words, "more than 256 arguments");
}

static void positionals(void **state) {
    (void)state;
    ssmq_args args;
    ssmq_err err = {0};
    const char *run = NULL;
    assert_int_equal(PARSE(&args, &err, "-q", "runs/a"), SSMQ_OK);
    assert_int_equal(ssmq_args_positional(&args, "RUN", &run, &err), SSMQ_OK);
    assert_string_equal(run, "runs/a");
    assert_int_equal(ssmq_args_no_positional(&args, &err), SSMQ_CONFIG);
    assert_string_equal(err.text, "runs/a: unexpected argument");
    assert_int_equal(PARSE(&args, &err, "-q"), SSMQ_OK);
    assert_int_equal(ssmq_args_no_positional(&args, &err), SSMQ_OK);
    assert_int_equal(ssmq_args_positional(&args, "RUN", &run, &err), SSMQ_CONFIG);
    assert_string_equal(err.text, "RUN is missing");
    assert_null(run);
    assert_int_equal(PARSE(&args, &err, "a", "b"), SSMQ_OK);
    assert_int_equal(ssmq_args_positional(&args, "RUN", &run, &err), SSMQ_CONFIG);
    assert_string_equal(err.text, "b: one RUN is enough");
}

static void integers(void **state) {
    (void)state;
    ssmq_args args;
    ssmq_err err = {0};
    int64_t value = 7;
    assert_int_equal(PARSE(&args, &err, "-q"), SSMQ_OK);
    assert_int_equal(ssmq_args_i64(&args, "count", 1, 9, &value, &err), SSMQ_OK);
    assert_int_equal(value, 7);
    assert_int_equal(PARSE(&args, &err, "--count", "-9223372036854775808"), SSMQ_OK);
    assert_int_equal(ssmq_args_i64(&args, "count", INT64_MIN, 0, &value, &err), SSMQ_OK);
    assert_true(value == INT64_MIN);
    const char *const bad[] = {"0", "10", "", "3x", "0x3", "2.5", "1e1", "99999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[96];
        value = 7;
        assert_int_equal(PARSE(&args, &err, "-n", bad[i]), SSMQ_OK);
        assert_int_equal(ssmq_args_i64(&args, "count", 1, 9, &value, &err), SSMQ_CONFIG);
        (void)snprintf(text, sizeof text, "--count: '%s' is not an integer from 1 to 9", bad[i]);
        assert_string_equal(err.text, text);
        assert_int_equal(value, 7);
    }
}

static void lists(void **state) {
    (void)state;
    ssmq_args args;
    ssmq_err err = {0};
    ssmq_arg_numbers list = {.n = 1, .values = {7}};
    assert_int_equal(PARSE(&args, &err, "-q"), SSMQ_OK);
    assert_int_equal(ssmq_args_numbers(&args, "count", 1, 9, &list, &err), SSMQ_OK);
    assert_true(list.n == 1 && list.values[0] == 7);
    assert_int_equal(PARSE(&args, &err, "--count", "3,1,9"), SSMQ_OK);
    assert_int_equal(ssmq_args_numbers(&args, "count", 1, 9, &list, &err), SSMQ_OK);
    assert_true(list.n == 3 && list.values[0] == 3 && list.values[1] == 1 && list.values[2] == 9);
    const char *const bad[] = {"", "3,", ",3", "3,,1", "3,0", "10,3", "3;1", "3,none", "none,"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[128];
        assert_int_equal(PARSE(&args, &err, "-n", bad[i]), SSMQ_OK);
        assert_int_equal(ssmq_args_numbers(&args, "count", 1, 9, &list, &err), SSMQ_CONFIG);
        (void)snprintf(text, sizeof text,
                       "--count: '%s' is not a list of integers from 1 to 9, as 1,2,3, or none",
                       bad[i]);
        assert_string_equal(err.text, text);
        assert_true(list.n == 3 && list.values[0] == 3);
    }
    assert_int_equal(PARSE(&args, &err, "-n", "none"), SSMQ_OK);
    assert_int_equal(ssmq_args_numbers(&args, "count", 1, 9, &list, &err), SSMQ_OK);
    assert_true(list.n == 0);
    char many[2 * (SSMQ_MAX_ARG_NUMBERS + 1)] = "";
    for (size_t i = 0; i < sizeof many - 1; i++) many[i] = i % 2 == 0 ? '1' : ',';
    assert_int_equal(PARSE(&args, &err, "-n", many), SSMQ_OK);
    assert_int_equal(ssmq_args_numbers(&args, "count", 1, 9, &list, &err), SSMQ_CONFIG);
    assert_string_equal(err.text, "--count: more than 32 numbers");
    many[2 * SSMQ_MAX_ARG_NUMBERS - 1] = '\0';
    assert_int_equal(PARSE(&args, &err, "-n", many), SSMQ_OK);
    assert_int_equal(ssmq_args_numbers(&args, "count", 1, 9, &list, &err), SSMQ_OK);
    assert_true(list.n == SSMQ_MAX_ARG_NUMBERS);
}

static void numbers(void **state) {
    (void)state;
    ssmq_args args;
    ssmq_err err = {0};
    double value = 0.25;
    assert_int_equal(PARSE(&args, &err, "--limit", "1.5e2"), SSMQ_OK);
    assert_int_equal(ssmq_args_f64(&args, "limit", 0, 1000, &value, &err), SSMQ_OK);
    assert_true(value == 150.0);
    const char *const bad[] = {"-1", "1001", "nan", "inf", "1e400", "", "5s"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[96];
        assert_int_equal(PARSE(&args, &err, "--limit", bad[i]), SSMQ_OK);
        assert_int_equal(ssmq_args_f64(&args, "limit", 0, 1000, &value, &err), SSMQ_CONFIG);
        (void)snprintf(text, sizeof text, "--limit: '%s' is not a number from 0 to 1000", bad[i]);
        assert_string_equal(err.text, text);
        assert_true(value == 150.0);
    }
}

/* Every option has its line, in the order of the table. */
static void help(void **state) {
    (void)state;
    char text[1024];
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(fflush(stdout), 0);
    int kept = dup(STDOUT_FILENO);
    assert_true(kept >= 0 && dup2(ends[1], STDOUT_FILENO) >= 0);
    ssmq_args_print_help(options, N_OPTIONS);
    assert_int_equal(fflush(stdout), 0);
    assert_true(dup2(kept, STDOUT_FILENO) >= 0);
    (void)close(kept);
    (void)close(ends[1]);
    ssize_t n_bytes = read(ends[0], text, sizeof text - 1);
    (void)close(ends[0]);
    assert_true(n_bytes > 0);
    text[n_bytes] = '\0';
    const char *place = text;
    const char *const heads[] = {"  -c, --config F ", "  -n, --count N ", "      --limit S ",
                                 "  -q, --quiet "};
    for (size_t i = 0; i < N_OPTIONS; i++) {
        assert_ptr_equal(strstr(place, heads[i]), place);
        const char *end = strchr(place, '\n');
        assert_non_null(end);
        assert_memory_equal(end - strlen(options[i].help), options[i].help,
                            strlen(options[i].help));
        place = end + 1;
    }
    assert_string_equal(place, "");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms),       cmocka_unit_test(refusals), cmocka_unit_test(too_many),
        cmocka_unit_test(positionals), cmocka_unit_test(integers), cmocka_unit_test(lists),
        cmocka_unit_test(numbers),     cmocka_unit_test(help),
    };
    return cmocka_run_group_tests_name("args", tests, NULL, NULL);
}
