/* SPDX-License-Identifier: Apache-2.0 */
/* cli/args.h - command line options from a table: --name VALUE, --name=VALUE, --flag, -n VALUE. */
#ifndef SSMQ_CLI_ARGS_H
#define SSMQ_CLI_ARGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SSMQ_MAX_ARGS = 256 };

typedef struct ssmq_option {
    const char *name;       /* without dashes */
    char letter;            /* short form, or 0 */
    const char *value_name; /* what follows; NULL for a flag */
    bool is_repeatable;
    const char *help; /* one line */
} ssmq_option;

typedef struct ssmq_args {
    size_t n_given;
    struct {
        const ssmq_option *option; /* NULL: positional */
        const char *value;         /* NULL for a flag */
    } given[SSMQ_MAX_ARGS];
} ssmq_args;

/* Reads argv[1..argc). Texts stay borrowed from argv. "--" ends options.
 * Fails: CONFIG (unknown option, missing or doubled value; the message lists what is allowed). */
SSMQ_MUST_USE ssmq_status ssmq_args_parse(ssmq_args *out, const ssmq_option *options,
                                          size_t n_options, int argc, const char *const *argv,
                                          ssmq_err *err);

/* Value of an option, or NULL if it was not given (a given flag is ""). */
const char *ssmq_args_get(const ssmq_args *args, const char *name);
/* Every value of a repeatable option into out[SSMQ_MAX_ARGS], in order; name NULL: positionals. */
size_t ssmq_args_all(const ssmq_args *args, const char *name, const char **out);
/* The only positional argument.  Fails: CONFIG (none or several; `what` names it). */
SSMQ_MUST_USE ssmq_status ssmq_args_positional(const ssmq_args *args, const char *what,
                                               const char **out, ssmq_err *err);
/* Fails: CONFIG if there is any positional argument. */
SSMQ_MUST_USE ssmq_status ssmq_args_no_positional(const ssmq_args *args, ssmq_err *err);

/* Numbers in [min, max]; *out keeps its value if the option was not given.  Fails: CONFIG. */
SSMQ_MUST_USE ssmq_status ssmq_args_i64(const ssmq_args *args, const char *name, int64_t min,
                                        int64_t max, int64_t *out, ssmq_err *err);
SSMQ_MUST_USE ssmq_status ssmq_args_f64(const ssmq_args *args, const char *name, double min,
                                        double max, double *out, ssmq_err *err);

enum { SSMQ_MAX_ARG_NUMBERS = 32 };
typedef struct ssmq_arg_numbers {
    size_t n;
    int64_t values[SSMQ_MAX_ARG_NUMBERS];
} ssmq_arg_numbers;
/* Numbers in [min, max] with commas between, or "none"; likewise. */
SSMQ_MUST_USE ssmq_status ssmq_args_numbers(const ssmq_args *args, const char *name, int64_t min,
                                            int64_t max, ssmq_arg_numbers *out, ssmq_err *err);

/* "  -n, --name VALUE   help" lines on stdout. */
void ssmq_args_print_help(const ssmq_option *options, size_t n_options);

#ifdef __cplusplus
}
#endif
#endif
