/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/plan_totals.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "cli/plan.h"
#include "cli/progress.h"
#include "cli/sched_trials.h"
#include "engine/device.h"
#include "sched/simulate.h"

enum { MAX_GPUS = 64, DURATION_BYTES = 32 };
static const double bytes_per_gb = 1e9;
static const double s_per_hour = 3600.0;

/* A factor between 1 / error and error, its logarithm uniform. */
static double draw_factor(ssmq_rng *rng, double error) {
    return pow(error, 2.0 * ssmq_rng_f64(rng) - 1.0);
}

/* What the trials take: the estimates, each off by its group's factor and its own. */
static void draw_times(double *trial_s, const ssmq_sched_trial *trials, size_t n,
                       const ssmq_plan_schedule *schedule) {
    ssmq_rng rng = ssmq_rng_from_seed(schedule->seed);
    const double own = pow(schedule->error, 0.2);
    for (size_t i = 0; i < n; i++) {
        ssmq_rng of_group = ssmq_rng_from_seed(schedule->seed ^ (uint64_t)trials[i].group << 32);
        trial_s[i] =
            trials[i].cost * draw_factor(&of_group, schedule->error) * draw_factor(&rng, own);
    }
}

static void print_ranks(const ssmq_sim_result *sim, int n_ranks) {
    (void)printf("rank,trials,loads,trial_s,load_s,idle_s,idle_share\n");
    for (int i = 0; i < n_ranks; i++) {
        const ssmq_sim_rank *r = &sim->ranks[i];
        const double idle_s = fmax(sim->makespan_s - r->trial_s - r->load_s, 0.0);
        (void)printf("%d,%zu,%zu,%.6g,%.6g,%.6g,%.4f\n", i, r->n_trials, r->n_loads, r->trial_s,
                     r->load_s, idle_s, sim->makespan_s > 0 ? idle_s / sim->makespan_s : 0.0);
    }
}

static double percent_over(double value, double bound) {
    return bound > 0 ? 100.0 * (value / bound - 1.0) : 0.0;
}

static void print_long(const ssmq_sim_result *sim, int n_ranks) {
    const double all_s = sim->makespan_s * n_ranks;
    const double idle_s = fmax(all_s - sim->trial_s - sim->load_s, 0.0);
    (void)fprintf(stderr,
                  "makespan     %.6g s, %.2f %% over the lower bound of %.6g s\n"
                  "lower bound  the larger of %.6g s (trials and one loading a class, shared by %d "
                  "ranks)\n"
                  "             and %.6g s (the longest trial with its loading)\n"
                  "work         %.6g s in trials, %.6g s in %zu loadings of %zu classes (%.2f %%)\n"
                  "idle         %.2f %% of the ranks' time, all after the last trial was begun\n"
                  "scheduler    %.2f us a trial\n",
                  sim->makespan_s, percent_over(sim->makespan_s, sim->bound_s), sim->bound_s,
                  sim->share_s, n_ranks, sim->longest_s, sim->trial_s, sim->load_s, sim->n_loads,
                  sim->n_classes, all_s > 0 ? 100.0 * sim->load_s / all_s : 0.0,
                  all_s > 0 ? 100.0 * idle_s / all_s : 0.0, sim->sched_us);
    print_ranks(sim, n_ranks);
}

static void print_short(const ssmq_grid *grid, const ssmq_sim_result *sim, int n_ranks) {
    char text[DURATION_BYTES];
    size_t n_skipped = 0;
    for (size_t i = 0; i < grid->n_trials; i++) n_skipped += grid->trials[i].skip[0] != '\0';
    ssmq_duration_text(sim->makespan_s, text, sizeof text);
    (void)fprintf(
        stderr,
        "%zu trials, %zu to skip, %zu combinations equal to others left out\n"
        "expected work %.3g device hours; on %d ranks %s (%.1f %% over the lower bound)\n",
        grid->n_trials, n_skipped, grid->n_equal, (sim->trial_s + sim->load_s) / s_per_hour,
        n_ranks, text, percent_over(sim->makespan_s, sim->bound_s));
}

ssmq_status ssmq_plan_print_schedule(const ssmq_grid *grid, const ssmq_plan_schedule *schedule,
                                     ssmq_err *err) {
    ssmq_status status = SSMQ_OK;
    ssmq_sched_trial *trials = NULL;
    double *trial_s = NULL;
    ssmq_sim_result sim = {0};
    SSMQ_TRY(ssmq_calloc(&trials, grid->n_trials, sizeof *trials, err));
    SSMQ_TRY_OR(ssmq_calloc(&trial_s, grid->n_trials, sizeof *trial_s, err), free_trials);
    for (size_t i = 0; i < grid->n_trials; i++) trials[i] = ssmq_sched_trial_of(&grid->trials[i]);
    draw_times(trial_s, trials, grid->n_trials, schedule);
    const ssmq_sim_setup setup = {
        .trials = trials,
        .n_trials = grid->n_trials,
        .trial_s = schedule->error > 1.0 ? trial_s : NULL,
        .n_ranks = schedule->n_ranks,
        .order = SSMQ_ORDER_COST,
    };
    SSMQ_TRY_OR(ssmq_simulate(&setup, &sim, err), free_times);
    print_short(grid, &sim, schedule->n_ranks);
    if (schedule->is_long) print_long(&sim, schedule->n_ranks);
    ssmq_free(sim.ranks);
free_times:
    ssmq_free(trial_s);
free_trials:
    ssmq_free(trials);
    return status;
}

void ssmq_plan_print_largest(const ssmq_grid *grid, const ssmq_loaded *loaded) {
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
