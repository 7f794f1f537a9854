/* SPDX-License-Identifier: Apache-2.0 */
/* cli/cmd_bench.c - ssmq bench: what this device reaches on its own, then prefill by length and
 * decode by batch of one model, each beside the floor that bytes and operations set. */
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "cli/args.h"
#include "cli/bench_print.h"
#include "cli/bench_run.h"
#include "cli/commands.h"
#include "trial/task.h"

enum { MAX_REPEAT = 100000, MAX_STEPS = 65536, MAX_BATCH = 4096 };
static const int64_t max_length = (int64_t)1 << 24;

static const ssmq_option options[] = {
    {"model", 'm', "DIR", false, "checkpoint folder, or random:NAME (default random:mamba2-130m)"},
    {"precision", 'p', "P", false, "precision, e.g. bf16, w8a8, w4a8:g64 (default bf16)"},
    {"scope", 0, "S", false, "what a quantized precision applies to (default all)"},
    {"state-dtype", 0, "TYPE", false, "of the recurrent state: fp32 (default), bf16 or fp16"},
    {"device", 'd', "NAME", false, "auto, cpu, cuda or null (default auto)"},
    {"threads", 't', "N", false, "host threads (default: as many as cores)"},
    {"prefill", 0, "LIST", false, "lengths, or none (default 2048,8192,32768)"},
    {"batch", 'b', "LIST", false, "decode batches, or none (default 1,16,64,256)"},
    {"repeat", 0, "N", false, "measured prefills and decode calls (default 20)"},
    {"steps", 0, "N", false, "steps of a decode call (default 64)"},
    {"segment", 0, "N", false, "tokens the engine computes at once (default as in trials, 2048)"},
    {"gemv", 0, NULL, false, "decode of up to 8 sequences by our own products, not cuBLASLt's"},
    {"stages", 0, NULL, false, "also times the stages, in a pass of their own"},
    {"no-ceilings", 0, NULL, false, "does not measure copy bandwidth and GEMM rate"},
    {"format", 'f', "NAME", false, "table (default) or jsonl"},
    {"help", 'h', NULL, false, "this text"},
};
enum { N_OPTIONS = sizeof options / sizeof options[0] };

typedef struct job {
    ssmq_arg_numbers lengths;
    ssmq_arg_numbers batches;
    ssmq_bench_settings settings;
    ssmq_runner_wish wish;
    ssmq_dtype state_dtype;
    bool has_ceilings;
    bool is_json;
    ssmq_runner runner;
    ssmq_bench_about about;
} job;

static void print_help(void) {
    (void)printf("usage: ssmq bench [--model DIR] [--prefill LIST] [--batch LIST] [OPTIONS]\n\n"
                 "Prefill of one sequence by length, with the logits of the last token, and decode "
                 "steps by batch,\nafter warm-up: medians by the engine's timer, 10th and 90th "
                 "percentiles, and the median by the host\nclock. The floor is the time that the "
                 "bytes and operations of the model take at the measured copy\nbandwidth and GEMM "
                 "rate; %% is the floor over the median.\n\n");
    ssmq_args_print_help(options, N_OPTIONS);
}

static ssmq_status read_dtype(const ssmq_args *args, ssmq_dtype *out, ssmq_err *err) {
    static const ssmq_dtype dtypes[] = {SSMQ_F32, SSMQ_F16, SSMQ_BF16};
    const char *name = ssmq_args_get(args, "state-dtype");
    if (name == NULL) return SSMQ_OK;
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++) {
        if (strcmp(name, ssmq_dtype_name(dtypes[i])) != 0) continue;
        *out = dtypes[i];
        return SSMQ_OK;
    }
    return SSMQ_FAIL(err, CONFIG, "--state-dtype: '%s' is no type; allowed are fp32, fp16, bf16",
                     name);
}

static ssmq_status read_format(const ssmq_args *args, bool *is_json, ssmq_err *err) {
    const char *name = ssmq_args_get(args, "format");
    *is_json = name != NULL && strcmp(name, "jsonl") == 0;
    if (name == NULL || *is_json || strcmp(name, "table") == 0) return SSMQ_OK;
    return SSMQ_FAIL(err, CONFIG, "--format: '%s' is no format; allowed are table, jsonl", name);
}

static ssmq_status read_args(job *out, const ssmq_args *args, ssmq_err *err) {
    SSMQ_TRY(ssmq_args_no_positional(args, err));
    SSMQ_TRY(ssmq_runner_wish_read(&out->wish, args, err));
    SSMQ_TRY(ssmq_args_numbers(args, "prefill", 1, max_length, &out->lengths, err));
    SSMQ_TRY(ssmq_args_numbers(args, "batch", 1, MAX_BATCH, &out->batches, err));
    SSMQ_TRY(ssmq_args_i64(args, "repeat", 1, MAX_REPEAT, &out->settings.n_repeat, err));
    SSMQ_TRY(ssmq_args_i64(args, "steps", 1, MAX_STEPS, &out->settings.n_steps, err));
    SSMQ_TRY(ssmq_args_i64(args, "segment", 1, max_length, &out->settings.segment_tokens, err));
    SSMQ_TRY(read_dtype(args, &out->state_dtype, err));
    SSMQ_TRY(read_format(args, &out->is_json, err));
    out->settings.has_stages = ssmq_args_get(args, "stages") != NULL;
    out->settings.has_gemv = ssmq_args_get(args, "gemv") != NULL;
    out->has_ceilings = ssmq_args_get(args, "no-ceilings") == NULL;
    return SSMQ_OK;
}

/* A device without room or without a way to measure only leaves the floors out. */
static ssmq_status measure_ceilings(job *j, ssmq_err *err) {
    ssmq_bench_about *about = &j->about;
    char *note = about->ceilings_note;
    if (!j->has_ceilings) {
        ssmq_field_set(note, sizeof about->ceilings_note, "--no-ceilings");
        return SSMQ_OK;
    }
    if (strcmp(j->runner.api->name, "cuda") != 0) {
        (void)snprintf(note, sizeof about->ceilings_note, "device %s has no measure of its own",
                       j->runner.api->name);
        return SSMQ_OK;
    }
    const ssmq_status status =
        ssmq_engine_ceilings(0, j->runner.spec.precision.dtype, &about->ceilings, err);
    if (status != SSMQ_SKIP && status != SSMQ_NOMEM) return status;
    ssmq_field_set(note, sizeof about->ceilings_note, err->text);
    ssmq_err_clear(err);
    about->ceilings = (ssmq_ceilings){0};
    return SSMQ_OK;
}

static ssmq_status print(const job *j, ssmq_bench_result *result, ssmq_err *err) {
    result->floor_ms = ssmq_bench_floor_ms(&result->work, &j->about.ceilings);
    if (j->is_json) {
        SSMQ_TRY(ssmq_bench_print_json(&j->about, result, err));
    } else {
        ssmq_bench_print_row(result);
    }
    /* Each line as it comes: a bench of a large model takes minutes. */
    if (fflush(stdout) != 0) return SSMQ_FAIL(err, IO, "standard output: cannot write");
    return SSMQ_OK;
}

static ssmq_status bench(job *j, ssmq_err *err) {
    ssmq_bench_result result;
    SSMQ_TRY(measure_ceilings(j, err));
    SSMQ_TRY(ssmq_runner_load(&j->runner, err));
    j->runner.api->describe(j->runner.engine, &j->about.facts);
    if (!j->is_json) ssmq_bench_print_head(&j->about);
    for (size_t i = 0; i < j->lengths.n; i++) {
        SSMQ_TRY(ssmq_bench_prefill(&j->runner, &j->settings, j->lengths.values[i], &result, err));
        SSMQ_TRY(print(j, &result, err));
    }
    for (size_t i = 0; i < j->batches.n; i++) {
        SSMQ_TRY(ssmq_bench_decode(&j->runner, &j->settings, j->batches.values[i], &result, err));
        SSMQ_TRY(print(j, &result, err));
    }
    return SSMQ_OK;
}

ssmq_status ssmq_command_bench(int argc, const char *const *argv, ssmq_err *err) {
    ssmq_args args;
    job j = {
        .lengths = {.n = 3, .values = {2048, 8192, 32768}},
        .batches = {.n = 4, .values = {1, 16, 64, 256}},
        .settings = {.n_repeat = 20, .n_steps = 64, .segment_tokens = TRIAL_SEGMENT_TOKENS},
        .wish = {.model = "random:mamba2-130m", .precision = "bf16", .device = "auto"},
        .state_dtype = SSMQ_F32,
    };
    SSMQ_TRY(ssmq_args_parse(&args, options, N_OPTIONS, argc, argv, err));
    if (ssmq_args_get(&args, "help") != NULL) {
        print_help();
        return SSMQ_OK;
    }
    SSMQ_TRY(read_args(&j, &args, err));
    SSMQ_TRY(ssmq_runner_open(&j.runner, &j.wish, err));
    j.runner.spec.precision.state_dtype = j.state_dtype;
    j.about.runner = &j.runner;
    j.about.settings = &j.settings;
    ssmq_status status = bench(&j, err);
    ssmq_runner_close(&j.runner);
    return status;
}
