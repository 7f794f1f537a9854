/* SPDX-License-Identifier: Apache-2.0 */
/* quant/e4m3 against two packages (tests/golden/e4m3/README.md), and against its definition in
 * fp64. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "quant/e4m3.h"
#include "support/golden_json.h"

static float from_bits(uint32_t bits) {
    float x = 0.0f;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Bit for bit, so that zeros have their signs. */
static void assert_same_float(float got, float expected) {
    uint32_t got_bits = 0, expected_bits = 0;
    memcpy(&got_bits, &got, sizeof got);
    memcpy(&expected_bits, &expected, sizeof expected);
    if (got_bits != expected_bits) fail_msg("%a instead of %a", (double)got, (double)expected);
}

static void values_of_all_codes(void **state) {
    (void)state;
    int64_t n = 0;
    ssmq_json *golden = golden_read("tests/golden/e4m3/e4m3.json");
    double *values = golden_numbers(golden, "values", &n);
    assert_true(n == 127);
    for (int code = 0; code < 127; code++) {
        const float value = (float)values[code];
        assert_same_float(ssmq_e4m3_decode((uint8_t)code), value);
        assert_same_float(ssmq_e4m3_decode((uint8_t)(code | 0x80)), -value);
        assert_int_equal(ssmq_e4m3_encode(value), code);
        assert_int_equal(ssmq_e4m3_encode(-value), code | 0x80);
    }
    assert_true(isnan(ssmq_e4m3_decode(0x7F)) && isnan(ssmq_e4m3_decode(0xFF)));
    assert_same_float(ssmq_e4m3_decode(0x7E), 448.0f);
    assert_same_float(ssmq_e4m3_decode(0x01), 0x1p-9f);
    ssmq_free(values);
    ssmq_json_free(golden);
}

static void codes_of_packages(void **state) {
    (void)state;
    int64_t n = 0, n_codes = 0;
    ssmq_json *golden = golden_read("tests/golden/e4m3/e4m3.json");
    double *bits = golden_numbers(golden, "fp32_bits", &n);
    int32_t *codes = golden_ids(golden, "codes", &n_codes);
    assert_true(n == n_codes && n > 1500);
    for (int64_t i = 0; i < n; i++) {
        const float x = from_bits((uint32_t)bits[i]);
        if (ssmq_e4m3_encode(x) != codes[i]) {
            fail_msg("%a: code %02x instead of %02x", (double)x, ssmq_e4m3_encode(x), codes[i]);
        }
        assert_same_float(ssmq_e4m3_round(x), ssmq_e4m3_decode((uint8_t)codes[i]));
    }
    ssmq_free(bits);
    ssmq_free(codes);
    ssmq_json_free(golden);
}

/* Multiples of 2^(e - 3) for |x| in [2^e, 2^(e + 1)), e at least -6. */
static float by_definition(float x) {
    int exponent = 0;
    (void)frexp((double)x, &exponent);
    const double step = ldexp(1.0, (exponent - 1 > -6 ? exponent - 1 : -6) - 3);
    const double magnitude = nearbyint(fabs((double)x) / step) * step;
    return copysignf(magnitude > 448.0 ? 448.0f : (float)magnitude, x);
}

/* Every sign, exponent and upper mantissa with lower bits below, at and above the halves. */
static void rounds_by_definition(void **state) {
    (void)state;
    static const uint32_t low[] = {0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF};
    for (uint32_t high = 0; high < 0x10000u; high++) {
        for (size_t i = 0; i < sizeof low / sizeof low[0]; i++) {
            const float x = from_bits(high << 16 | low[i]);
            const uint8_t code = ssmq_e4m3_encode(x);
            if (isnan(x)) {
                assert_true(isnan(ssmq_e4m3_round(x)) && (code & 0x7F) == 0x7F);
                continue;
            }
            const float expected = isinf(x) ? copysignf(448.0f, x) : by_definition(x);
            assert_same_float(ssmq_e4m3_round(x), expected);
            assert_same_float(ssmq_e4m3_decode(code), expected);
        }
    }
}

static void saturates(void **state) {
    (void)state;
    static const float beyond[] = {448.0f, 463.9f, 464.0f, 465.0f, 480.0f, 0x1p127f, INFINITY};
    for (size_t i = 0; i < sizeof beyond / sizeof beyond[0]; i++) {
        assert_int_equal(ssmq_e4m3_encode(beyond[i]), 0x7E);
        assert_int_equal(ssmq_e4m3_encode(-beyond[i]), 0xFE);
    }
}

static void rounds_quotients(void **state) {
    (void)state;
    const float x[] = {3.0f, -1.0f, 0.0f, 1000.0f, NAN};
    float out[5];
    ssmq_e4m3_round_scaled(x, 5, 2.0f / 3.0f, out);
    for (int i = 0; i < 4; i++) assert_same_float(out[i], ssmq_e4m3_round(x[i] / (2.0f / 3.0f)));
    assert_same_float(out[3], 448.0f);
    assert_true(isnan(out[4]));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_of_all_codes),  cmocka_unit_test(codes_of_packages),
        cmocka_unit_test(rounds_by_definition), cmocka_unit_test(saturates),
        cmocka_unit_test(rounds_quotients),
    };
    return cmocka_run_group_tests_name("e4m3", tests, NULL, NULL);
}
