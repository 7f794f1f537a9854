/* SPDX-License-Identifier: Apache-2.0 */
/* The GPU is found, and with it the type that products can be computed in. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/device.h"

enum { MAX_GPUS = 64, SKIPPED = 77 };

static void gpus_are_described(void **state) {
    ssmq_gpu gpus[MAX_GPUS];
    const char *reason = NULL;
    (void)state;
    const int n = ssmq_engine_gpus(gpus, MAX_GPUS, &reason);
    assert_in_range(n, 1, MAX_GPUS);
    assert_string_equal(reason, "");
    for (int i = 0; i < n; i++) {
        assert_true(strlen(gpus[i].name) > 0);
        assert_true(gpus[i].memory_bytes > 0);
        assert_int_equal(gpus[i].has_bf16, gpus[i].major >= 8);
    }
    assert_int_equal(ssmq_engine_gpus(gpus, 0, &reason), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(gpus_are_described)};
    ssmq_gpu gpus[MAX_GPUS];
    const char *reason = NULL;
    if (ssmq_engine_gpus(gpus, MAX_GPUS, &reason) == 0 && getenv("SSMQ_REQUIRE_GPU") == NULL) {
        print_message("skipped: no GPU: %s\n", reason);
        return SKIPPED;
    }
    return cmocka_run_group_tests_name("gpu_devices", tests, NULL, NULL);
}
