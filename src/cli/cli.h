/* SPDX-License-Identifier: Apache-2.0 */
/* cli/cli.h - the two programs: ssmq-sweep and ssmq. */
#ifndef SSMQ_CLI_CLI_H
#define SSMQ_CLI_CLI_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Exit codes of both programs. */
enum {
    SSMQ_EXIT_OK = 0,       /* every trial ok or skipped */
    SSMQ_EXIT_FAILURE = 1,  /* could not continue */
    SSMQ_EXIT_USAGE = 2,    /* bad usage, configuration or input; nothing was written */
    SSMQ_EXIT_TRIALS = 3,   /* finished, some trials failed */
    SSMQ_EXIT_RESUMABLE = 4 /* stopped early; the same command goes on */
};

/* Exit code of a status that ended a command. */
int ssmq_exit_code(ssmq_status status);

/* ssmq-sweep; returns the exit code. */
int ssmq_sweep_main(int argc, char **argv);
/* ssmq SUBCOMMAND ...; returns the exit code. */
int ssmq_main(int argc, char **argv);

#ifdef __cplusplus
}
#endif
#endif
