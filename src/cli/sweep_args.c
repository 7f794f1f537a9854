/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/sweep_args.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"

enum { FAULTS_BYTES = 1 << 20, MAX_FAILURES = 1000000000 };
static const double max_time_limit_s = 1e9;
static const char default_config[] = "configs/week1.yaml";

static const ssmq_option options[] = {
    {"config", 'c', "F", true, "YAML file; repeatable, later wins (default configs/week1.yaml)"},
    {"set", 's', "KEY=VALUE", true, "one value, e.g. ppl.seq_len=512; repeatable, after the files"},
    {"out", 'o', "DIR", false, "folder of run folders (run.out_dir)"},
    {"run-id", 0, "ID", false, "name of the run folder; an existing run of that name is resumed"},
    {"resume", 'r', "DIR", false, "run folder to go on with; its own configuration if no --config"},
    {"retry-failed", 0, NULL, false, "run trials again that ended neither ok nor skipped"},
    {"only", 0, "EXPR", false, "part of the grid, e.g. 'task=ppl and precision=bf16,fp16'"},
    {"shard", 0, "I/N", false, "part I, from 0, of N of like duration; then ssmq merge --into"},
    {"device", 'd', "NAME", false, "auto, cpu, cuda or null (model.device)"},
    {"dry-run", 0, NULL, false, "print the grid as CSV and stop; nothing is written"},
    {"fail-fast", 0, NULL, false, "hand out nothing more after the first failed trial"},
    {"max-failures", 0, "N", false, "the same after N failed trials"},
    {"time-limit", 0, "S", false, "hand out nothing more after S seconds"},
    {"quiet", 'q', NULL, false, "warnings and errors only"},
    {"version", 0, NULL, false, "print the version and stop"},
    {"help", 'h', NULL, false, "this text"},
};
enum { N_OPTIONS = sizeof options / sizeof options[0] };

ssmq_status ssmq_sweep_args_parse(ssmq_args *out, int argc, const char *const *argv,
                                  ssmq_err *err) {
    SSMQ_TRY(ssmq_args_parse(out, options, N_OPTIONS, argc, argv, err));
    return ssmq_args_no_positional(out, err);
}

void ssmq_sweep_args_print_help(void) {
    (void)printf("usage: [mpirun -np N] ssmq-sweep [OPTIONS]\n\n"
                 "Runs the trials of a configuration over all ranks; the last line of its output "
                 "is the run folder.\n\n");
    ssmq_args_print_help(options, N_OPTIONS);
    (void)printf("\nexit codes: 0 every trial ok or skipped, 1 could not continue, 2 bad usage or "
                 "input (nothing\nwritten), 3 finished with failed trials, 4 stopped early: the "
                 "same command with --resume goes on\n");
}

static ssmq_status set_text(char *field, size_t field_bytes, const ssmq_args *args,
                            const char *name, ssmq_err *err) {
    const char *value = ssmq_args_get(args, name);
    if (value == NULL) return SSMQ_OK;
    if (value[0] == '\0' || strlen(value) >= field_bytes) {
        return SSMQ_FAIL(err, CONFIG, "--%s: empty or longer than %zu bytes", name,
                         field_bytes - 1);
    }
    ssmq_field_set(field, field_bytes, value);
    return SSMQ_OK;
}

static ssmq_status apply_run_options(ssmq_config_run *run, const ssmq_args *args, ssmq_err *err) {
    SSMQ_TRY(set_text(run->out_dir, sizeof run->out_dir, args, "out", err));
    SSMQ_TRY(set_text(run->run_id, sizeof run->run_id, args, "run-id", err));
    SSMQ_TRY(ssmq_args_i64(args, "max-failures", 1, MAX_FAILURES, &run->max_failures, err));
    SSMQ_TRY(ssmq_args_f64(args, "time-limit", 0, max_time_limit_s, &run->time_limit_s, err));
    if (ssmq_args_get(args, "fail-fast") != NULL) run->fail_fast = true;
    if (run->run_id[0] != '\0' && !ssmq_name_is_safe(run->run_id)) {
        return SSMQ_FAIL(err, CONFIG,
                         "run.run_id: '%s' is not a plain folder name; allowed are names without "
                         "'/', not '.' or '..', not beginning with '-'",
                         run->run_id);
    }
    return SSMQ_OK;
}

ssmq_status ssmq_config_from_args(ssmq_config *out, const ssmq_args *args, ssmq_err *err) {
    const char *files[SSMQ_MAX_ARGS];
    const char *sets[SSMQ_MAX_ARGS + 1];
    char resolved[SSMQ_PATH_BYTES];
    char device[64];
    ssmq_config_sources sources = {.files = files, .sets = sets};
    sources.n_files = ssmq_args_all(args, "config", files);
    sources.n_sets = ssmq_args_all(args, "set", sets);
    const char *resume = ssmq_args_get(args, "resume");
    if (sources.n_files == 0 && resume != NULL) {
        SSMQ_TRY(ssmq_path_join(resolved, resume, "config_resolved.yaml", err));
        files[sources.n_files++] = resolved;
    }
    if (sources.n_files == 0) files[sources.n_files++] = default_config;
    if (ssmq_args_get(args, "device") != NULL) {
        int length =
            snprintf(device, sizeof device, "model.device=%s", ssmq_args_get(args, "device"));
        if (length < 0 || (size_t)length >= sizeof device) {
            return SSMQ_FAIL(err, CONFIG, "--device: too long");
        }
        sets[sources.n_sets++] = device;
    }
    ssmq_str faults;
    ssmq_str_init(&faults, FAULTS_BYTES);
    ssmq_status status = ssmq_config_read(out, &sources, &faults, err);
    if (status != SSMQ_OK) (void)fputs(ssmq_str_get(&faults), stderr);
    ssmq_str_free(&faults);
    SSMQ_TRY(status);
    return apply_run_options(&out->run, args, err);
}
