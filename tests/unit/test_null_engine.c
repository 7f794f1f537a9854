/* SPDX-License-Identifier: Apache-2.0 */
/* engine/null: numbers that depend on tokens alone, every fault of the script, and scripts that
 * are none. */
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "engine/null/null.h"
#include "support/trial_fixture.h"

enum { T = 24, V = 4096 };

static ssmq_status reset(ssmq_engine *engine, int64_t B, ssmq_err *err) {
    const ssmq_engine_extent extent = {.n_sequences = B, .max_segment_tokens = 16};
    return engine->api->reset(engine, &extent, err);
}

static ssmq_status prefill(ssmq_engine *engine, const int32_t *ids, int64_t n, ssmq_err *err) {
    const ssmq_prefill call = {.tokens = ids, .n_tokens = n};
    return engine->api->prefill(engine, &call, err);
}

/* NLLs of ids[1..T) and logits after the last, in pieces of `piece` tokens. */
static void run_alone(ssmq_engine *engine, const int32_t *ids, int64_t piece, float *nll,
                      float *logits) {
    int32_t targets[T];
    for (int i = 0; i < T; i++) targets[i] = i + 1 < T ? ids[i + 1] : -1;
    assert_int_equal(reset(engine, 1, NULL), SSMQ_OK);
    for (int64_t at = 0; at < T; at += piece) {
        const int64_t n = piece < T - at ? piece : T - at;
        const ssmq_prefill call = {.tokens = ids + at,
                                   .n_tokens = n,
                                   .targets = targets + at,
                                   .nll = nll + at,
                                   .logits = at + n == T ? logits : NULL};
        assert_int_equal(engine->api->prefill(engine, &call, NULL), SSMQ_OK);
    }
}

static void numbers_depend_on_tokens_alone(void **state) {
    (void)state;
    ssmq_engine *engine = fixture_engine(NULL, "fp32");
    int32_t ids[3 * T], targets[3 * T];
    static float nll[3 * T], logits[3 * V], one_nll[T], one_logits[V];
    fixture_ids(ids, sizeof ids / sizeof ids[0], 11);
    for (int i = 0; i < 3 * T; i++) targets[i] = i % T + 1 < T ? ids[i + 1] : -1;
    assert_int_equal(reset(engine, 3, NULL), SSMQ_OK);
    const ssmq_prefill call = {
        .tokens = ids, .n_tokens = T, .targets = targets, .nll = nll, .logits = logits};
    assert_int_equal(engine->api->prefill(engine, &call, NULL), SSMQ_OK);
    for (int64_t b = 0; b < 3; b++) {
        for (int64_t piece = 1; piece <= T; piece += 5) {
            run_alone(engine, ids + b * T, piece, one_nll, one_logits);
            assert_memory_equal(one_nll, nll + b * T, sizeof one_nll);
            assert_memory_equal(one_logits, logits + b * V, sizeof one_logits);
        }
        assert_true(nll[b * T] >= 1 && nll[b * T] < 5);
        assert_true(nll[b * T + T - 1] == 0);
    }
    assert_memory_not_equal(nll, nll + T, sizeof one_nll);
    engine->api->close(engine);
}

/* A state that is read and written elsewhere goes on there; layers differ, and both sequences do.
 */
static void state_moves_between_engines(void **state) {
    (void)state;
    enum { SSM = 2 * 8 * 4, CONV = 3 * 24 };
    ssmq_engine *from = fixture_engine(NULL, "fp32"), *to = fixture_engine(NULL, "bf16");
    int32_t ids[2 * T];
    float ssm[2][2 * SSM], conv[2][2 * CONV], again[2 * SSM];
    static float logits[2][2 * V];
    fixture_ids(ids, 2 * T, 13);
    const ssmq_prefill whole = {.tokens = ids, .n_tokens = T, .logits = logits[0]};
    assert_int_equal(reset(from, 2, NULL), SSMQ_OK);
    assert_int_equal(from->api->prefill(from, &whole, NULL), SSMQ_OK);
    for (int64_t i = 0; i < 2; i++) {
        assert_int_equal(from->api->read_state(from, i, ssm[i], conv[i], NULL), SSMQ_OK);
    }
    assert_memory_not_equal(ssm[0], ssm[1], sizeof ssm[0]);
    assert_memory_not_equal(ssm[0], ssm[0] + SSM, SSM * sizeof ssm[0][0]);
    assert_memory_not_equal(conv[0], conv[1], sizeof conv[0]);
    assert_int_equal(reset(to, 2, NULL), SSMQ_OK);
    for (int64_t i = 0; i < 2; i++) {
        assert_int_equal(to->api->write_state(to, i, T, ssm[i], conv[i], NULL), SSMQ_OK);
        assert_int_equal(to->api->read_state(to, i, again, conv[i], NULL), SSMQ_OK);
        assert_memory_equal(ssm[i], again, sizeof again);
    }
    assert_int_equal(from->api->prefill(from, &whole, NULL), SSMQ_OK);
    ssmq_prefill other = whole;
    other.logits = logits[1];
    assert_int_equal(to->api->prefill(to, &other, NULL), SSMQ_OK);
    assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
    assert_int_equal(to->api->read_state(to, 2, again, conv[0], NULL), SSMQ_INTERNAL);
    again[0] = -1.0f;
    assert_int_equal(to->api->write_state(to, 0, T, again, conv[0], NULL), SSMQ_INTERNAL);
    from->api->close(from);
    to->api->close(to);
}

static void decode_agrees_with_prefill(void **state) {
    (void)state;
    ssmq_engine *engine = fixture_engine(NULL, "fp32");
    int32_t ids[T], argmax[T];
    static float nll[T], logits[V], forced_nll[T], last[V];
    fixture_ids(ids, T, 12);
    run_alone(engine, ids, T, nll, logits);
    assert_int_equal(reset(engine, 1, NULL), SSMQ_OK);
    int64_t step_ns[T];
    ssmq_decode call = {.first = ids,
                        .n_steps = T,
                        .forced = ids + 1,
                        .argmax = argmax,
                        .nll = forced_nll,
                        .logits = last,
                        .step_ns = step_ns};
    /* One step more would read past the ids. */
    call.n_steps = T - 1;
    assert_int_equal(engine->api->decode(engine, &call, NULL), SSMQ_OK);
    assert_memory_equal(forced_nll, nll, (T - 1) * sizeof *nll);
    ssmq_decode one = {.first = ids + T - 1, .n_steps = 1, .argmax = argmax, .logits = last};
    assert_int_equal(engine->api->decode(engine, &one, NULL), SSMQ_OK);
    assert_memory_equal(last, logits, sizeof last);
    int32_t best = 0;
    for (int32_t v = 1; v < V; v++) {
        if (last[v] > last[best]) best = v;
    }
    assert_int_equal(argmax[0], best);
    /* Free running feeds the argmax. */
    int32_t greedy[2], again[1];
    ssmq_decode free_run = {.first = ids, .n_steps = 2, .argmax = greedy};
    assert_int_equal(reset(engine, 1, NULL), SSMQ_OK);
    assert_int_equal(engine->api->decode(engine, &free_run, NULL), SSMQ_OK);
    assert_int_equal(reset(engine, 1, NULL), SSMQ_OK);
    assert_int_equal(prefill(engine, ids, 1, NULL), SSMQ_OK);
    one.first = greedy;
    one.argmax = again;
    assert_int_equal(engine->api->decode(engine, &one, NULL), SSMQ_OK);
    assert_int_equal(again[0], greedy[1]);
    engine->api->close(engine);
}

/* Runs resets and prefills of 8 tokens until one fails: the reset's number and tokens reached. */
typedef struct failure {
    ssmq_status status;
    int n_resets;
    int64_t n_tokens; /* -1: the reset itself failed */
    char text[SSMQ_ERR_TEXT_BYTES];
} failure;

static failure first_failure(const char *script, const char *precision) {
    ssmq_engine *engine = fixture_engine(script, precision);
    failure f = {.n_tokens = -1};
    ssmq_err err = {0};
    int32_t ids[8];
    fixture_ids(ids, 8, 13);
    for (f.n_resets = 1; f.n_resets <= 4 && f.status == SSMQ_OK; f.n_resets++) {
        f.n_tokens = -1;
        f.status = reset(engine, 1, &err);
        for (int64_t n = 8; n <= 64 && f.status == SSMQ_OK; n += 8) {
            f.status = prefill(engine, ids, 8, &err);
            f.n_tokens = n;
        }
    }
    f.n_resets--;
    memcpy(f.text, err.text, sizeof f.text);
    engine->api->close(engine);
    return f;
}

static void faults_strike_where_they_should(void **state) {
    (void)state;
    static const struct {
        const char *script, *precision;
        ssmq_status status;
        int n_resets;
        int64_t n_tokens;
        const char *text;
    } cases[] = {
        {"oom", "fp32", SSMQ_NOMEM, 1, -1, "null script: out of memory at 0 tokens"},
        {"oom@reset=3", "fp32", SSMQ_NOMEM, 3, -1, "null script: out of memory at 0 tokens"},
        {"oom@context=20", "fp32", SSMQ_NOMEM, 1, 24, "null script: out of memory at 24 tokens"},
        {"oom@context>=33@reset=2", "fp32", SSMQ_NOMEM, 2, 40,
         "null script: out of memory at 40 tokens"},
        {"nan@context>=16", "bf16", SSMQ_NUMERIC, 1, 16, "null script: NaN in layer 0 at token 16"},
        {"nan@reset=2", "bf16", SSMQ_NUMERIC, 2, 8, "null script: NaN in layer 0 at token 8"},
        {"device@reset=2", "fp32", SSMQ_DEVICE, 2, -1, "null script: device error"},
        {"poison@reset=2", "fp32", SSMQ_DEVICE, 2, -1, "null script: device lost"},
        {"delay:1us,device@precision=w4a4", "w4a4", SSMQ_DEVICE, 1, -1,
         "null script: device error"},
        {"device@precision=w4a4", "w8a8", SSMQ_OK, 4, 64, ""},
        {"oom@context=65", "fp32", SSMQ_OK, 4, 64, ""},
        {"", "fp32", SSMQ_OK, 4, 64, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const failure f = first_failure(cases[i].script, cases[i].precision);
        assert_int_equal(f.status, cases[i].status);
        assert_int_equal(f.n_resets, cases[i].n_resets);
        assert_int_equal(f.n_tokens, cases[i].n_tokens);
        assert_string_equal(f.text, cases[i].text);
    }
}

static void skip_is_told_before_loading(void **state) {
    (void)state;
    ssmq_engine *engine = fixture_engine("skip@precision=w4a4", "fp32");
    const ssmq_precision w4a4 = fixture_precision("w4a4"), w8a8 = fixture_precision("w8a8");
    const ssmq_shape *shape = &fixture_model.shape;
    ssmq_spec spec;
    ssmq_err err = {0};
    assert_int_equal(ssmq_spec_init(&spec, &w8a8, "all", shape, NULL), SSMQ_OK);
    assert_int_equal(engine->api->supports(engine, shape, &spec, &err), SSMQ_OK);
    assert_int_equal(ssmq_spec_init(&spec, &w4a4, "all", shape, NULL), SSMQ_OK);
    assert_int_equal(engine->api->supports(engine, shape, &spec, &err), SSMQ_SKIP);
    assert_string_equal(err.text, "null script: precision w4a4 is skipped");
    assert_int_equal(engine->api->load(engine, &fixture_model, &spec, NULL), SSMQ_SKIP);
    engine->api->close(engine);
    ssmq_engine_null.close(NULL);
}

static void poison_lasts_and_device_errors_do_not(void **state) {
    (void)state;
    ssmq_engine *engine = fixture_engine("device@reset=1,poison@reset=3", "fp32");
    int32_t id = 1;
    assert_int_equal(reset(engine, 1, NULL), SSMQ_DEVICE);
    assert_true(engine->api->alive(engine));
    assert_int_equal(reset(engine, 1, NULL), SSMQ_OK);
    assert_int_equal(prefill(engine, &id, 1, NULL), SSMQ_OK);
    assert_int_equal(reset(engine, 1, NULL), SSMQ_DEVICE);
    assert_false(engine->api->alive(engine));
    ssmq_err err = {0};
    assert_int_equal(prefill(engine, &id, 1, &err), SSMQ_DEVICE);
    assert_string_equal(err.text, "null script: the device was lost earlier");
    ssmq_err_clear(&err);
    assert_int_equal(reset(engine, 1, &err), SSMQ_DEVICE);
    assert_string_equal(err.text, "null script: the device was lost earlier");
    engine->api->close(engine);
}

static void delay_takes_its_time(void **state) {
    (void)state;
    ssmq_engine *engine = fixture_engine("delay:20ms@context>=2", "fp32");
    const int32_t ids[2] = {1, 2};
    ssmq_engine_stats stats;
    assert_int_equal(reset(engine, 1, NULL), SSMQ_OK);
    const int64_t start_ns = ssmq_now_ns();
    assert_int_equal(prefill(engine, ids, 2, NULL), SSMQ_OK);
    assert_true(ssmq_now_ns() - start_ns >= 20000000);
    engine->api->take_stats(engine, &stats);
    assert_true(stats.last_call_ns >= 20000000);
    assert_int_equal(stats.sm_clock_mhz, -1);
    assert_int_equal(stats.memory_clock_mhz, -1);
    assert_int_equal(stats.temperature_c, -1);
    assert_int_equal(stats.throttle_reasons, -1);
    assert_true(stats.peak_bytes ==
                stats.weight_bytes + stats.state_bytes + stats.activation_bytes);
    engine->api->close(engine);
}

static void infinities_come_without_an_error(void **state) {
    (void)state;
    ssmq_engine *engine = fixture_engine("inf@reset=1", "fp32");
    const int32_t ids[2] = {1, 2};
    static float logits[V];
    float nll[2];
    const ssmq_prefill call = {
        .tokens = ids, .n_tokens = 2, .targets = ids, .nll = nll, .logits = logits};
    assert_int_equal(reset(engine, 1, NULL), SSMQ_OK);
    assert_int_equal(engine->api->prefill(engine, &call, NULL), SSMQ_OK);
    assert_true(isinf(nll[0]) && isinf(nll[1]) && isinf(logits[7]));
    assert_int_equal(reset(engine, 1, NULL), SSMQ_OK);
    assert_int_equal(engine->api->prefill(engine, &call, NULL), SSMQ_OK);
    assert_true(isfinite(nll[0]) && isfinite(nll[1]) && isfinite(logits[7]));
    engine->api->close(engine);
}

/* How a process ends whose second reset runs this script. */
static int end_of_process(const char *script) {
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const struct rlimit none = {0, 0};
        (void)setrlimit(RLIMIT_CORE, &none);
        (void)signal(SIGSEGV, SIG_DFL);
        ssmq_engine *engine = fixture_engine(script, "fp32");
        if (reset(engine, 1, NULL) != SSMQ_OK) _exit(97);
        (void)alarm(1);
        (void)reset(engine, 1, NULL);
        _exit(98);
    }
    int end = 0;
    assert_int_equal(waitpid(child, &end, 0), child);
    return end;
}

static void crashes_are_real(void **state) {
    (void)state;
    int end = end_of_process("kill@reset=2");
    assert_true(WIFSIGNALED(end) && WTERMSIG(end) == SIGKILL);
    end = end_of_process("segv@reset=2");
    assert_true(WIFSIGNALED(end) && WTERMSIG(end) == SIGSEGV);
    end = end_of_process("exit@reset=2");
    assert_true(WIFEXITED(end) && WEXITSTATUS(end) == 1);
    /* Still there when the alarm rings. */
    end = end_of_process("hang@reset=2");
    assert_true(WIFSIGNALED(end) && WTERMSIG(end) == SIGALRM);
}

#define ALLOWED                                                                                    \
    "' is not a fault; allowed is a comma-separated list of KIND[@CONDITION...], KIND one of "     \
    "skip, oom, nan, inf, device, poison, delay:TIME (us, ms or s), hang, kill, segv, exit, "      \
    "CONDITION one of reset=N, context=N, context>=N, precision=NAME"

static void scripts_that_are_none_are_refused(void **state) {
    (void)state;
    static const char *const wrong[] = {
        "boom",           "oom:3",       "delay",        "delay:5",
        "delay:-1ms",     "delay:2h",    "delay:1e9s",   "oom@",
        "oom@reset",      "oom@reset=0", "oom@reset=-1", "oom@reset=1x",
        "oom@context>5",  "oom@rank=3",  "skip@reset=1", "skip@context=9",
        "oom@precision=", ",",           "oom,",         "oom@reset=99999999999999999999",
    };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        const ssmq_engine_options options = {.script = wrong[i]};
        ssmq_engine *engine = (ssmq_engine *)&options;
        ssmq_err err = {0};
        assert_int_equal(ssmq_engine_null.open(&engine, &options, &err), SSMQ_CONFIG);
        assert_null(engine);
        assert_non_null(strstr(err.text, "' is not a fault; allowed is a comma-separated list"));
    }
    const ssmq_engine_options options = {.script = "oom@reset=2,boom@reset=1"};
    ssmq_engine *engine = NULL;
    ssmq_err err = {0};
    assert_int_equal(ssmq_engine_null.open(&engine, &options, &err), SSMQ_CONFIG);
    assert_string_equal(err.text, "null script: 'boom@reset=1" ALLOWED);
    const ssmq_engine_options many = {.script = "oom,oom,oom,oom,oom,oom,oom,oom,oom,oom,oom,oom,"
                                                "oom,oom,oom,oom,oom"};
    ssmq_err_clear(&err);
    assert_int_equal(ssmq_engine_null.open(&engine, &many, &err), SSMQ_CONFIG);
    assert_string_equal(err.text, "null script: more than 16 faults");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(numbers_depend_on_tokens_alone),
        cmocka_unit_test(state_moves_between_engines),
        cmocka_unit_test(decode_agrees_with_prefill),
        cmocka_unit_test(faults_strike_where_they_should),
        cmocka_unit_test(skip_is_told_before_loading),
        cmocka_unit_test(poison_lasts_and_device_errors_do_not),
        cmocka_unit_test(delay_takes_its_time),
        cmocka_unit_test(infinities_come_without_an_error),
        cmocka_unit_test(crashes_are_real),
        cmocka_unit_test(scripts_that_are_none_are_refused),
    };
    return cmocka_run_group_tests_name("null_engine", tests, NULL, NULL);
}
