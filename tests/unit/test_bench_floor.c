/* SPDX-License-Identifier: Apache-2.0 */
/* cli/bench_floor: mamba2-130m worked out by hand, and figures of the five published shapes at
 * 3.35 TB/s and 790 TFLOP/s, computed by another program and rounded to three digits. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "cli/bench_floor.h"

static const ssmq_ceilings h100 = {.copy_bytes_per_s = 3.35e12, .gemm_flops = 790e12};

static void make(const char *name, const char *precision, ssmq_shape *shape, ssmq_spec *spec) {
    char path[64];
    ssmq_precision parsed;
    ssmq_err err = {0};
    (void)snprintf(path, sizeof path, "random:mamba2-%s", name);
    assert_int_equal(ssmq_shape_read(shape, path, &err), SSMQ_OK);
    assert_int_equal(ssmq_precision_parse(&parsed, precision, &err), SSMQ_OK);
    const char *scope = ssmq_precision_is_quantized(&parsed) ? "all" : "none";
    assert_int_equal(ssmq_spec_init(spec, &parsed, scope, shape, &err), SSMQ_OK);
}

static void assert_near(double value, double expected, double relative) {
    if (!(fabs(value - expected) <= relative * expected)) {
        fail_msg("%.9g is not %.9g", value, expected);
    }
}

/* d 768, di 1536, L 24, H 24, P 64, N 128, K 4, V 50288, R 3352, conv_dim 1792. */
static void decode_of_130m(void **state) {
    (void)state;
    ssmq_shape shape;
    ssmq_spec spec;
    make("130m", "bf16", &shape, &spec);
    const double projections = 24.0 * (3352 * 768 + 768 * 1536);
    const double head = 50288.0 * 768;
    const double small = 24.0 * (768 + 1536 + 1792 * 5 + 3 * 24) + 768;
    const double ssm = 24.0 * 24 * 64 * 128, ring = 24.0 * 4 * 1792;
    assert_true(projections == 90095616.0 && small == 272832.0 && ring == 172032.0);
    const double weights = 2 * (projections + head + small);
    assert_true(weights == 257979264.0);
    ssmq_bench_work work = ssmq_bench_decode_work(&shape, &spec, 1);
    assert_true(work.flops == 0);
    assert_true(work.bytes == weights + 2 * (4 * ssm + 2 * ring));
    work = ssmq_bench_decode_work(&shape, &spec, 64);
    assert_true(work.bytes == weights + 64 * 2 * (4 * ssm + 2 * ring));
    spec.precision.state_dtype = SSMQ_BF16;
    work = ssmq_bench_decode_work(&shape, &spec, 64);
    assert_true(work.bytes == weights + 64 * 2 * (2 * ssm + 2 * ring));
    make("130m", "fp32", &shape, &spec);
    work = ssmq_bench_decode_work(&shape, &spec, 1);
    assert_true(work.bytes == 2 * weights + 2 * (4 * ssm + 4 * ring));
}

static void prefill_of_130m(void **state) {
    (void)state;
    ssmq_shape shape;
    ssmq_spec spec;
    make("130m", "bf16", &shape, &spec);
    const double scan = 0.75 * (2 * 128 * 128 + 2 * 128 * 64 * 24) + 4 * 128 * 64 * 24;
    assert_true(scan == 1105920.0);
    const double glue = 12 * 768 + 4 * 1792 + 10 * 24 + 2 * 1792 + 2 * 1536 + 6 * 1536;
    assert_true(glue == 32496.0);
    const ssmq_bench_work work = ssmq_bench_prefill_work(&shape, &spec, 3, 2048);
    assert_true(work.flops == 3 * 2048 * (2 * 90095616.0 + 24 * scan));
    assert_true(work.bytes == 3 * 2048 * 24 * glue);
    make("130m", "fp32", &shape, &spec);
    const double glue_f32 = 16 * 768 + 8 * 1792 + 12 * 24 + 4 * 1792 + 4 * 1536 + 12 * 1536;
    assert_true(ssmq_bench_prefill_work(&shape, &spec, 1, 1).bytes == 24 * glue_f32);
}

static void published_shapes(void **state) {
    (void)state;
    static const struct {
        const char *name;
        double decode_us, decode_state16_us; /* batch 1, bf16 */
        double prefill_2k_ms, prefill_32k_ms;
    } rows[] = {{"130m", 88, 83, 1.01, 16.2},
                {"370m", 250, 235, 3.08, 49.2},
                {"780m", 512, 489, 5.77, 92.4},
                {"1.3b", 863, 833, 9.26, 148},
                {"2.7b", 1715, 1665, 18.0, 289}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ssmq_shape shape;
        ssmq_spec spec;
        make(rows[i].name, "bf16", &shape, &spec);
        ssmq_bench_work work = ssmq_bench_decode_work(&shape, &spec, 1);
        assert_near(ssmq_bench_floor_ms(&work, &h100) * 1e3, rows[i].decode_us, 0.006);
        spec.precision.state_dtype = SSMQ_F16;
        work = ssmq_bench_decode_work(&shape, &spec, 1);
        assert_near(ssmq_bench_floor_ms(&work, &h100) * 1e3, rows[i].decode_state16_us, 0.006);
        work = ssmq_bench_prefill_work(&shape, &spec, 1, 2048);
        assert_near(ssmq_bench_floor_ms(&work, &h100), rows[i].prefill_2k_ms, 0.005);
        work = ssmq_bench_prefill_work(&shape, &spec, 1, 32768);
        assert_near(ssmq_bench_floor_ms(&work, &h100), rows[i].prefill_32k_ms, 0.005);
    }
}

/* Weights in 8 bits with the head in 16: 16,240 and 1,060 tokens/s, scales not counted there. */
static void quantized_weights(void **state) {
    (void)state;
    ssmq_shape shape;
    ssmq_spec spec;
    make("130m", "w8a16", &shape, &spec);
    ssmq_bench_work work = ssmq_bench_decode_work(&shape, &spec, 1);
    assert_near(1e3 / ssmq_bench_floor_ms(&work, &h100), 16240, 0.006);
    make("2.7b", "w8a16", &shape, &spec);
    work = ssmq_bench_decode_work(&shape, &spec, 1);
    assert_near(1e3 / ssmq_bench_floor_ms(&work, &h100), 1060, 0.006);
}

static void unknown_rates(void **state) {
    (void)state;
    const ssmq_bench_work prefill = {.flops = 1e12, .bytes = 1e9}, decode = {.bytes = 1e9};
    const ssmq_ceilings none = {0}, no_gemm = {.copy_bytes_per_s = 1e12},
                        no_copy = {.gemm_flops = 1};
    assert_true(isnan(ssmq_bench_floor_ms(&prefill, &none)));
    assert_true(isnan(ssmq_bench_floor_ms(&decode, &none)));
    assert_true(isnan(ssmq_bench_floor_ms(&prefill, &no_gemm)));
    assert_true(isnan(ssmq_bench_floor_ms(&prefill, &no_copy)));
    assert_true(ssmq_bench_floor_ms(&decode, &no_gemm) == 1.0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decode_of_130m),   cmocka_unit_test(prefill_of_130m),
        cmocka_unit_test(published_shapes), cmocka_unit_test(quantized_weights),
        cmocka_unit_test(unknown_rates),
    };
    return cmocka_run_group_tests_name("bench_floor", tests, NULL, NULL);
}
