/* SPDX-License-Identifier: Apache-2.0 */
/* cli/ssmq.c - finds the subcommand, reports its error, turns its status into an exit code. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/commands.h"
#include "cli/version.h"

static const struct {
    const char *name;
    const char *usage;
    const char *help;
    ssmq_status (*run)(int argc, const char *const *argv, ssmq_err *err);
} commands[] = {
#define X(name, usage, help) {#name, usage, help, ssmq_command_##name},
    SSMQ_COMMAND_TABLE(X)
#undef X
};

enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static void print_help(FILE *to) {
    (void)fprintf(to, "usage: ssmq COMMAND [OPTIONS]\n\n");
    for (size_t i = 0; i < N_COMMANDS; i++) {
        (void)fprintf(to, "  %-9s %s\n            %s\n", commands[i].name, commands[i].help,
                      commands[i].usage);
    }
    (void)fprintf(to, "\nssmq COMMAND --help lists the options of a command. ssmq-sweep runs a "
                      "sweep.\n");
}

int ssmq_exit_code(ssmq_status status) {
    if (status == SSMQ_OK) return SSMQ_EXIT_OK;
    return status == SSMQ_CONFIG ? SSMQ_EXIT_USAGE : SSMQ_EXIT_FAILURE;
}

int ssmq_main(int argc, char **argv) {
    if (argc < 2) {
        print_help(stderr);
        return SSMQ_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        print_help(stdout);
        return SSMQ_EXIT_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        (void)printf("ssmq %s (%s)\n", ssmq_version(), ssmq_git_commit());
        return SSMQ_EXIT_OK;
    }
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(argv[1], commands[i].name) != 0) continue;
        ssmq_err err = {0};
        ssmq_status status = commands[i].run(argc - 1, (const char *const *)argv + 1, &err);
        if (status == SSMQ_OK && (fflush(stdout) != 0 || ferror(stdout) != 0)) {
            status = SSMQ_FAIL(&err, IO, "standard output: cannot write");
        }
        if (status != SSMQ_OK) (void)fprintf(stderr, "ssmq %s: %s\n", argv[1], err.text);
        return ssmq_exit_code(status);
    }
    (void)fprintf(stderr, "ssmq: '%s' is no command; ssmq --help lists them\n", argv[1]);
    return SSMQ_EXIT_USAGE;
}
