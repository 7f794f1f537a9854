/* SPDX-License-Identifier: Apache-2.0 */
/* Drift on the tested engine: the baseline is exactly itself on both paths, and what quantization
 * does to the state is what it does on the CPU engine. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/str.h"
#include "support/tested_engine.h"
#include "support/trial_fixture.h"
#include "trial/drift.h"
#include "trial/task.h"

enum { CONTEXT = 512, SEQUENCES = 2 };

/* Tensor cores and a state in 16 bits have a floor of their own; so large it may be. */
static const double most_floor = 0.3;
/* Well above what 16-bit activations make of it. */
static const double impulse = 0.25;

typedef struct outcome {
    ssmq_record record;
    ssmq_samples samples;
} outcome;

static void run_drift(outcome *out, const ssmq_model *model, const int32_t *ids, const char *path,
                      ssmq_engine *baseline, ssmq_engine *engine) {
    fixture f;
    ssmq_err err = {0};
    fixture_init(&f, 16);
    f.trial_inputs.model = model;
    f.trial_inputs.text_ids = ids;
    f.trial_inputs.n_text_ids = (int64_t)CONTEXT * SEQUENCES;
    ssmq_field_set(f.config.drift.path, sizeof f.config.drift.path, path);
    f.config.drift.impulse = impulse;
    ssmq_trial trial = fixture_trial(SSMQ_TASK_DRIFT, "bf16", CONTEXT);
    trial.batch_size = SEQUENCES;
    const trial_run run = {
        .trial = &trial, .inputs = &f.trial_inputs, .engine = engine, .baseline = baseline};
    memset(&out->samples, 0, sizeof out->samples);
    ssmq_record_init(&out->record);
    assert_ok(trial_run_drift(&run, &out->record, &out->samples, &err), &err);
    engine->api->close(engine);
    baseline->api->close(baseline);
}

static void baseline_equals_itself(void **state) {
    static const char *const names[] = {"drift_error", "drift_injected_error", "drift_conv_error",
                                        "drift_conv_injected_error", "drift_kl"};
    static const char *const paths[] = {"prefill", "decode"};
    const engine_case *c = *state;
    int32_t *ids = cpu_fixture_ids((int64_t)CONTEXT * SEQUENCES, c->model->shape.V, 8);
    for (int i = 0; i < 2; i++) {
        outcome out;
        run_drift(&out, c->model, ids, paths[i], tested_engine_load(c->model, c->precision),
                  tested_engine_load(c->model, c->precision));
        for (size_t k = 0; k < sizeof names / sizeof names[0]; k++) {
            const ssmq_series *series = ssmq_samples_get(&out.samples, names[k]);
            for (size_t at = 0; at < series->n; at++) {
                if (series->values[at] != 0.0) {
                    fail_msg("%s: %s[%zu] is %g", paths[i], names[k], at, series->values[at]);
                }
            }
        }
        print_message("  %s: floor %.2e\n", paths[i], out.record.drift_floor);
        assert_true(out.record.drift_error_final == 0.0);
        /* Where the scan is not one of tensor cores, both paths may take the very same sums. */
        assert_true(out.record.drift_floor > 0.0 || c->shape->P != 64);
        assert_true(out.record.drift_floor >= 0.0 && out.record.drift_floor < most_floor);
        ssmq_samples_free(&out.samples);
    }
    ssmq_free(ids);
}

/* Of the engine's own precision against w4a8 of its compute type. Both engines quantize the same
 * weights to the same codes; what differs are low bits, and what falls on other sides of roundings
 * because of them. */
static void quantization_is_the_cpu_engines(void **state) {
    const engine_case *c = *state;
    char quantized[32] = "";
    int32_t *ids = cpu_fixture_ids((int64_t)CONTEXT * SEQUENCES, c->model->shape.V, 9);
    outcome tested, cpu;
    const double tolerance = 0.1;
    (void)snprintf(quantized, sizeof quantized, "%s:w4a8", c->precision);
    run_drift(&tested, c->model, ids, "prefill", tested_engine_load(c->model, c->precision),
              tested_engine_load(c->model, quantized));
    run_drift(&cpu, c->model, ids, "prefill", cpu_fixture_engine(c->model, c->precision, "all", 0),
              cpu_fixture_engine(c->model, quantized, "all", 0));
    print_message("  %s: error %.4g, CPU %.4g\n", quantized, tested.record.drift_error_final,
                  cpu.record.drift_error_final);
    const double ratio = tested.record.drift_error_final / cpu.record.drift_error_final;
    if (!(fabs(ratio - 1.0) < tolerance)) fail_msg("%g of the CPU engine's error", ratio);
    assert_string_equal(tested.record.drift_verdict, "resolved");
    assert_int_equal(tested.record.drift_n_heads, cpu.record.drift_n_heads);
    ssmq_samples_free(&tested.samples);
    ssmq_samples_free(&cpu.samples);
    ssmq_free(ids);
}

/* What is left of the impulse after so many tokens, root mean square over heads. */
static double left_of(const outcome *out, size_t look) {
    const ssmq_series *series = ssmq_samples_get(&out->samples, "drift_impulse_response");
    const size_t n = (size_t)out->record.drift_n_heads * SEQUENCES;
    double squares = 0.0;
    assert_true(series != NULL && (look + 1) * n <= series->n);
    for (size_t i = look * n; i < (look + 1) * n; i++)
        squares += series->values[i] * series->values[i];
    return sqrt(squares / (double)n);
}

/* Nothing is quantized; the first looks, where there is still something to compare. */
static void impulse_is_the_cpu_engines(void **state) {
    static const char *const paths[] = {"prefill", "decode"};
    const engine_case *c = *state;
    int32_t *ids = cpu_fixture_ids((int64_t)CONTEXT * SEQUENCES, c->model->shape.V, 10);
    const double tolerance = 0.02;
    for (int i = 0; i < 2; i++) {
        outcome tested, cpu;
        run_drift(&tested, c->model, ids, paths[i], tested_engine_load(c->model, c->precision),
                  tested_engine_load(c->model, c->precision));
        run_drift(&cpu, c->model, ids, paths[i],
                  cpu_fixture_engine(c->model, c->precision, "all", 0),
                  cpu_fixture_engine(c->model, c->precision, "all", 0));
        for (size_t look = 0; look < 3; look++) {
            const double a = left_of(&tested, look), b = left_of(&cpu, look);
            print_message("  %s, %d tokens: %.4g left, CPU %.4g\n", paths[i], 1 << look, a, b);
            if (!(fabs(a - b) < tolerance * b)) fail_msg("%g of the CPU engine's", a / b);
        }
        ssmq_samples_free(&tested.samples);
        ssmq_samples_free(&cpu.samples);
    }
    ssmq_free(ids);
}

int main(int argc, char **argv) {
    static const engine_check checks[] = {
        {"baseline equals itself", baseline_equals_itself, false},
        {"quantization is the CPU engine's", quantization_is_the_cpu_engines, false},
        {"an impulse decays as the CPU engine's", impulse_is_the_cpu_engines, false},
    };
    const int status = tested_engine_begin(argc, argv);
    if (status != 0) return status;
    return tested_engine_run("gpu_drift", checks, sizeof checks / sizeof checks[0],
                             tested_engine_shapes, TESTED_ENGINE_SHAPES);
}
