/* SPDX-License-Identifier: Apache-2.0 */
/* cli/commands.h - the subcommands of ssmq. Each gets its own arguments (argv[0] is its name),
 * prints its product on stdout and returns a status, whose text the caller prints. */
#ifndef SSMQ_CLI_COMMANDS_H
#define SSMQ_CLI_COMMANDS_H

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* name, usage, what it does */
#define SSMQ_COMMAND_TABLE(X)                                                                      \
    X(info, "[--model DIR] [--fields]",                                                            \
      "devices, library versions, checkpoint shapes, modules in scope")                            \
    X(check, "--config F", "validates a configuration without running it")                         \
    X(plan, "--config F [--ranks N [--simulate]]", "the grid as CSV, and its cost")                \
    X(tokenize, "--model DIR [--decode] [FILE]", "text to ids, one a line, or back")               \
    X(score, "--model DIR (--text F | --ids F)", "negative log likelihood of each token")          \
    X(generate, "--model DIR --prompt T [-n N]", "greedy text")                                    \
    X(bench, "[--model DIR] [--prefill LIST] [--batch LIST]",                                      \
      "speed and memory beside what the device could do")                                          \
    X(show, "RUN [--watch SECONDS]", "a run folder as a table, or what its sweep is doing")        \
    X(merge, "RUN | --into DIR RUN...", "rebuilds metrics.jsonl and results.h5 from the journals") \
    X(export, "RUN --format md|csv|jsonl|sql", "the trials of a run in another form")

#define X(name, usage, help)                                                                       \
    SSMQ_MUST_USE ssmq_status ssmq_command_##name(int argc, const char *const *argv, ssmq_err *err);
SSMQ_COMMAND_TABLE(X)
#undef X

#ifdef __cplusplus
}
#endif
#endif
