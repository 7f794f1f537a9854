/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cpu/products and round: integer sums against int64 loops, float and fp8 products against
 * fp64, and rounding against the scalar definition. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "base/rng.h"
#include "engine/cpu/cpu.h"
#include "quant/e4m3.h"
#include "support/cpu_fixture.h"

enum { MAX_ROWS = 300, MAX_OUT = 1100, PERIOD = 50 };

/* One linear of a single block, the buffers it needs, and its operands. */
typedef struct bench {
    cpu_engine e;
    cpu_linear linear;
    float *x; /* [MAX_ROWS padded, columns] */
    float *y; /* [MAX_ROWS padded, rows] */
} bench;

static void *floats(int64_t n) {
    float *out = NULL;
    assert_int_equal(ssmq_calloc_aligned(&out, (size_t)n, sizeof *out, NULL), SSMQ_OK);
    return out;
}

static void bench_init(bench *b, int64_t rows, int64_t columns, int64_t group) {
    const int64_t padded = (MAX_ROWS / CPU_TILE_ROWS + 1) * CPU_TILE_ROWS;
    memset(b, 0, sizeof *b);
    b->e.n_threads = 2;
    b->e.buffers.quantized = floats(padded * columns);
    b->e.buffers.scales = floats(padded);
    b->e.buffers.scratch_floats = 2 * CPU_TILE_ROWS * CPU_TILE_OUT;
    b->e.buffers.scratch = floats(2 * b->e.buffers.scratch_floats);
    b->x = floats(padded * columns);
    b->y = floats(padded * rows);
    b->linear.rows = rows;
    b->linear.columns = columns;
    b->linear.n_blocks = 1;
    b->linear.has_quantized = group > 0;
    b->linear.has_integer_sums = true;
    b->linear.a_format = SSMQ_FORMAT_INT8;
    b->linear.w = floats(rows * columns);
    b->linear.bias = floats(rows);
    const int64_t n_scales = group > 0 ? (columns + group - 1) / group : 1;
    b->linear.scales = floats(rows * n_scales);
    b->linear.blocks[0] = (cpu_block){.rows = rows,
                                      .is_quantized = group > 0,
                                      .w = b->linear.w,
                                      .scales = b->linear.scales,
                                      .n_scales = n_scales,
                                      .group_columns = group};
}

static void bench_free(bench *b) {
    float *all[] = {
        b->e.buffers.quantized, b->e.buffers.scales, b->e.buffers.scratch, b->x, b->y, b->linear.w,
        b->linear.bias,         b->linear.scales};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) ssmq_free(all[i]);
}

static void multiply(bench *b, int64_t rows, bool by_row) {
    const cpu_product product = {.linear = &b->linear,
                                 .x = b->x,
                                 .y = b->y,
                                 .rows = rows,
                                 .x_stride = b->linear.columns,
                                 .y_stride = b->linear.rows,
                                 .dtype = SSMQ_F32,
                                 .by_row = by_row};
    memset(b->y, 0, (size_t)(rows * b->linear.rows) * sizeof *b->y);
    cpu_multiply(&b->e, &product);
}

/* Activations are integers with a largest magnitude of 127, so that their scale is 1. */
static void fill_integers(bench *b, int64_t rows, const char *kind, ssmq_rng *rng) {
    const int64_t columns = b->linear.columns;
    for (int64_t i = 0; i < (rows + b->linear.rows) * columns; i++) {
        const int64_t k = i % columns;
        float value = (float)((int64_t)ssmq_rng_below(rng, 255) - 127);
        /* Every product is 127 * 127: sums leave what fp32 holds if they are not cut in time. */
        if (strcmp(kind, "largest") == 0) value = 127.0f;
        /* Partial sums go far out and come back, so that the last bits of the result count. */
        if (strcmp(kind, "there and back") == 0) value = 127.0f - (float)(i % 3);
        float *to = i < rows * columns ? b->x + i : b->linear.w + (i - rows * columns);
        if (strcmp(kind, "there and back") == 0 && to < b->x + rows * columns && to >= b->x &&
            k >= columns / 2) {
            value = -value;
        }
        *to = value;
    }
    for (int64_t r = 0; r < rows; r++) b->x[r * columns] = 127.0f;
}

static void check_integers(const bench *b, int64_t rows) {
    const int64_t columns = b->linear.columns;
    const cpu_block *block = &b->linear.blocks[0];
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t n = 0; n < b->linear.rows; n++) {
            float expected = 0.0f;
            for (int64_t g = 0; g < block->n_scales; g++) {
                int64_t acc = 0;
                for (int64_t k = g * block->group_columns;
                     k < columns && k < (g + 1) * block->group_columns; k++) {
                    acc += (int64_t)b->x[r * columns + k] * (int64_t)b->linear.w[n * columns + k];
                }
                const float term = (float)acc * 1.0f * b->linear.scales[n * block->n_scales + g];
                expected = g > 0 ? expected + term : term;
            }
            expected += b->linear.bias[n];
            assert_memory_equal(&b->y[r * b->linear.rows + n], &expected, sizeof expected);
        }
    }
}

static void integer_sums_are_exact(void **state) {
    (void)state;
    static const struct {
        int64_t rows, columns, outs, group;
    } cases[] = {
        {1, 1, 1, 1},        {5, 7, 3, 7},         {3, 1024, 17, 1024}, {3, 1025, 17, 1025},
        {66, 1041, 9, 1041}, {3, 5120, 33, 5120},  {2, 2100, 5, 1050},  {4, 300, 20, 128},
        {300, 64, 1030, 24}, {257, 512, 100, 512}, {2, 4097, 3, 4096},
    };
    static const char *const kinds[] = {"random", "largest", "there and back"};
    ssmq_rng rng = ssmq_rng_from_text("integer_sums_are_exact");
    for (size_t i = 0; i < 3 * sizeof cases / sizeof cases[0]; i++) {
        const int64_t rows = cases[i / 3].rows;
        bench b;
        bench_init(&b, cases[i / 3].outs, cases[i / 3].columns, cases[i / 3].group);
        fill_integers(&b, rows, kinds[i % 3], &rng);
        const cpu_block *block = &b.linear.blocks[0];
        for (int64_t j = 0; j < b.linear.rows * block->n_scales; j++) {
            /* 1 in half of the cases: then the sums themselves are compared. */
            b.linear.scales[j] = i % 2 ? 1.0f : 0.5f + (float)ssmq_rng_f64(&rng);
        }
        for (int64_t n = 0; n < b.linear.rows && i % 2 == 0; n++)
            b.linear.bias[n] = (float)n - 2.5f;
        multiply(&b, rows, false);
        check_integers(&b, rows);
        multiply(&b, rows, true);
        check_integers(&b, rows);
        bench_free(&b);
    }
}

/* 133144 * 127 * 127 is the last multiple of 127 * 127 in int32; wider sums are not supported. */
static void widest_sum_fits(void **state) {
    (void)state;
    enum { COLUMNS = 133144 };
    bench b;
    ssmq_rng rng = ssmq_rng_from_seed(0);
    bench_init(&b, 2, COLUMNS, COLUMNS);
    fill_integers(&b, 1, "largest", &rng);
    b.linear.scales[0] = b.linear.scales[1] = 1.0f;
    multiply(&b, 1, true);
    check_integers(&b, 1);
    bench_free(&b);
}

/* Rows that repeat every PERIOD have the same bits for any number of rows, at any place; the first
 * PERIOD of them in first. */
static void check_rows_stand_alone(bench *b, ssmq_rng *rng, float *first) {
    static const int64_t row_counts[] = {1, 63, 64, 65, 128, 200, 256, 257, 300};
    const int64_t outs = b->linear.rows, columns = b->linear.columns;
    for (int64_t j = 0; j < MAX_ROWS * columns; j++) {
        const bool is_repeated = j >= PERIOD * columns;
        b->x[j] = is_repeated ? b->x[j - PERIOD * columns] : (float)ssmq_rng_normal(rng);
    }
    multiply(b, MAX_ROWS, false);
    memcpy(first, b->y, (size_t)(PERIOD * outs) * sizeof *first);
    for (size_t c = 0; c < sizeof row_counts / sizeof row_counts[0]; c++) {
        multiply(b, row_counts[c], false);
        for (int64_t r = 0; r < row_counts[c]; r++) {
            assert_memory_equal(b->y + r * outs, first + r % PERIOD * outs,
                                (size_t)outs * sizeof *first);
        }
    }
}

/* Each row of a float product has the same bits for any number of rows, at any place, and is near
 * the fp64 sum. */
static void float_rows_stand_alone(void **state) {
    (void)state;
    static const struct {
        int64_t outs, columns;
    } cases[] = {{1, 5},     {8, 256},  {4, 1024},  {3, 1536},  {16, 33},   {24, 768}, {100, 30},
                 {264, 256}, {64, 257}, {256, 512}, {1030, 96}, {1100, 64}, {128, 512}};
    ssmq_rng rng = ssmq_rng_from_text("float_rows_stand_alone");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int64_t outs = cases[i].outs, columns = cases[i].columns;
        bench b;
        bench_init(&b, outs, columns, 0);
        for (int64_t j = 0; j < outs * columns; j++) b.linear.w[j] = (float)ssmq_rng_normal(&rng);
        for (int64_t n = 0; n < outs; n++) b.linear.bias[n] = (float)ssmq_rng_normal(&rng);
        float first[PERIOD * MAX_OUT];
        check_rows_stand_alone(&b, &rng, first);
        for (int64_t j = 0; j < PERIOD * outs; j++) {
            double sum = (double)b.linear.bias[j % outs], magnitude = fabs(sum);
            for (int64_t k = 0; k < columns; k++) {
                const double term = (double)b.x[j / outs * columns + k] *
                                    (double)b.linear.w[j % outs * columns + k];
                sum += term;
                magnitude += fabs(term);
            }
            assert_true(fabs(sum - (double)first[j]) <= 5e-7 * magnitude);
        }
        bench_free(&b);
    }
}

/* Rows of fp8 products keep their bits in any company too, groups included, and are near the fp64
 * sum of terms that are exact there. */
static void fp8_rows_stand_alone(void **state) {
    (void)state;
    static const struct {
        int64_t outs, columns, group;
    } cases[] = {{1, 5, 5}, {24, 768, 768}, {264, 256, 100}, {1030, 96, 96}, {512, 300, 128}};
    ssmq_rng rng = ssmq_rng_from_text("fp8_rows_stand_alone");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int64_t outs = cases[i].outs, columns = cases[i].columns;
        bench b;
        bench_init(&b, outs, columns, cases[i].group);
        b.linear.has_integer_sums = false;
        b.linear.a_format = SSMQ_FORMAT_FP8_E4M3;
        const cpu_block *block = &b.linear.blocks[0];
        for (int64_t j = 0; j < outs * columns; j++) {
            b.linear.w[j] = ssmq_e4m3_decode((uint8_t)(2 * ssmq_rng_below(&rng, 127)));
            if (j % 3 == 0) b.linear.w[j] = -b.linear.w[j];
        }
        for (int64_t j = 0; j < outs * block->n_scales; j++) {
            b.linear.scales[j] = 0.5f + (float)ssmq_rng_f64(&rng);
        }
        float first[PERIOD * MAX_OUT];
        check_rows_stand_alone(&b, &rng, first);
        multiply(&b, PERIOD, true);
        for (int64_t j = 0; j < PERIOD * outs; j++) {
            const float *x = b.x + j / outs * columns, *w = b.linear.w + j % outs * columns;
            double sum = 0.0, magnitude = 0.0;
            float absmax = 0.0f;
            for (int64_t k = 0; k < columns; k++) absmax = fmaxf(absmax, fabsf(x[k]));
            const float s_x = absmax / 448.0f;
            for (int64_t k = 0; k < columns; k++) {
                const int64_t scale = j % outs * block->n_scales + k / cases[i].group;
                const double term = (double)ssmq_e4m3_round(x[k] / s_x) * (double)w[k] *
                                    (double)s_x * (double)b.linear.scales[scale];
                sum += term;
                magnitude += fabs(term);
            }
            assert_true(fabs(sum - (double)first[j]) <= 5e-7 * magnitude);
            assert_true(fabs(sum - (double)b.y[j]) <= 5e-7 * magnitude);
        }
        bench_free(&b);
    }
}

static void assert_rounds(float x, ssmq_dtype dtype) {
    float got = x;
    const float expected = ssmq_round_to(x, dtype);
    cpu_round(&got, 1, dtype);
    if (isnan(x)) {
        assert_true(isnan(got));
    } else {
        assert_memory_equal(&got, &expected, sizeof expected);
    }
}

/* Every sign, exponent and upper mantissa with lower bits below, at and above the halves. */
static void rounds_like_the_scalar(void **state) {
    (void)state;
    static const uint32_t low[] = {0, 1, 0x0FFF, 0x1000, 0x1001, 0x7FFF, 0x8000, 0x8001, 0xFFFF};
    for (uint32_t high = 0; high < 0x10000u; high++) {
        for (size_t i = 0; i < sizeof low / sizeof low[0]; i++) {
            const uint32_t bits = high << 16 | low[i];
            float x = 0.0f;
            memcpy(&x, &bits, sizeof x);
            assert_rounds(x, SSMQ_BF16);
            assert_rounds(x, SSMQ_F16);
        }
    }
    float x = 0.1f;
    cpu_round(&x, 1, SSMQ_F32);
    assert_true(x == 0.1f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integer_sums_are_exact), cmocka_unit_test(widest_sum_fits),
        cmocka_unit_test(float_rows_stand_alone), cmocka_unit_test(fp8_rows_stand_alone),
        cmocka_unit_test(rounds_like_the_scalar),
    };
    return cmocka_run_group_tests_name("cpu_products", tests, NULL, NULL);
}
