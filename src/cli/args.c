/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/args.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"

enum { HELP_COLUMN = 26, MESSAGE_BYTES = 400 };

static const ssmq_option *find_long(const ssmq_option *options, size_t n_options, const char *name,
                                    size_t n_bytes) {
    for (size_t i = 0; i < n_options; i++) {
        if (strlen(options[i].name) == n_bytes && strncmp(options[i].name, name, n_bytes) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

static const ssmq_option *find_short(const ssmq_option *options, size_t n_options, char letter) {
    for (size_t i = 0; i < n_options; i++) {
        if (options[i].letter != 0 && options[i].letter == letter) return &options[i];
    }
    return NULL;
}

static ssmq_status unknown(const ssmq_option *options, size_t n_options, const char *given,
                           ssmq_err *err) {
    ssmq_str allowed;
    ssmq_str_init(&allowed, MESSAGE_BYTES);
    for (size_t i = 0; i < n_options; i++) {
        ssmq_str_addf(&allowed, "%s--%s", i > 0 ? ", " : "", options[i].name);
    }
    ssmq_status status =
        SSMQ_FAIL(err, CONFIG, "%s: unknown option; allowed are %s", given, ssmq_str_get(&allowed));
    ssmq_str_free(&allowed);
    return status;
}

static ssmq_status add(ssmq_args *args, const ssmq_option *option, const char *value,
                       ssmq_err *err) {
    if (args->n_given == SSMQ_MAX_ARGS) {
        return SSMQ_FAIL(err, CONFIG, "more than %d arguments", SSMQ_MAX_ARGS);
    }
    if (option != NULL && !option->is_repeatable && ssmq_args_get(args, option->name) != NULL) {
        return SSMQ_FAIL(err, CONFIG, "--%s: given twice", option->name);
    }
    args->given[args->n_given].option = option;
    args->given[args->n_given].value = value;
    args->n_given++;
    return SSMQ_OK;
}

ssmq_status ssmq_args_parse(ssmq_args *out, const ssmq_option *options, size_t n_options, int argc,
                            const char *const *argv, ssmq_err *err) {
    memset(out, 0, sizeof *out);
    bool options_ended = false;
    for (int i = 1; i < argc; i++) {
        const char *text = argv[i];
        if (options_ended || text[0] != '-' || text[1] == '\0') {
            SSMQ_TRY(add(out, NULL, text, err));
            continue;
        }
        if (strcmp(text, "--") == 0) {
            options_ended = true;
            continue;
        }
        bool is_long = text[1] == '-';
        const char *equals = is_long ? strchr(text, '=') : NULL;
        size_t n_bytes = equals != NULL ? (size_t)(equals - text - 2) : strlen(text) - 2;
        const ssmq_option *option = is_long ? find_long(options, n_options, text + 2, n_bytes)
                                    : text[2] == '\0' ? find_short(options, n_options, text[1])
                                                      : NULL;
        if (option == NULL) return unknown(options, n_options, text, err);
        const char *value = equals != NULL ? equals + 1 : NULL;
        if (option->value_name == NULL && value != NULL) {
            return SSMQ_FAIL(err, CONFIG, "--%s: takes no value", option->name);
        }
        if (option->value_name != NULL && value == NULL) {
            if (i + 1 >= argc) {
                return SSMQ_FAIL(err, CONFIG, "--%s: %s is missing", option->name,
                                 option->value_name);
            }
            value = argv[++i];
        }
        SSMQ_TRY(add(out, option, value, err));
    }
    return SSMQ_OK;
}

const char *ssmq_args_get(const ssmq_args *args, const char *name) {
    for (size_t i = 0; i < args->n_given; i++) {
        const ssmq_option *option = args->given[i].option;
        if (option != NULL && strcmp(option->name, name) == 0) {
            return args->given[i].value != NULL ? args->given[i].value : "";
        }
    }
    return NULL;
}

size_t ssmq_args_all(const ssmq_args *args, const char *name, const char **out) {
    size_t n = 0;
    for (size_t i = 0; i < args->n_given; i++) {
        const ssmq_option *option = args->given[i].option;
        bool is_wanted =
            name == NULL ? option == NULL : option != NULL && strcmp(option->name, name) == 0;
        if (is_wanted) out[n++] = args->given[i].value;
    }
    return n;
}

ssmq_status ssmq_args_positional(const ssmq_args *args, const char *what, const char **out,
                                 ssmq_err *err) {
    const char *texts[SSMQ_MAX_ARGS];
    size_t n = ssmq_args_all(args, NULL, texts);
    *out = NULL;
    if (n == 0) return SSMQ_FAIL(err, CONFIG, "%s is missing", what);
    if (n > 1) return SSMQ_FAIL(err, CONFIG, "%s: one %s is enough", texts[1], what);
    *out = texts[0];
    return SSMQ_OK;
}

ssmq_status ssmq_args_no_positional(const ssmq_args *args, ssmq_err *err) {
    const char *texts[SSMQ_MAX_ARGS];
    if (ssmq_args_all(args, NULL, texts) == 0) return SSMQ_OK;
    return SSMQ_FAIL(err, CONFIG, "%s: unexpected argument", texts[0]);
}

ssmq_status ssmq_args_i64(const ssmq_args *args, const char *name, int64_t min, int64_t max,
                          int64_t *out, ssmq_err *err) {
    const char *text = ssmq_args_get(args, name);
    if (text == NULL) return SSMQ_OK;
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (end == text || *end != '\0' || errno != 0 || value < min || value > max) {
        return SSMQ_FAIL(err, CONFIG, "--%s: '%s' is not an integer from %lld to %lld", name, text,
                         (long long)min, (long long)max);
    }
    *out = value;
    return SSMQ_OK;
}

ssmq_status ssmq_args_numbers(const ssmq_args *args, const char *name, int64_t min, int64_t max,
                              ssmq_arg_numbers *out, ssmq_err *err) {
    const char *text = ssmq_args_get(args, name);
    ssmq_arg_numbers numbers = {0};
    if (text == NULL) return SSMQ_OK;
    const char *at = strcmp(text, "none") == 0 ? NULL : text;
    while (at != NULL) {
        char *end = NULL;
        errno = 0;
        const long long value = strtoll(at, &end, 10);
        if (end == at || (*end != '\0' && *end != ',') || errno != 0 || value < min ||
            value > max) {
            return SSMQ_FAIL(err, CONFIG,
                             "--%s: '%s' is not a list of integers from %lld to %lld, as 1,2,3, or "
                             "none",
                             name, text, (long long)min, (long long)max);
        }
        if (numbers.n == SSMQ_MAX_ARG_NUMBERS) {
            return SSMQ_FAIL(err, CONFIG, "--%s: more than %d numbers", name, SSMQ_MAX_ARG_NUMBERS);
        }
        numbers.values[numbers.n++] = value;
        at = *end == ',' ? end + 1 : NULL;
    }
    *out = numbers;
    return SSMQ_OK;
}

ssmq_status ssmq_args_f64(const ssmq_args *args, const char *name, double min, double max,
                          double *out, ssmq_err *err) {
    const char *text = ssmq_args_get(args, name);
    if (text == NULL) return SSMQ_OK;
    char *end = NULL;
    errno = 0;
    double value = strtod(text, &end);
    if (end == text || *end != '\0' || errno != 0 || !(value >= min && value <= max)) {
        return SSMQ_FAIL(err, CONFIG, "--%s: '%s' is not a number from %g to %g", name, text, min,
                         max);
    }
    *out = value;
    return SSMQ_OK;
}

void ssmq_args_print_help(const ssmq_option *options, size_t n_options) {
    for (size_t i = 0; i < n_options; i++) {
        char usage[64];
        char letter[] = "   ";
        if (options[i].letter != 0) {
            (void)snprintf(letter, sizeof letter, "-%c,", options[i].letter);
        }
        (void)snprintf(usage, sizeof usage, "%-3s --%s%s%s", letter, options[i].name,
                       options[i].value_name != NULL ? " " : "",
                       options[i].value_name != NULL ? options[i].value_name : "");
        (void)printf("  %-*s %s\n", HELP_COLUMN, usage, options[i].help);
    }
}
