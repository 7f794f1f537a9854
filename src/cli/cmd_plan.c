/* SPDX-License-Identifier: Apache-2.0 */
/* cli/cmd_plan.c - ssmq plan: the grid of a configuration as CSV on stdout, its totals on stderr.
 */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cli/args.h"
#include "cli/commands.h"
#include "cli/inputs.h"
#include "cli/plan.h"
#include "cli/sweep_args.h"
#include "engine/device.h"
#include "sched/sched.h"

enum { MAX_RANKS = 65536, MAX_GPUS = 64 };
static const double bytes_per_gb = 1e9;

static const ssmq_option options[] = {
    {"config", 'c', "F", true, "YAML file; repeatable, later wins (default configs/week1.yaml)"},
    {"set", 's', "KEY=VALUE", true, "one value; repeatable, after the files"},
    {"device", 'd', "NAME", false, "auto, cpu, cuda or null (model.device)"},
    {"only", 0, "EXPR", false, "part of the grid, e.g. 'task=ppl and precision=bf16,fp16'"},
    {"ranks", 'n', "N", false, "ranks to share the work among (default 1)"},
    {"help", 'h', NULL, false, "this text"},
};
enum { N_OPTIONS = sizeof options / sizeof options[0] };

/* Largest share of the work that one of n ranks gets when the sweep's own scheduler hands it out
 * and every trial takes exactly its cost. */
static ssmq_status makespan(const ssmq_grid *grid, int n_ranks, double *out, ssmq_err *err) {
    ssmq_sched_trial *trials = NULL;
    ssmq_sched *sched = NULL;
    double *busy_until = NULL;
    ssmq_status status = SSMQ_OK;
    *out = 0;
    SSMQ_TRY(ssmq_calloc(&trials, grid->n_trials, sizeof *trials, err));
    for (size_t i = 0; i < grid->n_trials; i++) trials[i].cost = grid->trials[i].cost;
    SSMQ_TRY_OR(ssmq_calloc(&busy_until, (size_t)n_ranks, sizeof *busy_until, err), free_trials);
    SSMQ_TRY_OR(ssmq_sched_open(&sched, trials, grid->n_trials, n_ranks, SSMQ_ORDER_COST, err),
                free_busy);
    for (size_t done = 0; done < grid->n_trials; done++) {
        int first = 0;
        for (int rank = 1; rank < n_ranks; rank++) {
            if (busy_until[rank] < busy_until[first]) first = rank;
        }
        int64_t i = ssmq_sched_next(sched, first);
        if (i < 0) break;
        busy_until[first] += trials[i].cost;
        ssmq_sched_finished(sched, first, i);
    }
    for (int rank = 0; rank < n_ranks; rank++) {
        if (busy_until[rank] > *out) *out = busy_until[rank];
    }
    ssmq_sched_close(sched);
free_busy:
    ssmq_free(busy_until);
free_trials:
    ssmq_free(trials);
    return status;
}

static ssmq_status print_totals(const ssmq_grid *grid, int n_ranks, ssmq_err *err) {
    double total = 0;
    double longest = 0;
    double span = 0;
    size_t n_skipped = 0;
    for (size_t i = 0; i < grid->n_trials; i++) {
        total += grid->trials[i].cost;
        if (grid->trials[i].cost > longest) longest = grid->trials[i].cost;
        n_skipped += grid->trials[i].skip[0] != '\0';
    }
    SSMQ_TRY(makespan(grid, n_ranks, &span, err));
    double bound = total / n_ranks > longest ? total / n_ranks : longest;
    (void)fprintf(stderr,
                  "%zu trials, %zu to skip, %zu combinations equal to others left out\n"
                  "expected work %.4g Tflop; on %d ranks %.4g Tflop for the busiest "
                  "(%.1f %% over the lower bound)\n",
                  grid->n_trials, n_skipped, grid->n_equal, total / 1e12, n_ranks, span / 1e12,
                  bound > 0 ? 100.0 * (span / bound - 1.0) : 0.0);
    return SSMQ_OK;
}

/* The trial that takes most of a device, beside what the smallest device here has. */
static void print_largest(const ssmq_grid *grid, const ssmq_loaded *loaded) {
    ssmq_engine_stats sizes = {0}, largest = {0};
    ssmq_gpu gpus[MAX_GPUS];
    const char *reason = "";
    size_t idx = 0;
    for (size_t i = 0; i < grid->n_trials; i++) {
        if (!ssmq_plan_sizes(&grid->trials[i], loaded, &sizes)) continue;
        if (sizes.peak_bytes <= largest.peak_bytes) continue;
        largest = sizes;
        idx = i;
    }
    if (largest.peak_bytes == 0) return;
    (void)fprintf(
        stderr,
        "largest on the device: trial %zu, %.3f GB (weights %.3f, state %.3f, "
        "activations %.3f, workspace %.3f)",
        idx, (double)largest.peak_bytes / bytes_per_gb, (double)largest.weight_bytes / bytes_per_gb,
        (double)largest.state_bytes / bytes_per_gb, (double)largest.activation_bytes / bytes_per_gb,
        (double)largest.workspace_bytes / bytes_per_gb);
    const int n_gpus = ssmq_engine_gpus(gpus, MAX_GPUS, &reason);
    int least = 0;
    for (int i = 1; i < n_gpus; i++) {
        if (gpus[i].memory_bytes < gpus[least].memory_bytes) least = i;
    }
    if (n_gpus == 0) {
        (void)fprintf(stderr, "; no device to compare with: %s\n", reason);
    } else {
        (void)fprintf(stderr, "; %.1f %% of %s with %.1f GB\n",
                      100.0 * (double)largest.peak_bytes / (double)gpus[least].memory_bytes,
                      gpus[least].name, (double)gpus[least].memory_bytes / bytes_per_gb);
    }
}

static ssmq_status plan(const ssmq_loaded *loaded, const char *only, int n_ranks, ssmq_err *err) {
    ssmq_grid grid;
    ssmq_str text;
    ssmq_str_init(&text, SSMQ_MAX_PLAN_BYTES);
    SSMQ_TRY(ssmq_grid_init(&grid, &loaded->config, &loaded->inputs, err));
    ssmq_status status = only != NULL ? ssmq_grid_only(&grid, only, err) : SSMQ_OK;
    if (status == SSMQ_OK) status = ssmq_plan_write(&grid, loaded, &text, err);
    if (status == SSMQ_OK) {
        (void)fputs(ssmq_str_get(&text), stdout);
        status = print_totals(&grid, n_ranks, err);
        if (status == SSMQ_OK) print_largest(&grid, loaded);
    }
    ssmq_str_free(&text);
    ssmq_grid_free(&grid);
    return status;
}

ssmq_status ssmq_command_plan(int argc, const char *const *argv, ssmq_err *err) {
    ssmq_args args;
    SSMQ_TRY(ssmq_args_parse(&args, options, N_OPTIONS, argc, argv, err));
    if (ssmq_args_get(&args, "help") != NULL) {
        (void)printf("usage: ssmq plan --config F [OPTIONS]\n\nThe grid as CSV on standard output, "
                     "its totals on standard error.\n\n");
        ssmq_args_print_help(options, N_OPTIONS);
        return SSMQ_OK;
    }
    SSMQ_TRY(ssmq_args_no_positional(&args, err));
    int64_t n_ranks = 1;
    SSMQ_TRY(ssmq_args_i64(&args, "ranks", 1, MAX_RANKS, &n_ranks, err));
    ssmq_config config;
    ssmq_loaded loaded;
    SSMQ_TRY(ssmq_config_from_args(&config, &args, err));
    SSMQ_TRY(ssmq_loaded_open(&loaded, &config, false, err));
    ssmq_status status = plan(&loaded, ssmq_args_get(&args, "only"), (int)n_ranks, err);
    ssmq_loaded_close(&loaded);
    return status;
}
