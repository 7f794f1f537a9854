/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine reports of itself: memory by category, times by stage, facts; and that its memory
 * is what was planned and does not grow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/device.h"
#include "support/tested_engine.h"

enum { SEGMENT = 1024, CYCLES = 20, MAX_B = 4 };

static const struct checkpoint_options shape = {
    .d = 256, .P = 64, .N = 128, .L = 4, .V = 1000, .dtype = SSMQ_BF16};

static ssmq_engine_stats take_stats(ssmq_engine *engine) {
    ssmq_engine_stats stats;
    memset(&stats, 0xff, sizeof stats);
    engine->api->take_stats(engine, &stats);
    return stats;
}

static int64_t sum_of(const ssmq_engine_stats *s) {
    return s->weight_bytes + s->state_bytes + s->activation_bytes + s->workspace_bytes;
}

/* Prefill of n tokens of each sequence, all of them scored. */
static void prefill(ssmq_engine *engine, const ssmq_engine_extent *extent, int64_t n) {
    const int64_t count = extent->n_sequences * n;
    int32_t *ids = cpu_fixture_ids(count, 1000, 1);
    float *nll = NULL;
    ssmq_err err = {0};
    assert_int_equal(ssmq_calloc(&nll, (size_t)count, sizeof *nll, NULL), SSMQ_OK);
    const ssmq_prefill call = {.tokens = ids, .n_tokens = n, .targets = ids, .nll = nll};
    assert_ok(engine->api->reset(engine, extent, &err), &err);
    assert_ok(engine->api->prefill(engine, &call, &err), &err);
    ssmq_free(nll);
    ssmq_free(ids);
}

static void decode(ssmq_engine *engine, int64_t n_steps) {
    const int32_t first[MAX_B] = {1, 2, 3, 4};
    int32_t *argmax = NULL;
    ssmq_err err = {0};
    assert_int_equal(ssmq_calloc(&argmax, (size_t)(MAX_B * n_steps), sizeof *argmax, NULL),
                     SSMQ_OK);
    const ssmq_decode call = {.first = first, .n_steps = n_steps, .argmax = argmax};
    assert_ok(engine->api->decode(engine, &call, &err), &err);
    ssmq_free(argmax);
}

/* A prefill of whole segments that scores every token uses all that was planned; decode and shorter
 * calls use less. */
static void memory_is_what_was_planned(void **state) {
    static const char *const precisions[] = {"fp32", "fp16", "bf16"};
    static const int64_t batches[] = {1, 3, MAX_B};
    ssmq_model *model = cpu_fixture_model(&shape);
    (void)state;
    for (int i = 0; i < 9; i++) {
        const ssmq_engine_extent extent = {.n_sequences = batches[i / 3],
                                           .max_segment_tokens = SEGMENT};
        const ssmq_spec spec = cpu_fixture_spec(model, precisions[i % 3], "all");
        ssmq_engine *engine = tested_engine_load(model, precisions[i % 3]);
        ssmq_engine_stats planned = {0};
        prefill(engine, &extent, SEGMENT);
        const ssmq_engine_stats whole = take_stats(engine);
        assert_true(whole.weight_bytes > 0 && whole.state_bytes > 0);
        assert_true(whole.activation_bytes > 0 && whole.workspace_bytes > 0);
        assert_true(whole.peak_bytes >= whole.weight_bytes + whole.state_bytes);
        assert_true(whole.peak_bytes <= sum_of(&whole));
        assert_true(whole.last_call_ns > 0);
        /* The state alone: fp32 S and three conv inputs at least. */
        const ssmq_shape *s = &model->shape;
        const int64_t LB = s->L * extent.n_sequences;
        assert_true(whole.state_bytes >= LB * s->H * s->P * s->N * 4);
        assert_true(whole.weight_bytes >=
                    model->n_params * (int64_t)ssmq_dtype_bytes(spec.precision.dtype));
        const bool has_plan =
            ssmq_engine_sizes(tested_engine_api()->name, s, &spec, &extent, &planned);
        assert_true(has_plan == tested_engine_is_cuda());
        if (has_plan) {
            print_message("  %s, B = %lld: weights %lld, state %lld, activations %lld, workspace "
                          "%lld\n",
                          precisions[i % 3], (long long)extent.n_sequences,
                          (long long)whole.weight_bytes, (long long)whole.state_bytes,
                          (long long)whole.activation_bytes, (long long)whole.workspace_bytes);
            assert_int_equal(whole.weight_bytes, planned.weight_bytes);
            assert_int_equal(whole.state_bytes, planned.state_bytes);
            assert_int_equal(whole.activation_bytes, planned.activation_bytes);
            assert_int_equal(whole.workspace_bytes, planned.workspace_bytes);
            assert_int_equal(whole.peak_bytes, planned.peak_bytes);
        }
        decode(engine, 3);
        const ssmq_engine_stats steps = take_stats(engine);
        assert_true(steps.peak_bytes > 0 && steps.peak_bytes <= whole.peak_bytes);
        if (has_plan) assert_true(steps.activation_bytes < whole.activation_bytes);
        engine->api->close(engine);
    }
    ssmq_model_close(model);
}

static void memory_does_not_grow(void **state) {
    ssmq_model *model = cpu_fixture_model(&shape);
    ssmq_engine *engine = tested_engine_load(model, "bf16");
    const ssmq_engine_extent extents[] = {{.n_sequences = 2, .max_segment_tokens = 256},
                                          {.n_sequences = MAX_B, .max_segment_tokens = SEGMENT}};
    ssmq_engine_stats first[2];
    (void)state;
    for (int i = 0; i < CYCLES; i++) {
        prefill(engine, &extents[i % 2], 300);
        decode(engine, 4);
        const ssmq_engine_stats stats = take_stats(engine);
        if (i < 2) first[i] = stats;
        assert_int_equal(sum_of(&stats), sum_of(&first[i % 2]));
        assert_int_equal(stats.peak_bytes, first[i % 2].peak_bytes);
    }
    engine->api->close(engine);
    ssmq_model_close(model);
}

/* Each extent takes over an eighth of the device: what is not given back shows as want of memory
 * long before the last cycle. So do engines that are opened and closed. */
static void memory_is_given_back(void **state) {
    enum { PART = 8 };
    ssmq_gpu gpu;
    const char *reason = "";
    (void)state;
    tested_engine_needs_cuda();
    assert_true(ssmq_engine_gpus(&gpu, 1, &reason) >= 1);
    ssmq_model *model = cpu_fixture_model(&shape);
    const ssmq_spec spec = cpu_fixture_spec(model, "bf16", "all");
    ssmq_engine_extent extent = {.n_sequences = 1, .max_segment_tokens = 128};
    ssmq_engine_stats planned = {0};
    while (planned.peak_bytes < gpu.memory_bytes / PART) {
        extent.n_sequences += extent.n_sequences / PART + 1;
        assert_true(ssmq_engine_sizes("cuda", &model->shape, &spec, &extent, &planned));
    }
    print_message("  %d cycles of %lld bytes\n", CYCLES, (long long)planned.peak_bytes);
    ssmq_engine *engine = tested_engine_load(model, "bf16");
    for (int i = 0; i < CYCLES; i++) {
        ssmq_err err = {0};
        ssmq_engine_extent one = extent;
        one.n_sequences += i % 2;
        assert_ok(engine->api->reset(engine, &one, &err), &err);
        if (i % 4 != 3) continue;
        engine->api->close(engine);
        engine = tested_engine_load(model, "bf16");
    }
    engine->api->close(engine);
    ssmq_model_close(model);
}

static void times_by_stage(void **state) {
    ssmq_model *model = cpu_fixture_model(&shape);
    ssmq_engine_extent extent = {
        .n_sequences = MAX_B, .max_segment_tokens = SEGMENT, .has_stages = true};
    (void)state;
    tested_engine_needs_cuda();
    ssmq_engine *engine = tested_engine_load(model, "bf16");
    for (int i = 0; i < 2; i++) {
        int64_t sum = 0;
        /* The first call loads kernels and captures. */
        prefill(engine, &extent, SEGMENT);
        prefill(engine, &extent, SEGMENT);
        if (i == 1) decode(engine, 10);
        const ssmq_engine_stats stats = take_stats(engine);
        for (int s = 0; s < SSMQ_N_STAGES; s++) {
            print_message("  %s %lld ns\n", ssmq_stage_name((ssmq_stage)s),
                          (long long)stats.stage_ns[s]);
            assert_true(stats.stage_ns[s] >= 0);
            sum += stats.stage_ns[s];
        }
        print_message("  sum %lld ns, call %lld ns\n", (long long)sum,
                      (long long)stats.last_call_ns);
        assert_true(stats.stage_ns[SSMQ_STAGE_NORM] > 0);
        assert_true(stats.stage_ns[SSMQ_STAGE_IN_PROJ] > 0);
        assert_true(stats.stage_ns[SSMQ_STAGE_SSD] > 0);
        assert_true(stats.stage_ns[SSMQ_STAGE_OUT_PROJ] > 0);
        assert_true(stats.stage_ns[SSMQ_STAGE_HEAD] > 0);
        /* Decode takes conv and state in one kernel. */
        assert_true(i == 1 || stats.stage_ns[SSMQ_STAGE_CONV] > 0);
        assert_true(sum > 0 && (double)sum <= 1.5 * (double)stats.last_call_ns);
    }
    extent.has_stages = false;
    prefill(engine, &extent, SEGMENT);
    const ssmq_engine_stats without = take_stats(engine);
    for (int s = 0; s < SSMQ_N_STAGES; s++) assert_int_equal(without.stage_ns[s], 0);
    engine->api->close(engine);
    ssmq_model_close(model);
}

static void says_what_it_is(void **state) {
    const struct checkpoint_options options = {.V = 64};
    ssmq_model *model = cpu_fixture_model(&options);
    ssmq_engine *engine = tested_engine_load(model, "bf16");
    ssmq_engine_facts facts;
    ssmq_err err = {0};
    (void)state;
    assert_string_equal(tested_engine_api()->name, engine->api->name);
    for (int is_timed = 0; is_timed < 2; is_timed++) {
        const ssmq_engine_extent extent = {
            .n_sequences = 1, .max_segment_tokens = 128, .is_timed = is_timed != 0};
        assert_ok(engine->api->reset(engine, &extent, &err), &err);
        engine->api->describe(engine, &facts);
        assert_string_equal(facts.device, tested_engine_api()->name);
        assert_true(strlen(facts.memory_source) > 0 && strlen(facts.timer) > 0);
        if (!tested_engine_is_cuda()) continue;
        print_message("  %s, driver %s, CUDA %s, cuBLASLt %s, algorithms %s\n", facts.gpu_name,
                      facts.driver, facts.cuda, facts.cublaslt, facts.algorithms);
        assert_string_equal(facts.algorithms, is_timed != 0 ? "measured" : "fixed");
        assert_string_equal(facts.timer, "cuda events");
        assert_true(strlen(facts.gpu_name) > 0 && strlen(facts.driver) > 0);
        assert_true(strlen(facts.cuda) > 0 && strlen(facts.cublaslt) > 0);
    }
    engine->api->close(engine);
    ssmq_model_close(model);
}

int main(int argc, char **argv) {
    static const engine_check checks[] = {
        {"memory is what was planned", memory_is_what_was_planned, true},
        {"memory does not grow", memory_does_not_grow, true},
        {"memory is given back", memory_is_given_back, true},
        {"times by stage", times_by_stage, true},
        {"says what it is", says_what_it_is, true},
    };
    const int status = tested_engine_begin(argc, argv);
    if (status != 0) return status;
    return tested_engine_run("gpu_stats", checks, sizeof checks / sizeof checks[0], NULL, 0);
}
