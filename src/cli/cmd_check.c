/* SPDX-License-Identifier: Apache-2.0 */
/* cli/cmd_check.c - ssmq check: everything that would stop a sweep before its first trial, without
 * running it; prints the resolved configuration. */
#include <stdio.h>

#include "cli/args.h"
#include "cli/commands.h"
#include "cli/inputs.h"
#include "cli/sweep_args.h"

enum { MAX_CONFIG_BYTES = 1 << 20 };

static const ssmq_option options[] = {
    {"config", 'c', "F", true, "YAML file; repeatable, later wins (default configs/week1.yaml)"},
    {"set", 's', "KEY=VALUE", true, "one value; repeatable, after the files"},
    {"device", 'd', "NAME", false, "auto, cpu, cuda or null (model.device)"},
    {"values-only", 0, NULL, false, "do not open the checkpoint and texts that values name"},
    {"help", 'h', NULL, false, "this text"},
};
enum { N_OPTIONS = sizeof options / sizeof options[0] };

/* What the configuration names must exist, fit together and make a grid. */
static ssmq_status check_inputs(const ssmq_config *config, ssmq_err *err) {
    ssmq_loaded loaded;
    ssmq_grid grid;
    SSMQ_TRY(ssmq_loaded_open(&loaded, config, SSMQ_NEEDS_DEVICE, err));
    ssmq_status status = ssmq_grid_init(&grid, &loaded.config, &loaded.inputs, err);
    if (status == SSMQ_OK) ssmq_grid_free(&grid);
    ssmq_loaded_close(&loaded);
    return status;
}

static ssmq_status print(const ssmq_config *config, ssmq_err *err) {
    ssmq_str text;
    ssmq_str_init(&text, MAX_CONFIG_BYTES);
    ssmq_status status = ssmq_config_write(config, false, &text, err);
    if (status == SSMQ_OK) (void)fputs(ssmq_str_get(&text), stdout);
    ssmq_str_free(&text);
    return status;
}

ssmq_status ssmq_command_check(int argc, const char *const *argv, ssmq_err *err) {
    ssmq_args args;
    ssmq_config config;
    SSMQ_TRY(ssmq_args_parse(&args, options, N_OPTIONS, argc, argv, err));
    if (ssmq_args_get(&args, "help") != NULL) {
        (void)printf("usage: ssmq check --config F [OPTIONS]\n\n"
                     "Checks a configuration and what it names without running anything: every "
                     "fault is a line on\nstandard error and the exit code is 2. A sound "
                     "configuration is printed with every key set.\n\n");
        ssmq_args_print_help(options, N_OPTIONS);
        return SSMQ_OK;
    }
    SSMQ_TRY(ssmq_args_no_positional(&args, err));
    SSMQ_TRY(ssmq_config_from_args(&config, &args, err));
    if (ssmq_args_get(&args, "values-only") == NULL) SSMQ_TRY(check_inputs(&config, err));
    return print(&config, err);
}
