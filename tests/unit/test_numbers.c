/* SPDX-License-Identifier: Apache-2.0 */
/* model/numbers.c against formulas with ldexp and nearbyint, over all 16-bit patterns. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "model/model.h"

static float from_bits(uint32_t bits) {
    float x = 0;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* IEEE 754 value of a binary16 pattern. */
static double f16_value(uint16_t bits) {
    int exponent = bits >> 10 & 31;
    double fraction = bits & 1023;
    double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
    if (exponent == 31) return fraction != 0.0 ? (double)NAN : sign * INFINITY;
    if (exponent == 0) return sign * ldexp(fraction, -24);
    return sign * ldexp(1024.0 + fraction, exponent - 25);
}

/* Rounds to a format by its precision, smallest exponent and largest finite value, in fp64. */
static double rounded(double x, int precision, int min_exponent, double largest) {
    if (x == 0.0 || isinf(x) || isnan(x)) return x;
    int exponent = 0;
    (void)frexp(x, &exponent);
    exponent--;
    if (exponent < min_exponent) exponent = min_exponent;
    double unit = ldexp(1.0, exponent - precision + 1);
    double result = nearbyint(x / unit) * unit;
    if (fabs(result) > largest) return copysign(INFINITY, x);
    return copysign(result, x);
}

static void check_same(double got, double expected) {
    if (isnan(expected)) {
        assert_true(isnan(got));
        return;
    }
    assert_true(got == expected);
    assert_true(signbit(got) == signbit(expected));
}

static void every_f16(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 65536; i++) {
        uint16_t bits = (uint16_t)i;
        float x = ssmq_f32_from_f16(bits);
        check_same((double)x, f16_value(bits));
        if (isnan(x)) {
            assert_true(isnan(ssmq_f32_from_f16(ssmq_f16_from_f32(x))));
        } else {
            assert_int_equal(ssmq_f16_from_f32(x), bits);
        }
    }
}

static void every_bf16(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 65536; i++) {
        uint16_t bits = (uint16_t)i;
        float x = ssmq_f32_from_bf16(bits);
        int exponent = bits >> 7 & 255;
        double fraction = bits & 127;
        double sign = (bits & 0x8000) != 0 ? -1.0 : 1.0;
        double expected = exponent == 255 ? (fraction != 0.0 ? (double)NAN : INFINITY)
                          : exponent == 0 ? ldexp(fraction, -133)
                                          : ldexp(128.0 + fraction, exponent - 134);
        check_same((double)x, sign * expected);
        if (isnan(x)) {
            assert_true(isnan(ssmq_f32_from_bf16(ssmq_bf16_from_f32(x))));
        } else {
            assert_int_equal(ssmq_bf16_from_f32(x), bits);
        }
    }
}

static void check_rounding(float x) {
    const double f16_largest = 65504.0;
    const double bf16_largest = ldexp(255.0, 120);
    check_same((double)ssmq_round_to(x, SSMQ_F16), rounded((double)x, 11, -14, f16_largest));
    check_same((double)ssmq_round_to(x, SSMQ_BF16), rounded((double)x, 8, -126, bf16_largest));
    check_same((double)ssmq_round_to(x, SSMQ_F32), (double)x);
}

/* Ties between neighbours, and the numbers next to the ties, for every 16-bit value. */
static void ties_go_to_even(void **state) {
    (void)state;
    for (uint32_t i = 0; i < 65535; i++) {
        float low = ssmq_f32_from_f16((uint16_t)i);
        float high = ssmq_f32_from_f16((uint16_t)(i + 1));
        if (isfinite(low) && isfinite(high)) {
            float tie = (float)(((double)low + (double)high) / 2.0);
            check_rounding(tie);
            check_rounding(nextafterf(tie, INFINITY));
            check_rounding(nextafterf(tie, -INFINITY));
        }
        check_rounding(from_bits(i << 16 | 0x8000u));
        check_rounding(from_bits(i << 16 | 0x7FFFu));
        check_rounding(from_bits(i << 16 | 0x8001u));
    }
    assert_int_equal(ssmq_bf16_from_f32(from_bits(0x3F808000u)), 0x3F80);
    assert_int_equal(ssmq_bf16_from_f32(from_bits(0x3F818000u)), 0x3F82);
    assert_int_equal(ssmq_f16_from_f32(2049.0f), 0x6800);
    assert_int_equal(ssmq_f16_from_f32(2051.0f), 0x6802);
}

static void edges(void **state) {
    (void)state;
    assert_int_equal(ssmq_f16_from_f32(65519.996f), 0x7BFF);
    assert_int_equal(ssmq_f16_from_f32(65520.0f), 0x7C00);
    assert_int_equal(ssmq_f16_from_f32(-1e30f), 0xFC00);
    assert_int_equal(ssmq_f16_from_f32(0x1p-25f), 0);
    assert_int_equal(ssmq_f16_from_f32(nextafterf(0x1p-25f, 1.0f)), 1);
    assert_int_equal(ssmq_f16_from_f32(-0.0f), 0x8000);
    assert_int_equal(ssmq_bf16_from_f32(from_bits(0x7F7FFFFFu)), 0x7F80);
    assert_int_equal(ssmq_bf16_from_f32(-INFINITY), 0xFF80);
    /* A NaN whose payload would vanish with the low bits. */
    assert_true(isnan(ssmq_round_to(from_bits(0x7F800001u), SSMQ_BF16)));
    assert_true(isnan(ssmq_round_to(from_bits(0xFF800001u), SSMQ_F16)));
    ssmq_rng rng = ssmq_rng_from_text("numbers");
    for (int i = 0; i < 300000; i++) check_rounding(from_bits((uint32_t)ssmq_rng_u64(&rng)));
}

static void tensors_upcast(void **state) {
    (void)state;
    unsigned char bytes[13] = {0xFF};
    const float numbers[3] = {1.5f, -2.0f, 0x1p-20f};
    float out[3] = {0};
    memcpy(bytes + 1, numbers, sizeof numbers);
    ssmq_tensor tensor = {.bytes = bytes + 1, .rows = 1, .columns = 3, .dtype = SSMQ_F32};
    ssmq_tensor_f32(&tensor, 1, 2, out);
    assert_true(out[0] == -2.0f && out[1] == 0x1p-20f);
    const uint16_t halves[3] = {0x3E00, 0xC000, 0x0010};
    memcpy(bytes + 1, halves, sizeof halves);
    tensor.dtype = SSMQ_F16;
    ssmq_tensor_f32(&tensor, 0, 3, out);
    assert_memory_equal(out, numbers, sizeof numbers);
    const uint16_t brains[3] = {0x3FC0, 0xC000, 0x3580};
    memcpy(bytes + 1, brains, sizeof brains);
    tensor.dtype = SSMQ_BF16;
    ssmq_tensor_f32(&tensor, 0, 3, out);
    assert_memory_equal(out, numbers, sizeof numbers);
    out[0] = 7.0f;
    ssmq_tensor_f32(&tensor, 2, 0, out);
    assert_true(out[0] == 7.0f);
    assert_string_equal(ssmq_dtype_name(SSMQ_F32), "fp32");
    assert_string_equal(ssmq_dtype_name(SSMQ_F16), "fp16");
    assert_string_equal(ssmq_dtype_name(SSMQ_BF16), "bf16");
    assert_int_equal(ssmq_dtype_bytes(SSMQ_F32), 4);
    assert_int_equal(ssmq_dtype_bytes(SSMQ_BF16), 2);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_f16),       cmocka_unit_test(every_bf16),
        cmocka_unit_test(ties_go_to_even), cmocka_unit_test(edges),
        cmocka_unit_test(tensors_upcast),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
