/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/nvml: against a library of that name whose answers are known (LD_LIBRARY_PATH). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/cuda/nvml.h"

#define BUS_ID "0000:1B:00.0"

static void assert_stats(const cuda_nvml *nvml, int sm, int memory, int temperature, int reasons) {
    ssmq_engine_stats stats;
    memset(&stats, 7, sizeof stats);
    const int64_t untouched = stats.last_call_ns;
    cuda_nvml_read(nvml, &stats);
    assert_int_equal(stats.sm_clock_mhz, sm);
    assert_int_equal(stats.memory_clock_mhz, memory);
    assert_int_equal(stats.temperature_c, temperature);
    assert_int_equal(stats.throttle_reasons, reasons);
    assert_int_equal(stats.last_call_ns, untouched);
}

static cuda_nvml *open_with(const char *failing, const char *bus_id) {
    assert_int_equal(setenv("FAKE_NVML", failing, 1), 0);
    return cuda_nvml_open(bus_id);
}

static void a_gpu_is_read(void **state) {
    (void)state;
    char driver[32];
    /* Twice: closing leaves nothing open. */
    for (int i = 0; i < 2; i++) {
        cuda_nvml *nvml = open_with("", BUS_ID);
        assert_non_null(nvml);
        assert_stats(nvml, 1980, 2619, 47, 0x44);
        assert_true(cuda_nvml_driver(nvml, driver, sizeof driver));
        assert_string_equal(driver, "580.82.07");
        cuda_nvml_close(nvml);
    }
}

static void what_fails_is_unknown(void **state) {
    (void)state;
    static const struct {
        const char *failing;
        int sm, memory, temperature, reasons;
    } cases[] = {{"clock", -1, -1, 47, 0x44},
                 {"temperature", 1980, 2619, -1, 0x44},
                 {"reasons", 1980, 2619, 47, -1},
                 {"version", 1980, 2619, 47, 0x44}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char driver[32] = "before";
        cuda_nvml *nvml = open_with(cases[i].failing, BUS_ID);
        assert_non_null(nvml);
        assert_stats(nvml, cases[i].sm, cases[i].memory, cases[i].temperature, cases[i].reasons);
        const bool has_version = strcmp(cases[i].failing, "version") != 0;
        assert_int_equal(cuda_nvml_driver(nvml, driver, sizeof driver), has_version);
        assert_string_equal(driver, has_version ? "580.82.07" : "");
        cuda_nvml_close(nvml);
    }
}

static void an_unknown_device_has_a_driver(void **state) {
    (void)state;
    char driver[4];
    cuda_nvml *nvml = open_with("", "0000:00:00.0");
    assert_non_null(nvml);
    assert_stats(nvml, -1, -1, -1, -1);
    assert_true(cuda_nvml_driver(nvml, driver, sizeof driver));
    assert_string_equal(driver, "580");
    cuda_nvml_close(nvml);
}

static void without_nvml_all_is_unknown(void **state) {
    (void)state;
    char driver[32] = "before";
    assert_null(open_with("init", BUS_ID));
    assert_stats(NULL, -1, -1, -1, -1);
    assert_false(cuda_nvml_driver(NULL, driver, sizeof driver));
    assert_string_equal(driver, "");
    cuda_nvml_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_gpu_is_read),
        cmocka_unit_test(what_fails_is_unknown),
        cmocka_unit_test(an_unknown_device_has_a_driver),
        cmocka_unit_test(without_nvml_all_is_unknown),
    };
    return cmocka_run_group_tests_name("nvml", tests, NULL, NULL);
}
