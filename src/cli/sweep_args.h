/* SPDX-License-Identifier: Apache-2.0 */
/* cli/sweep_args.h - the command line of ssmq-sweep and the configuration it makes. */
#ifndef SSMQ_CLI_SWEEP_ARGS_H
#define SSMQ_CLI_SWEEP_ARGS_H

#include "base/status.h"
#include "cli/args.h"
#include "config/config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Parses the options of ssmq-sweep.  Fails: CONFIG. */
SSMQ_MUST_USE ssmq_status ssmq_sweep_args_parse(ssmq_args *out, int argc, const char *const *argv,
                                                ssmq_err *err);
void ssmq_sweep_args_print_help(void);

/* Reads the configuration that --config, --set and the run options ask for (no --config:
 * configs/week1.yaml; with --resume alone: that run's own). Faults go to stderr, a line each.
 * Fails: CONFIG, NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_config_from_args(ssmq_config *out, const ssmq_args *args,
                                                ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
