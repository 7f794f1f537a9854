/* SPDX-License-Identifier: Apache-2.0 */
#include "support/tested_engine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "engine/device.h"

enum { SKIPPED = 77, FAILED = 1, MAX_GPUS = 64 };

static const char *name = "cuda";

int tested_engine_begin(int argc, char **argv) {
    ssmq_gpu gpus[MAX_GPUS];
    const char *reason = "";
    if (argc > 1) name = argv[1];
    if (argc > 2) cmocka_set_test_filter(argv[2]);
    const bool has_device =
        !tested_engine_is_cuda() || ssmq_engine_gpus(gpus, MAX_GPUS, &reason) > 0;
    if (!has_device && getenv("SSMQ_REQUIRE_GPU") == NULL) {
        print_message("skipped: no GPU: %s\n", reason);
        return SKIPPED;
    }
    if (!has_device) {
        print_error("SSMQ_REQUIRE_GPU is set, but there is no GPU: %s\n", reason);
        return FAILED;
    }
    if (tested_engine_api() == NULL) {
        print_error("no engine '%s' in this build: %s\n", name, ssmq_engine_names());
        return FAILED;
    }
    return 0;
}

const ssmq_engine_api *tested_engine_api(void) {
    return ssmq_engine_find(name);
}

bool tested_engine_is_cuda(void) {
    return strcmp(name, "cuda") == 0;
}

void tested_engine_needs_cuda(void) {
    if (!tested_engine_is_cuda()) skip();
}

ssmq_engine *tested_engine_open(void) {
    const ssmq_engine_options options = {0};
    ssmq_engine *engine = NULL;
    ssmq_err err = {0};
    assert_ok(tested_engine_api()->open(&engine, &options, &err), &err);
    return engine;
}

ssmq_engine *tested_engine_load(const ssmq_model *model, const char *precision) {
    const ssmq_spec spec = cpu_fixture_spec(model, precision, "all");
    ssmq_engine *engine = tested_engine_open();
    ssmq_err err = {0};
    assert_ok(engine->api->load(engine, model, &spec, &err), &err);
    return engine;
}

scored scored_run(ssmq_engine *engine, const ssmq_model *model, const cpu_run *run) {
    scored s = {.B = run->B, .T = run->T, .V = model->shape.V};
    assert_int_equal(ssmq_calloc(&s.nll, (size_t)(s.B * s.T), sizeof *s.nll, NULL), SSMQ_OK);
    assert_int_equal(ssmq_calloc(&s.logits, (size_t)(s.B * s.V), sizeof *s.logits, NULL), SSMQ_OK);
    cpu_fixture_score(engine, run, s.nll, s.logits);
    /* Buffers that nobody wrote would agree with one another. */
    assert_true(s.nll[0] > 0.0f && s.nll[s.B * s.T - 1] > 0.0f && s.logits[0] != 0.0f);
    return s;
}

void scored_free(scored *s) {
    ssmq_free(s->nll);
    ssmq_free(s->logits);
    *s = (scored){0};
}

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

void assert_same_bits(const float *a, const float *b, int64_t n, const char *what) {
    if (memcmp(a, b, (size_t)n * sizeof *a) == 0) return;
    int64_t first = -1, n_different = 0;
    for (int64_t i = 0; i < n; i++) {
        if (bits_of(a[i]) == bits_of(b[i])) continue;
        if (first < 0) first = i;
        n_different++;
    }
    fail_msg("%s: %lld of %lld numbers differ, the first at %lld: %.9g and %.9g", what,
             (long long)n_different, (long long)n, (long long)first, (double)a[first],
             (double)b[first]);
}

void assert_same_scored(const scored *a, const scored *b, const char *what) {
    char place[256];
    assert_true(a->B == b->B && a->T == b->T && a->V == b->V);
    (void)snprintf(place, sizeof place, "%s, nll", what);
    assert_same_bits(a->nll, b->nll, a->B * a->T, place);
    (void)snprintf(place, sizeof place, "%s, logits", what);
    assert_same_bits(a->logits, b->logits, a->B * a->V, place);
}

const struct checkpoint_options tested_engine_shapes[TESTED_ENGINE_SHAPES] = {
    {.d = 30, .P = 5, .H = 9, .N = 7, .G = 3, .V = 33, .has_bias = true, .seed = "any sizes"},
    {.d = 128, .P = 64, .N = 128, .V = 300, .seed = "tensor cores"},
    {.d = 128,
     .P = 64,
     .N = 64,
     .G = 2,
     .V = 333,
     .has_bias = true,
     .head = CHECKPOINT_UNTIED,
     .seed = "groups"},
};

static int open_case(void **state) {
    engine_case *c = *state;
    c->model = cpu_fixture_model(c->shape);
    return 0;
}

static int close_case(void **state) {
    engine_case *c = *state;
    ssmq_model_close(c->model);
    c->model = NULL;
    return 0;
}

static const char *const precisions[] = {"fp32", "fp16", "bf16"};
enum { N_PRECISIONS = sizeof precisions / sizeof precisions[0], MAX_TESTS = 256, NAME_BYTES = 128 };

int tested_engine_run(const char *group, const engine_check *checks, int n_checks,
                      const struct checkpoint_options *shapes, int n_shapes) {
    static struct CMUnitTest tests[MAX_TESTS];
    static engine_case cases[MAX_TESTS];
    static char names[MAX_TESTS][NAME_BYTES];
    int n = 0;
    for (int i = 0; i < n_checks; i++) {
        const int n_cases = checks[i].is_single ? 1 : n_shapes * N_PRECISIONS;
        for (int k = 0; k < n_cases && n < MAX_TESTS; k++, n++) {
            tests[n] = (struct CMUnitTest){.name = checks[i].name, .test_func = checks[i].run};
            if (checks[i].is_single) continue;
            cases[n] = (engine_case){.shape = &shapes[k / N_PRECISIONS],
                                     .precision = precisions[k % N_PRECISIONS]};
            (void)snprintf(names[n], NAME_BYTES, "%s (%s, %s)", checks[i].name,
                           cases[n].shape->seed, cases[n].precision);
            tests[n].name = names[n];
            tests[n].setup_func = open_case;
            tests[n].teardown_func = close_case;
            tests[n].initial_state = &cases[n];
        }
    }
    if (n == MAX_TESTS) {
        print_error("%s: too many tests\n", group);
        return FAILED;
    }
    /* The macros around this function count the tests at compile time. */
    return _cmocka_run_group_tests(group, tests, (size_t)n, NULL, NULL);
}
