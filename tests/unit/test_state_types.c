/* SPDX-License-Identifier: Apache-2.0 */
/* Types of the recurrent state in a configuration: names, faults, and what is written back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "config/config.h"

static ssmq_status read_set(const char *set, ssmq_config *config, ssmq_str *faults) {
    const ssmq_config_sources sources = {.sets = &set, .n_sets = 1};
    ssmq_err err = {0};
    return ssmq_config_read(config, &sources, faults, &err);
}

static void types_are_read_and_written(void **state) {
    static const char set[] =
        "sweep.precisions=[{w_bits: 8, a_bits: 8, state_dtype: int8}, {dtype: fp32, state_dtype: "
        "fp8_e4m3, state_rounding: stochastic}, {dtype: fp32, state_dtype: fp16, name: mine}]";
    ssmq_config config;
    ssmq_str text;
    ssmq_err err = {0};
    (void)state;
    ssmq_str_init(&text, 1 << 16);
    assert_int_equal(read_set(set, &config, &text), SSMQ_OK);
    const ssmq_precision *p = config.sweep.precisions;
    assert_string_equal(p[0].name, "w8a8/int8");
    assert_int_equal(p[0].state_dtype, SSMQ_F32);
    assert_int_equal(p[0].state_format, SSMQ_FORMAT_INT8);
    assert_string_equal(ssmq_precision_state_name(&p[0]), "int8");
    assert_string_equal(ssmq_precision_state_rounding(&p[0]), "nearest");
    assert_string_equal(p[1].name, "fp32/fp8_e4m3-sr");
    assert_int_equal(p[1].state_format, SSMQ_FORMAT_FP8_E4M3);
    assert_string_equal(ssmq_precision_state_rounding(&p[1]), "stochastic");
    assert_int_equal(p[2].state_dtype, SSMQ_F16);
    assert_string_equal(ssmq_precision_state_name(&p[2]), "fp16");
    assert_true(ssmq_precision_rounds_state(&p[1]) && ssmq_precision_rounds_state(&p[2]));
    ssmq_str_clear(&text);
    assert_int_equal(ssmq_config_write(&config, true, &text, &err), SSMQ_OK);
    assert_non_null(strstr(ssmq_str_get(&text), "group_size: 0, state_dtype: int8}\n"));
    assert_non_null(
        strstr(ssmq_str_get(&text), "state_dtype: fp8_e4m3, state_rounding: stochastic}\n"));
    ssmq_str_free(&text);
}

static void faults_say_what_is_allowed(void **state) {
    static const struct {
        const char *set, *fault;
    } cases[] = {
        {"sweep.precisions=[{state_dtype: int3}]",
         "sweep.precisions.state_dtype: \"int3\" is unknown; fp32 | fp16 | bf16 | int8 | int4 | "
         "fp8_e4m3\n"},
        {"sweep.precisions=[{state_dtype: float}]",
         "sweep.precisions.state_dtype: \"float\" is unknown; fp32 | fp16 | bf16 | int8 | int4 | "
         "fp8_e4m3\n"},
        {"sweep.precisions=[{state_rounding: up, state_dtype: int8}]",
         "sweep.precisions.state_rounding: \"up\" is unknown; nearest | stochastic\n"},
        {"sweep.precisions=[{state_rounding: stochastic}]",
         "sweep.precisions.state_rounding: a state in fp32 is not rounded; fp32 | fp16 | bf16 | "
         "int8 | int4 | fp8_e4m3\n"},
        {"drift.context_length=127",
         "drift.context_length: \"127\" is out of range; an integer from "
         "128 to 16777216\n"},
        {"drift.path=both", "drift.path: \"both\" is unknown; prefill | decode\n"},
        {"drift.impulse=1.5", "drift.impulse: \"1.5\" is out of range; a number from 0 to 1\n"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ssmq_config config;
        ssmq_str faults;
        ssmq_str_init(&faults, 1 << 16);
        assert_int_equal(read_set(cases[i].set, &config, &faults), SSMQ_CONFIG);
        const char *text = strstr(ssmq_str_get(&faults), ": ");
        assert_non_null(text);
        assert_string_equal(text + 2, cases[i].fault);
        ssmq_str_free(&faults);
    }
}

/* An impulse begins at a step, and there is one before the last from 256 tokens on. */
static void impulses_need_two_steps(void **state) {
    static const char *const contexts[] = {"drift.context_length=255", "drift.context_length=256"};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        const char *const sets[] = {"drift.impulse=0.01", contexts[i]};
        const ssmq_config_sources sources = {.sets = sets, .n_sets = 2};
        ssmq_config config;
        ssmq_str faults;
        ssmq_err err = {0};
        ssmq_str_init(&faults, 1 << 16);
        assert_int_equal(ssmq_config_read(&config, &sources, &faults, &err),
                         i == 0 ? SSMQ_CONFIG : SSMQ_OK);
        const char *text = strstr(ssmq_str_get(&faults), ": ");
        if (i == 0) {
            assert_string_equal(text, ": drift.impulse: needs a drift.context_length of at least "
                                      "256\n");
        }
        ssmq_str_free(&faults);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(types_are_read_and_written),
        cmocka_unit_test(faults_say_what_is_allowed),
        cmocka_unit_test(impulses_need_two_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
