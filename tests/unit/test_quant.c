/* SPDX-License-Identifier: Apache-2.0 */
/* quant/: names of precisions, and the quantizers against the definition of design section 5. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "quant/precision.h"
#include "quant/quantize.h"

static void names_of_the_ladder(void **state) {
    (void)state;
    static const struct {
        const char *text;
        ssmq_dtype dtype;
        int32_t w_bits, a_bits;
        ssmq_format w_format, a_format;
        int32_t group_size;
    } cases[] = {
        {"fp32", SSMQ_F32, 32, 32, SSMQ_FORMAT_FLOAT, SSMQ_FORMAT_FLOAT, 0},
        {"fp16", SSMQ_F16, 16, 16, SSMQ_FORMAT_FLOAT, SSMQ_FORMAT_FLOAT, 0},
        {"bf16", SSMQ_BF16, 16, 16, SSMQ_FORMAT_FLOAT, SSMQ_FORMAT_FLOAT, 0},
        {"w8a8", SSMQ_BF16, 8, 8, SSMQ_FORMAT_INT8, SSMQ_FORMAT_INT8, 0},
        {"w4a8", SSMQ_BF16, 4, 8, SSMQ_FORMAT_INT4, SSMQ_FORMAT_INT8, 128},
        {"w4a4", SSMQ_BF16, 4, 4, SSMQ_FORMAT_INT4, SSMQ_FORMAT_INT4, 128},
        {"w8a8-fp8", SSMQ_BF16, 8, 8, SSMQ_FORMAT_FP8_E4M3, SSMQ_FORMAT_FP8_E4M3, 0},
        {"w8a16", SSMQ_BF16, 8, 16, SSMQ_FORMAT_INT8, SSMQ_FORMAT_FLOAT, 0},
        {"w4a16", SSMQ_BF16, 4, 16, SSMQ_FORMAT_INT4, SSMQ_FORMAT_FLOAT, 128},
        {"w16a8", SSMQ_BF16, 16, 8, SSMQ_FORMAT_FLOAT, SSMQ_FORMAT_INT8, 0},
        {"fp32:w16a4", SSMQ_F32, 32, 4, SSMQ_FORMAT_FLOAT, SSMQ_FORMAT_INT4, 0},
        {"fp32:w8a8", SSMQ_F32, 8, 8, SSMQ_FORMAT_INT8, SSMQ_FORMAT_INT8, 0},
        {"fp16:w4a8:g64", SSMQ_F16, 4, 8, SSMQ_FORMAT_INT4, SSMQ_FORMAT_INT8, 64},
        {"fp32:w4a16", SSMQ_F32, 4, 32, SSMQ_FORMAT_INT4, SSMQ_FORMAT_FLOAT, 128},
        {"w4a8:channel", SSMQ_BF16, 4, 8, SSMQ_FORMAT_INT4, SSMQ_FORMAT_INT8, 0},
        {"w8a8:g1", SSMQ_BF16, 8, 8, SSMQ_FORMAT_INT8, SSMQ_FORMAT_INT8, 1},
        {"bf16:w8a16:g65536", SSMQ_BF16, 8, 16, SSMQ_FORMAT_INT8, SSMQ_FORMAT_FLOAT, 65536},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ssmq_precision p;
        assert_int_equal(ssmq_precision_parse(&p, cases[i].text, NULL), SSMQ_OK);
        assert_string_equal(p.name, cases[i].text);
        assert_int_equal(p.dtype, cases[i].dtype);
        assert_int_equal(p.w_bits, cases[i].w_bits);
        assert_int_equal(p.a_bits, cases[i].a_bits);
        assert_int_equal(p.w_format, cases[i].w_format);
        assert_int_equal(p.a_format, cases[i].a_format);
        assert_int_equal(p.group_size, cases[i].group_size);
        assert_int_equal(p.state_dtype, SSMQ_F32);
        assert_int_equal(ssmq_precision_is_quantized(&p),
                         cases[i].w_format != SSMQ_FORMAT_FLOAT ||
                             cases[i].a_format != SSMQ_FORMAT_FLOAT);
    }
}

static void names_that_are_none(void **state) {
    (void)state;
    static const char *const bad[] = {
        "",
        "w8a4",
        "W8A8",
        "fp32:",
        "fp32:bf16",
        "fp32:fp32:w8a8",
        "w8a8:",
        "w4a8:g0",
        "w4a8:g",
        "w4a8:g-1",
        "w4a8:g64x",
        "w4a8:g65537",
        "w4a8:64",
        "w8a8-fp8:g8",
        "fp32:g128",
        "w4a8:g 64",
        ":w8a8",
        "w8a8 ",
        "w4a8::g64",
        "w4a8:g64:",
        "w4a8:g64:",
        "bf16:w4a8:g64:",
        "bf16::w4a8",
        "w4a8:channels",
        "fp32:w8a8:channel:channel",
        "w8a8................................................................",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ssmq_precision p;
        assert_int_equal(ssmq_precision_parse(&p, bad[i], NULL), SSMQ_CONFIG);
    }
    ssmq_precision p;
    ssmq_err err = {0};
    assert_int_equal(ssmq_precision_parse(&p, "int8", &err), SSMQ_CONFIG);
    assert_string_equal(
        err.text,
        "'int8' is no precision; allowed are fp32, fp16, bf16, w8a8, w4a8, w4a4, "
        "w8a8-fp8, w8a16, w4a16, w16a8, w16a4, quantized ones with a compute type before them "
        "(fp32:w8a8) and weights a scale behind them (w4a8:g64, w4a8:channel)");
}

static void formats_and_methods(void **state) {
    (void)state;
    static const struct {
        const char *precision, *method;
    } methods[] = {
        {"bf16", "none"},
        {"w8a8", "absmax: int8 weights per channel, dynamic int8 activations per token"},
        {"w4a8", "absmax: int4 weights per group, dynamic int8 activations per token"},
        {"w4a4:channel", "absmax: int4 weights per channel, dynamic int4 activations per token"},
        {"w8a16", "absmax: int8 weights per channel"},
        {"w4a16", "absmax: int4 weights per group"},
        {"w8a8-fp8",
         "absmax: fp8_e4m3 weights per channel, dynamic fp8_e4m3 activations per token"},
    };
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        ssmq_precision p;
        assert_int_equal(ssmq_precision_parse(&p, methods[i].precision, NULL), SSMQ_OK);
        char method[96];
        ssmq_precision_calib_method(&p, method, sizeof method);
        assert_string_equal(method, methods[i].method);
        ssmq_precision_calib_method(&p, method, 5);
        assert_memory_equal(method, methods[i].method, 4);
        assert_int_equal(method[4], '\0');
    }
    /* Activations alone, which no name stands for. */
    ssmq_precision alone;
    char method[96];
    assert_int_equal(ssmq_precision_parse(&alone, "bf16", NULL), SSMQ_OK);
    alone.a_format = SSMQ_FORMAT_INT8;
    ssmq_precision_calib_method(&alone, method, sizeof method);
    assert_string_equal(method, "absmax: dynamic int8 activations per token");
    static const char *const ladder[] = {"fp32",     "fp16",  "bf16",  "w8a8",  "w4a8", "w4a4",
                                         "w8a8-fp8", "w8a16", "w4a16", "w16a8", "w16a4"};
    for (int i = 0; i < 11; i++) assert_string_equal(ssmq_precision_ladder(i), ladder[i]);
    assert_null(ssmq_precision_ladder(11));
    assert_null(ssmq_precision_ladder(-1));
    for (int i = 0; i < SSMQ_N_FORMATS; i++) {
        ssmq_format format = SSMQ_N_FORMATS;
        assert_true(ssmq_format_from_name(ssmq_format_get((ssmq_format)i)->name, &format));
        assert_int_equal(format, i);
    }
    ssmq_format format = SSMQ_FORMAT_INT4;
    assert_false(ssmq_format_from_name("int2", &format));
    assert_int_equal(format, SSMQ_FORMAT_INT4);
}

/* Every text and rule about formats that other folders use comes out of the table. */
static void lists_of_the_tables(void **state) {
    (void)state;
    ssmq_str text;
    ssmq_str_init(&text, 200);
    ssmq_format_add_names(&text, " | ");
    ssmq_str_addf(&text, "; ");
    ssmq_format_add_bits(&text, " or ");
    ssmq_str_addf(&text, "; ");
    ssmq_precision_add_ladder(&text);
    assert_string_equal(ssmq_str_get(&text),
                        "float | int8 | int4 | fp8_e4m3; 4 or 8; fp32, fp16, bf16, w8a8, w4a8, "
                        "w4a4, w8a8-fp8, w8a16, w4a16, w16a8, w16a4");
    ssmq_str_free(&text);
    ssmq_format format = SSMQ_FORMAT_FLOAT;
    assert_true(ssmq_format_from_bits(8, &format));
    assert_int_equal(format, SSMQ_FORMAT_INT8);
    assert_true(ssmq_format_from_bits(4, &format));
    assert_int_equal(format, SSMQ_FORMAT_INT4);
    static const int64_t none[] = {-8, 0, 1, 5, 16, 32};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        assert_false(ssmq_format_from_bits(none[i], &format));
        assert_int_equal(format, SSMQ_FORMAT_INT4);
    }
}

static void sums_and_bytes(void **state) {
    (void)state;
    static const struct {
        const char *precision;
        bool has_integer_sums;
        int64_t bytes; /* of [3, 129] */
    } cases[] = {
        {"fp32", false, 4 * 3 * 129},
        {"bf16", false, 2 * 3 * 129},
        {"w8a8", true, 3 * (129 + 4)},
        {"w4a8", true, 3 * (65 + 2 * 4)},
        {"w4a4:channel", true, 3 * (65 + 4)},
        {"w8a8-fp8", false, 3 * (129 + 4)},
        {"w8a16:g64", false, 3 * (129 + 3 * 4)},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ssmq_precision p;
        assert_int_equal(ssmq_precision_parse(&p, cases[i].precision, NULL), SSMQ_OK);
        assert_int_equal(ssmq_precision_has_integer_sums(&p), cases[i].has_integer_sums);
        assert_true(ssmq_precision_weight_bytes(&p, 3, 129) == cases[i].bytes);
    }
}

static void assert_block(const float *x, int64_t n, ssmq_format format, float scale,
                         const int8_t *q) {
    int8_t got[8];
    float values[8], decoded[8];
    assert_in_range(n, 1, 8);
    const float got_scale = ssmq_quantize_block(x, n, format, got);
    assert_memory_equal(&got_scale, &scale, sizeof scale);
    assert_memory_equal(got, q, (size_t)n);
    assert_true(ssmq_quantize_values(x, n, format, values) == scale);
    ssmq_quantize_decode(got, n, format, decoded);
    for (int64_t i = 0; i < n; i++) assert_true(values[i] == decoded[i]);
}

static void blocks_by_hand(void **state) {
    (void)state;
    const float halves[] = {127.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, -127.0f};
    const int8_t halves_q[] = {127, 0, 2, 2, 0, -2, -2, -127};
    assert_block(halves, 8, SSMQ_FORMAT_INT8, 1.0f, halves_q);
    const float four[] = {-3.5f, 1.75f, 0.25f, 0.75f, 3.5f};
    const int8_t four_q[] = {-7, 4, 0, 2, 7}; /* 1.75 / 0.5 = 3.5 and 0.25 / 0.5 = 0.5 are ties */
    assert_block(four, 5, SSMQ_FORMAT_INT4, 0.5f, four_q);
    const float zeros[] = {0.0f, -0.0f};
    const int8_t zeros_q[] = {0, 0};
    assert_block(zeros, 2, SSMQ_FORMAT_INT8, 1.0f, zeros_q);
    /* absmax / qmax is zero in fp32: as good as a block of zeros. */
    const float tiny[] = {0x1p-149f, 0.0f};
    assert_block(tiny, 2, SSMQ_FORMAT_INT8, 1.0f, zeros_q);
    /* 0x1p-149 * 190 / 127 rounds to one step, so the quotient 190 has to be clamped. */
    const float subnormal[] = {190.0f * 0x1p-149f, -190.0f * 0x1p-149f};
    const int8_t clamped[] = {127, -127};
    assert_block(subnormal, 2, SSMQ_FORMAT_INT8, 0x1p-149f, clamped);
}

/* Codes 0x7E = 448, 0x76 = 224, 0x38 = 1, 0x3C = 1.5, 0x01 = 2^-9, 0x08 = 2^-6. */
static void fp8_blocks_by_hand(void **state) {
    (void)state;
    const float x[] = {448.0f, -224.0f, 1.0f, 1.5625f, 0x1p-9f, 0x1p-10f, -0.0f, 0x1.Ep-7f};
    const int8_t q[] = {0x7E, (int8_t)0xF6, 0x38, 0x3C, 0x01, 0x00, (int8_t)0x80, 0x08};
    assert_block(x, 8, SSMQ_FORMAT_FP8_E4M3, 1.0f, q); /* 1.5625, 2^-10, the last: ties */
    const float scaled[] = {-7.0f, 3.5f, 0x1p-6f};
    const int8_t scaled_q[] = {(int8_t)0xFE, 0x76, 0x38};
    assert_block(scaled, 3, SSMQ_FORMAT_FP8_E4M3, 0x1p-6f, scaled_q);
    const float zeros[] = {0.0f, 0.0f};
    const int8_t zeros_q[] = {0, 0};
    assert_block(zeros, 2, SSMQ_FORMAT_FP8_E4M3, 1.0f, zeros_q);
    /* 0x1p-149 * 600 / 448 rounds to one step, so the quotient 600 has to saturate. */
    const float subnormal[] = {600.0f * 0x1p-149f, -600.0f * 0x1p-149f};
    const int8_t clamped[] = {0x7E, (int8_t)0xFE};
    assert_block(subnormal, 2, SSMQ_FORMAT_FP8_E4M3, 0x1p-149f, clamped);
    /* A value that is no number stays none. */
    const float with_nan[] = {NAN, 1.0f};
    float values[2];
    assert_true(isnan(ssmq_quantize_values(with_nan, 2, SSMQ_FORMAT_FP8_E4M3, values)));
    assert_true(isnan(values[0]));
}

static void faults_stay_visible(void **state) {
    (void)state;
    const float with_nan[] = {1.0f, NAN, 2.0f};
    const float with_infinity[] = {1.0f, -INFINITY, 2.0f};
    assert_true(isnan(ssmq_quantize_scale(with_nan, 3, SSMQ_FORMAT_INT8)));
    assert_true(isinf(ssmq_quantize_scale(with_infinity, 3, SSMQ_FORMAT_INT8)));
}

enum { ROWS = 7, COLUMNS = 45 };

/* Every scale is absmax / qmax of its block, and every integer the nearest there is. */
static void check_weight(const float *w, ssmq_format format, int32_t group_size) {
    const int64_t n_scales = ssmq_scales_per_row(COLUMNS, group_size);
    const float qmax = format == SSMQ_FORMAT_INT8 ? 127.0f : 7.0f;
    int8_t q[ROWS * COLUMNS];
    float scales[ROWS * COLUMNS];
    assert_true(n_scales == (group_size == 0 ? 1 : (COLUMNS + group_size - 1) / group_size));
    ssmq_quantize_weight(w, ROWS, COLUMNS, format, group_size, q, scales);
    for (int row = 0; row < ROWS; row++) {
        for (int64_t s = 0; s < n_scales; s++) {
            const int first = (int)s * group_size;
            const int end =
                group_size == 0 || first + group_size > COLUMNS ? COLUMNS : first + group_size;
            float absmax = 0.0f;
            for (int i = first; i < end; i++) absmax = fmaxf(absmax, fabsf(w[row * COLUMNS + i]));
            const float scale = scales[row * n_scales + s];
            assert_true(scale == (absmax > 0.0f ? absmax / qmax : 1.0f));
            for (int i = first; i < end; i++) {
                const double error =
                    (double)w[row * COLUMNS + i] / (double)scale - (double)q[row * COLUMNS + i];
                assert_true(fabs(error) <= 0.5 + 1e-4);
                assert_true(fabsf((float)q[row * COLUMNS + i]) <= qmax);
            }
        }
    }
}

static void weights_by_channel_and_group(void **state) {
    (void)state;
    static const int32_t group_sizes[] = {0, 1, 5, 16, 44, 45, 46, 128};
    ssmq_rng rng = ssmq_rng_from_text("weights_by_channel_and_group");
    float w[ROWS * COLUMNS];
    for (int i = 0; i < ROWS * COLUMNS; i++) w[i] = (float)ssmq_rng_normal(&rng);
    for (int i = 0; i < COLUMNS; i++) w[3 * COLUMNS + i] = 0.0f;
    for (size_t i = 0; i < sizeof group_sizes / sizeof group_sizes[0]; i++) {
        check_weight(w, SSMQ_FORMAT_INT8, group_sizes[i]);
        check_weight(w, SSMQ_FORMAT_INT4, group_sizes[i]);
    }
}

static void int4_two_to_a_byte(void **state) {
    (void)state;
    const int8_t q[2][5] = {{1, -1, 7, -7, 3}, {0, 2, -3, 4, -5}};
    const uint8_t bytes[2][3] = {{0xF1, 0x97, 0x03}, {0x20, 0x4D, 0x0B}};
    uint8_t packed[2][3];
    int8_t unpacked[2][5];
    ssmq_pack_int4(&q[0][0], 2, 5, &packed[0][0]);
    assert_memory_equal(packed, bytes, sizeof bytes);
    ssmq_unpack_int4(&packed[0][0], 2, 5, &unpacked[0][0]);
    assert_memory_equal(unpacked, q, sizeof q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_of_the_ladder),
        cmocka_unit_test(names_that_are_none),
        cmocka_unit_test(formats_and_methods),
        cmocka_unit_test(lists_of_the_tables),
        cmocka_unit_test(blocks_by_hand),
        cmocka_unit_test(faults_stay_visible),
        cmocka_unit_test(weights_by_channel_and_group),
        cmocka_unit_test(int4_two_to_a_byte),
        cmocka_unit_test(fp8_blocks_by_hand),
        cmocka_unit_test(sums_and_bytes),
    };
    return cmocka_run_group_tests_name("quant", tests, NULL, NULL);
}
