/* SPDX-License-Identifier: Apache-2.0 */
/* cli/cmd_plan.c - ssmq plan: the grid of a configuration as CSV on stdout, its totals on stderr.
 */
#include <stdio.h>

#include "cli/args.h"
#include "cli/commands.h"
#include "cli/inputs.h"
#include "cli/plan.h"
#include "cli/plan_totals.h"
#include "cli/sweep_args.h"

enum { MAX_RANKS = 65536 };
static const double max_error = 100.0;

static const ssmq_option options[] = {
    {"config", 'c', "F", true, "YAML file; repeatable, later wins (default configs/week1.yaml)"},
    {"set", 's', "KEY=VALUE", true, "one value; repeatable, after the files"},
    {"device", 'd', "NAME", false, "auto, cpu, cuda or null (model.device)"},
    {"only", 0, "EXPR", false, "part of the grid, e.g. 'task=ppl and precision=bf16,fp16'"},
    {"ranks", 'n', "N", false, "ranks to share the work among (default 1)"},
    {"simulate", 0, NULL, false, "the schedule on those ranks instead of the grid"},
    {"error", 0, "X", false, "simulated durations are off by up to this factor (default 1)"},
    {"seed", 0, "N", false, "of the draw of those errors (default 0)"},
    {"help", 'h', NULL, false, "this text"},
};
enum { N_OPTIONS = sizeof options / sizeof options[0] };

typedef struct plan_wish {
    const char *only; /* NULL: all */
    int64_t n_ranks;
    bool is_simulated;
    double error;
    int64_t seed;
} plan_wish;

static ssmq_status print_grid(const ssmq_grid *grid, const ssmq_loaded *loaded, ssmq_err *err) {
    ssmq_str text;
    ssmq_str_init(&text, SSMQ_MAX_PLAN_BYTES);
    ssmq_status status = ssmq_plan_write(grid, loaded, &text, err);
    if (status == SSMQ_OK) (void)fputs(ssmq_str_get(&text), stdout);
    ssmq_str_free(&text);
    return status;
}

static ssmq_status plan(const ssmq_loaded *loaded, const plan_wish *wish, ssmq_err *err) {
    ssmq_grid grid;
    SSMQ_TRY(ssmq_grid_init(&grid, &loaded->config, &loaded->inputs, err));
    ssmq_status status =
        wish->only != NULL ? ssmq_grid_only(&grid, "--only", wish->only, err) : SSMQ_OK;
    if (status == SSMQ_OK && !wish->is_simulated) status = print_grid(&grid, loaded, err);
    if (status == SSMQ_OK) {
        const ssmq_plan_schedule schedule = {.n_ranks = (int)wish->n_ranks,
                                             .is_long = wish->is_simulated,
                                             .error = wish->error,
                                             .seed = (uint64_t)wish->seed};
        status = ssmq_plan_print_schedule(&grid, &schedule, err);
    }
    if (status == SSMQ_OK && !wish->is_simulated) ssmq_plan_print_largest(&grid, loaded);
    ssmq_grid_free(&grid);
    return status;
}

static ssmq_status read_wish(plan_wish *out, const ssmq_args *args, ssmq_err *err) {
    *out = (plan_wish){
        .only = ssmq_args_get(args, "only"),
        .n_ranks = 1,
        .is_simulated = ssmq_args_get(args, "simulate") != NULL,
        .error = 1.0,
    };
    SSMQ_TRY(ssmq_args_i64(args, "ranks", 1, MAX_RANKS, &out->n_ranks, err));
    SSMQ_TRY(ssmq_args_f64(args, "error", 1.0, max_error, &out->error, err));
    SSMQ_TRY(ssmq_args_i64(args, "seed", 0, INT64_MAX, &out->seed, err));
    if (!out->is_simulated && ssmq_args_get(args, "error") != NULL) {
        return SSMQ_FAIL(err, CONFIG, "--error goes with --simulate");
    }
    if (ssmq_args_get(args, "error") == NULL && ssmq_args_get(args, "seed") != NULL) {
        return SSMQ_FAIL(err, CONFIG, "--seed goes with --error");
    }
    return SSMQ_OK;
}

ssmq_status ssmq_command_plan(int argc, const char *const *argv, ssmq_err *err) {
    ssmq_args args;
    SSMQ_TRY(ssmq_args_parse(&args, options, N_OPTIONS, argc, argv, err));
    if (ssmq_args_get(&args, "help") != NULL) {
        (void)printf("usage: ssmq plan --config F [OPTIONS]\n\n"
                     "The grid as CSV on standard output, its totals on standard error. With "
                     "--simulate the schedule:\na line a rank on standard output, makespan and "
                     "lower bound on standard error.\n\n");
        ssmq_args_print_help(options, N_OPTIONS);
        return SSMQ_OK;
    }
    SSMQ_TRY(ssmq_args_no_positional(&args, err));
    plan_wish wish;
    SSMQ_TRY(read_wish(&wish, &args, err));
    ssmq_config config;
    ssmq_loaded loaded;
    SSMQ_TRY(ssmq_config_from_args(&config, &args, err));
    SSMQ_TRY(ssmq_loaded_open(&loaded, &config,
                              wish.is_simulated ? SSMQ_NEEDS_SHAPE : SSMQ_NEEDS_BUILD, err));
    ssmq_status status = plan(&loaded, &wish, err);
    ssmq_loaded_close(&loaded);
    return status;
}
