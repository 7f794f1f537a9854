/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench_print.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/str.h"
#include "cli/version.h"

enum { MAX_LINE_BYTES = 1 << 16, HOST_BYTES = 256, CELL_BYTES = 32 };
static const double bytes_per_mb = 1e6;

static const char *phase_of(const ssmq_bench_result *r) {
    return r->is_decode ? "decode" : "prefill";
}

static double percent_of_floor(const ssmq_bench_result *r) {
    return r->median_ms > 0 ? 100.0 * r->floor_ms / r->median_ms : NAN;
}

static void print_fact(const char *name, const char *text) {
    if (text[0] != '\0') (void)printf(", %s%s", name, text);
}

void ssmq_bench_print_head(const ssmq_bench_about *about) {
    const ssmq_runner *runner = about->runner;
    const ssmq_engine_facts *facts = &about->facts;
    const ssmq_precision *precision = &runner->spec.precision;
    (void)printf("ssmq       %s (%s)\n", ssmq_version(), ssmq_git_commit());
    (void)printf("model      %s, %s, state %s, segments of %" PRId64 " tokens\n",
                 runner->model->name, precision->name, ssmq_dtype_name(precision->state_dtype),
                 about->settings->segment_tokens);
    (void)printf("device     %s: %s", runner->api->name,
                 facts->gpu_name[0] != '\0' ? facts->gpu_name : facts->cpu_name);
    print_fact("driver ", facts->driver);
    print_fact("CUDA ", facts->cuda);
    print_fact("cuBLASLt ", facts->cublaslt);
    (void)printf(", timer: %s\n", facts->timer);
    if (about->settings->has_gemv) {
        (void)printf("decode     products of up to 8 sequences by ssmq itself where they fit\n");
    }
    if (about->ceilings_note[0] != '\0') {
        (void)printf("ceilings   none: %s\n\n", about->ceilings_note);
    } else {
        (void)printf("ceilings   copy %.0f GB/s, %s products %.0f TFLOP/s\n\n",
                     about->ceilings.copy_bytes_per_s / 1e9, ssmq_dtype_name(precision->dtype),
                     about->ceilings.gemm_flops / 1e12);
    }
    (void)printf("%-7s %5s %7s %10s %10s %10s %10s %11s %10s %7s %6s %4s %8s\n", "phase", "batch",
                 "tokens", "ms", "p10", "p90", "host ms", "tokens/s", "floor ms", "floor %",
                 "SM MHz", "C", "throttle");
}

/* A number in a column; a dash where there is none. */
static void print_cell(int width, int n_decimals, double value) {
    if (isfinite(value)) {
        (void)printf(" %*.*f", width, n_decimals, value);
    } else {
        (void)printf(" %*s", width, "-");
    }
}

static double or_nan(int64_t value) {
    return value >= 0 ? (double)value : NAN;
}

static void print_throttle(int64_t reasons) {
    char text[CELL_BYTES] = "-";
    if (reasons >= 0) (void)snprintf(text, sizeof text, "0x%" PRIx64, (uint64_t)reasons);
    (void)printf(" %8s\n", text);
}

static void print_memory(const ssmq_engine_stats *peaks) {
    (void)printf(
        "        memory, MB: weights %.1f, state %.1f, activations %.1f, workspace %.1f, "
        "peak %.1f\n",
        (double)peaks->weight_bytes / bytes_per_mb, (double)peaks->state_bytes / bytes_per_mb,
        (double)peaks->activation_bytes / bytes_per_mb,
        (double)peaks->workspace_bytes / bytes_per_mb, (double)peaks->peak_bytes / bytes_per_mb);
}

static void print_stages(const ssmq_bench_result *r) {
    if (isnan(r->staged_ms)) return;
    (void)printf("        by stage, ms:");
    for (int k = 0; k < SSMQ_N_STAGES; k++) {
        (void)printf(" %s %.4f,", ssmq_stage_name((ssmq_stage)k), r->stage_ms[k]);
    }
    (void)printf(" staged call %.4f\n", r->staged_ms);
}

void ssmq_bench_print_row(const ssmq_bench_result *result) {
    const ssmq_bench_result *r = result;
    (void)printf("%-7s %5" PRId64 " %7" PRId64, phase_of(r), r->B, r->T);
    if (r->status != SSMQ_OK) {
        (void)printf("  %s: %s\n", ssmq_status_name(r->status), r->reason);
        return;
    }
    print_cell(10, 4, r->median_ms);
    print_cell(10, 4, r->p10_ms);
    print_cell(10, 4, r->p90_ms);
    print_cell(10, 4, r->host_ms);
    print_cell(11, 1, r->tokens_per_s);
    print_cell(10, 4, r->floor_ms);
    print_cell(7, 1, percent_of_floor(r));
    print_cell(6, 0, or_nan(r->peaks.sm_clock_mhz));
    print_cell(4, 0, or_nan(r->peaks.temperature_c));
    print_throttle(r->peaks.throttle_reasons);
    print_memory(&r->peaks);
    print_stages(r);
}

static void add_text(ssmq_str *out, const char *name, const char *text) {
    ssmq_str_addf(out, "\"%s\": ", name);
    ssmq_str_add_json(out, text, strlen(text));
    ssmq_str_add(out, ", ", 2);
}

static void add_i64(ssmq_str *out, const char *name, int64_t value) {
    if (value < 0) {
        ssmq_str_addf(out, "\"%s\": null, ", name);
    } else {
        ssmq_str_addf(out, "\"%s\": %" PRId64 ", ", name, value);
    }
}

static void add_f64(ssmq_str *out, const char *name, double value) {
    ssmq_str_addf(out, "\"%s\": ", name);
    ssmq_str_add_json_f64(out, value);
    ssmq_str_add(out, ", ", 2);
}

static void add_about(ssmq_str *out, const ssmq_bench_about *about) {
    const ssmq_runner *runner = about->runner;
    const ssmq_engine_facts *facts = &about->facts;
    const ssmq_precision *precision = &runner->spec.precision;
    const bool has_ceilings = about->ceilings_note[0] == '\0';
    char now[SSMQ_UTC_BYTES], host[HOST_BYTES] = "";
    ssmq_utc_iso(now);
    (void)gethostname(host, sizeof host - 1);
    add_text(out, "utc", now);
    add_text(out, "engine_version", ssmq_version());
    add_text(out, "git_commit", ssmq_git_commit());
    add_text(out, "host", host);
    add_text(out, "device", runner->api->name);
    add_text(out, "cpu_name", facts->cpu_name);
    add_i64(out, "n_threads", facts->n_threads);
    add_text(out, "gpu_name", facts->gpu_name);
    add_text(out, "driver", facts->driver);
    add_text(out, "cuda", facts->cuda);
    add_text(out, "cublaslt", facts->cublaslt);
    add_text(out, "timer", facts->timer);
    add_text(out, "memory_source", facts->memory_source);
    add_text(out, "model_name", runner->model->name);
    add_text(out, "model_sha256", runner->model->sha256);
    add_text(out, "precision", precision->name);
    add_text(out, "scope", runner->scope);
    add_text(out, "dtype", ssmq_dtype_name(precision->dtype));
    add_text(out, "state_dtype", ssmq_dtype_name(precision->state_dtype));
    add_i64(out, "segment_tokens", about->settings->segment_tokens);
    add_f64(out, "copy_gb_per_s", has_ceilings ? about->ceilings.copy_bytes_per_s / 1e9 : NAN);
    add_f64(out, "gemm_tflops", has_ceilings ? about->ceilings.gemm_flops / 1e12 : NAN);
}

static void add_times(ssmq_str *out, const ssmq_bench_result *r) {
    add_f64(out, "ms", r->median_ms);
    add_f64(out, "ms_p10", r->p10_ms);
    add_f64(out, "ms_p90", r->p90_ms);
    add_f64(out, "host_ms", r->host_ms);
    add_f64(out, "tokens_per_s", r->tokens_per_s);
    add_f64(out, "floor_gflop", r->work.flops / 1e9);
    add_f64(out, "floor_mb", r->work.bytes / bytes_per_mb);
    add_f64(out, "floor_ms", r->floor_ms);
    add_f64(out, "floor_percent", percent_of_floor(r));
}

static void add_device(ssmq_str *out, const ssmq_bench_result *r) {
    const bool is_known = r->peaks.peak_bytes > 0;
    const struct {
        const char *name;
        int64_t bytes;
    } parts[] = {{"peak_mem_mb", r->peaks.peak_bytes},
                 {"weight_mem_mb", r->peaks.weight_bytes},
                 {"state_mem_mb", r->peaks.state_bytes},
                 {"activation_mem_mb", r->peaks.activation_bytes},
                 {"workspace_mem_mb", r->peaks.workspace_bytes}};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        add_f64(out, parts[i].name, is_known ? (double)parts[i].bytes / bytes_per_mb : NAN);
    }
    add_i64(out, "sm_clock_mhz", r->peaks.sm_clock_mhz);
    add_i64(out, "memory_clock_mhz", r->peaks.memory_clock_mhz);
    add_i64(out, "temperature_c", r->peaks.temperature_c);
    add_i64(out, "throttle_reasons", r->peaks.throttle_reasons);
}

/* Last, so without a comma behind. */
static void add_stages(ssmq_str *out, const ssmq_bench_result *r) {
    add_f64(out, "staged_ms", r->staged_ms);
    for (int k = 0; k < SSMQ_N_STAGES; k++) {
        ssmq_str_addf(out, "%s\"stage_%s_ms\": ", k > 0 ? ", " : "",
                      ssmq_stage_name((ssmq_stage)k));
        ssmq_str_add_json_f64(out, r->stage_ms[k]);
    }
}

ssmq_status ssmq_bench_print_json(const ssmq_bench_about *about, const ssmq_bench_result *result,
                                  ssmq_err *err) {
    const ssmq_bench_result *r = result;
    ssmq_str out;
    ssmq_str_init(&out, MAX_LINE_BYTES);
    ssmq_str_add(&out, "{", 1);
    add_text(&out, "phase", phase_of(r));
    add_i64(&out, "batch_size", r->B);
    add_i64(&out, "context_length", r->T);
    add_text(&out, "status", ssmq_status_name(r->status));
    add_text(&out, "status_reason", r->reason);
    add_i64(&out, "n_warmup", r->n_warmup);
    add_i64(&out, "n_measure", r->n_measure);
    add_times(&out, r);
    add_device(&out, r);
    add_text(&out, "gemm_algorithms", r->algorithms);
    add_text(&out, "decode_products", r->decode_products);
    add_about(&out, about);
    add_stages(&out, r);
    ssmq_str_add(&out, "}\n", 2);
    ssmq_status status = ssmq_str_check(&out, "line", err);
    if (status == SSMQ_OK) (void)fputs(ssmq_str_get(&out), stdout);
    ssmq_str_free(&out);
    return status;
}
