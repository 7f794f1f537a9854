/* SPDX-License-Identifier: Apache-2.0 */
/* Kernels that take a product's exact sums, or leave codes, against the same kernels and a pass of
 * its own for the conversion: cuda_dequantize() before them, cuda_quantize() after. Which of the
 * two an engine takes must not change a bit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <cuda_runtime_api.h>

#include "base/mem.h"
#include "base/rng.h"
#include "engine/cuda/cuda.h"
#include "engine/cuda/quant.h"
#include "support/tested_engine.h"

enum { ROWS = 300, STEP_ROWS = 3, K_TAPS = 4, MAX_BUFFERS = 64 };

/* Wide rows in vectors, several vectors a thread, and rows that no vector divides. */
static const struct sizes {
    int64_t d, di, H, N;
} all_sizes[] = {{256, 512, 8, 128}, {80, 160, 5, 16}, {33, 66, 3, 5}, {9216, 32768, 4, 64}};
enum { N_SIZES = sizeof all_sizes / sizeof all_sizes[0] };

/* Wide rows cost the host time to draw. */
static int64_t rows_for(const struct sizes *sizes) {
    const int64_t wide = 1000;
    return sizes->di < wide ? ROWS : 4 * STEP_ROWS;
}

static const ssmq_dtype dtypes[] = {SSMQ_F32, SSMQ_F16, SSMQ_BF16};
static const ssmq_format formats[] = {SSMQ_FORMAT_INT8, SSMQ_FORMAT_INT4, SSMQ_FORMAT_FP8_E4M3};
enum { N_DTYPES = 3, N_FORMATS = 3 };

static void *buffers[MAX_BUFFERS]; /* of the running test */
static int n_buffers;

static void must(cudaError_t error) {
    if (error != cudaSuccess) fail_msg("%s", cudaGetErrorString(error));
}

static void *on_device(int64_t n_bytes) {
    assert_true(n_buffers < MAX_BUFFERS);
    must(cudaMalloc(&buffers[n_buffers], (size_t)n_bytes));
    must(cudaMemset(buffers[n_buffers], 0, (size_t)n_bytes));
    return buffers[n_buffers++];
}

static void free_all(void) {
    while (n_buffers > 0) must(cudaFree(buffers[--n_buffers]));
}

/* n numbers of a type, drawn around 0 with a standard deviation of `size`. */
static void *numbers(int64_t n, ssmq_dtype dtype, double size, ssmq_rng *rng) {
    const size_t bytes = ssmq_dtype_bytes(dtype);
    void *out = on_device(n * (int64_t)bytes);
    char *host = NULL;
    assert_int_equal(ssmq_calloc(&host, (size_t)n, bytes, NULL), SSMQ_OK);
    for (int64_t i = 0; i < n; i++) {
        const float x = (float)(size * ssmq_rng_normal(rng));
        const uint16_t half = dtype == SSMQ_F16 ? ssmq_f16_from_f32(x) : ssmq_bf16_from_f32(x);
        memcpy(host + (size_t)i * bytes, dtype == SSMQ_F32 ? (const void *)&x : &half, bytes);
    }
    must(cudaMemcpy(out, host, (size_t)n * bytes, cudaMemcpyHostToDevice));
    ssmq_free(host);
    return out;
}

static void assert_same(const void *a, const void *b, int64_t n_bytes, const char *what) {
    char *host[2] = {NULL};
    assert_int_equal(ssmq_calloc(&host[0], (size_t)n_bytes, 1, NULL), SSMQ_OK);
    assert_int_equal(ssmq_calloc(&host[1], (size_t)n_bytes, 1, NULL), SSMQ_OK);
    must(cudaDeviceSynchronize());
    must(cudaMemcpy(host[0], a, (size_t)n_bytes, cudaMemcpyDeviceToHost));
    must(cudaMemcpy(host[1], b, (size_t)n_bytes, cudaMemcpyDeviceToHost));
    for (int64_t i = 0; i < n_bytes; i++) {
        if (host[0][i] != host[1][i]) fail_msg("%s differ at byte %lld", what, (long long)i);
    }
    ssmq_free(host[0]);
    ssmq_free(host[1]);
}

/* A product both ways: sums of `columns` columns, and what they stand for. */
typedef struct both {
    cuda_product sums, numbers;
} both;

static both draw_product(int64_t rows, int64_t columns, ssmq_dtype dtype, ssmq_rng *rng) {
    const int64_t ld = (columns + 15) / 16 * 16;
    int32_t *host = NULL, *sums = on_device(rows * ld * (int64_t)sizeof *sums);
    float *x_scales = numbers(rows, SSMQ_F32, 1e-3, rng), *w_scales = NULL;
    void *y = on_device(rows * ld * (int64_t)ssmq_dtype_bytes(dtype));
    ssmq_err err = {0};
    w_scales = numbers(ld, SSMQ_F32, 1e-2, rng);
    assert_int_equal(ssmq_calloc(&host, (size_t)(rows * ld), sizeof *host, NULL), SSMQ_OK);
    for (int64_t i = 0; i < rows * ld; i++) host[i] = (int32_t)(1e5 * ssmq_rng_normal(rng));
    must(cudaMemcpy(sums, host, (size_t)(rows * ld) * sizeof *sums, cudaMemcpyHostToDevice));
    ssmq_free(host);
    const cuda_linear linear = {.rows = columns,
                                .y_ld = ld,
                                .dtype = dtype,
                                .w_format = SSMQ_FORMAT_INT8,
                                .codes = {.n_groups = 1}};
    const cuda_block block = {.rows = columns, .N = ld, .is_quantized = true, .scales = w_scales};
    const cuda_dequantize_call call = {
        .linear = &linear, .block = &block, .sums = sums, .x_scales = x_scales, .M = rows, .y = y};
    assert_ok(cuda_dequantize(&call, &err), &err);
    return (both){{sums, ld, x_scales, w_scales}, {y, ld, NULL, NULL}};
}

/* Codes of u [rows, columns] by a pass of its own must be those that a kernel left. */
static void assert_codes(const void *u, int64_t rows, int64_t columns, ssmq_dtype dtype,
                         const cuda_codes *got, const char *what) {
    cuda_codes expected = {on_device(rows * columns), on_device(rows * (int64_t)sizeof(float)),
                           got->format};
    ssmq_err err = {0};
    const cuda_quantize_call call = {.x = u,
                                     .dtype = dtype,
                                     .rows = rows,
                                     .shape = {columns, 1, columns, columns, columns},
                                     .format = got->format,
                                     .codes = expected.codes,
                                     .scales = expected.scales};
    assert_ok(cuda_quantize(&call, &err), &err);
    assert_same(got->codes, expected.codes, rows * columns, what);
    assert_same(got->scales, expected.scales, rows * (int64_t)sizeof(float), what);
}

/* A layer of random weights, and a pass of B sequences of T tokens through it. */
typedef struct setting {
    ssmq_shape shape;
    cuda_layer layer;
    cuda_pass pass;
    ssmq_dtype dtype;
    int64_t rows;
    ssmq_rng rng;
} setting;

static void setting_init(setting *s, const struct sizes *sizes, ssmq_dtype dtype, int64_t B,
                         int64_t T) {
    const int64_t conv_dim = sizes->di + 2 * sizes->N;
    memset(s, 0, sizeof *s);
    s->rng = ssmq_rng_from_text("fused");
    s->dtype = dtype;
    s->rows = B * T;
    s->shape = (ssmq_shape){.L = 1,
                            .d = sizes->d,
                            .di = sizes->di,
                            .H = sizes->H,
                            .P = sizes->di / sizes->H,
                            .N = sizes->N,
                            .G = 1,
                            .K = K_TAPS,
                            .conv_dim = conv_dim,
                            .R = sizes->di + conv_dim + sizes->H,
                            .eps = 1e-5f,
                            .dt_max = 100.0f,
                            .residual_in_fp32 = true};
    s->layer.conv = numbers(K_TAPS * conv_dim, dtype, 0.5, &s->rng);
    s->layer.conv_bias = numbers(conv_dim, dtype, 0.1, &s->rng);
    s->layer.dt_bias = numbers(sizes->H, SSMQ_F32, 1.0, &s->rng);
    s->layer.A = numbers(sizes->H, SSMQ_F32, 1.0, &s->rng);
    s->layer.D = numbers(sizes->H, SSMQ_F32, 1.0, &s->rng);
    s->layer.gated_norm = numbers(sizes->di, dtype, 1.0, &s->rng);
    s->pass = (cuda_pass){.shape = &s->shape,
                          .layer = &s->layer,
                          .dtype = dtype,
                          .state_dtype = SSMQ_F32,
                          .B = B,
                          .T = T,
                          .n_sm = 8};
}

static void *copy_of(const void *from, int64_t n_bytes) {
    void *out = on_device(n_bytes);
    must(cudaMemcpy(out, from, (size_t)n_bytes, cudaMemcpyDeviceToDevice));
    return out;
}

/* residual += o and its norm: with sums and codes, with numbers and numbers. */
static void check_norm(setting *s, ssmq_format format) {
    const int64_t n = s->rows * s->shape.d, size = (int64_t)ssmq_dtype_bytes(s->dtype);
    const both o = draw_product(s->rows, s->shape.d, s->dtype, &s->rng);
    float *residual = numbers(n, SSMQ_F32, 3.0, &s->rng);
    void *fault = on_device(sizeof(unsigned long long));
    ssmq_err err = {0};
    cuda_norm_call fused = {.residual = residual,
                            .o = o.sums,
                            .weight = numbers(s->shape.d, s->dtype, 1.0, &s->rng),
                            .rows = s->rows,
                            .codes = {on_device(n), on_device(s->rows * 4), format},
                            .fault = fault};
    cuda_norm_call plain = fused;
    plain.residual = copy_of(residual, n * 4);
    plain.o = o.numbers;
    plain.u = on_device(n * size);
    plain.codes = (cuda_codes){0};
    assert_ok(cuda_norm(&s->pass, &fused, &err), &err);
    assert_ok(cuda_norm(&s->pass, &plain, &err), &err);
    assert_same(residual, plain.residual, n * 4, "residuals");
    assert_codes(plain.u, s->rows, s->shape.d, s->dtype, &fused.codes, "codes of the norm");
}

static void check_gated_norm(setting *s, ssmq_format format) {
    const int64_t n = s->rows * s->shape.di, size = (int64_t)ssmq_dtype_bytes(s->dtype);
    const both zxbcdt = draw_product(s->rows, s->shape.R, s->dtype, &s->rng);
    ssmq_err err = {0};
    const cuda_gated_norm_call fused = {.zxbcdt = zxbcdt.sums,
                                        .y = numbers(n, s->dtype, 1.0, &s->rng),
                                        .codes = {on_device(n), on_device(s->rows * 4), format}};
    const cuda_gated_norm_call plain = {
        .zxbcdt = zxbcdt.numbers, .y = fused.y, .u = on_device(n * size)};
    assert_ok(cuda_gated_norm(&s->pass, &fused, &err), &err);
    assert_ok(cuda_gated_norm(&s->pass, &plain, &err), &err);
    assert_codes(plain.u, s->rows, s->shape.di, s->dtype, &fused.codes, "codes of the gated norm");
}

static void norms_leave_the_same_codes(void **state) {
    (void)state;
    tested_engine_needs_cuda();
    for (int i = 0; i < N_SIZES * N_DTYPES * N_FORMATS; i++) {
        setting s;
        const ssmq_format format = formats[i / N_DTYPES % N_FORMATS];
        const struct sizes *sizes = &all_sizes[i / (N_DTYPES * N_FORMATS)];
        setting_init(&s, sizes, dtypes[i % N_DTYPES], 1, rows_for(sizes));
        check_norm(&s, format);
        check_gated_norm(&s, format);
        free_all();
    }
}

/* Two sequences of a segment in the middle of a context: rings as they were left before. */
static void conv_takes_sums(void **state) {
    const int64_t position_value = 6;
    (void)state;
    tested_engine_needs_cuda();
    for (int i = 0; i < N_SIZES * N_DTYPES; i++) {
        setting s;
        setting_init(&s, &all_sizes[i / N_DTYPES], dtypes[i % N_DTYPES], 2,
                     rows_for(&all_sizes[i / N_DTYPES]) / 2);
        const int64_t size = (int64_t)ssmq_dtype_bytes(s.dtype), T_pad = 2 * CUDA_CHUNK_TOKENS;
        const int64_t ring_bytes = 2 * K_TAPS * s.shape.conv_dim * size;
        const int64_t n_dt = 2 * s.shape.H * T_pad * 4, n_xbc = s.rows * s.shape.conv_dim * size;
        const both zxbcdt = draw_product(s.rows, s.shape.R, s.dtype, &s.rng);
        int64_t *position = on_device(sizeof *position);
        void *ring = numbers(2 * K_TAPS * s.shape.conv_dim, s.dtype, 1.0, &s.rng);
        ssmq_err err = {0};
        must(cudaMemcpy(position, &position_value, sizeof *position, cudaMemcpyHostToDevice));
        const cuda_conv_call fused = {.zxbcdt = zxbcdt.sums,
                                      .ring = ring,
                                      .position = position,
                                      .xbc = on_device(n_xbc),
                                      .dt = on_device(n_dt),
                                      .cs = on_device(n_dt)};
        const cuda_conv_call plain = {.zxbcdt = zxbcdt.numbers,
                                      .ring = copy_of(ring, ring_bytes),
                                      .position = position,
                                      .xbc = on_device(n_xbc),
                                      .dt = on_device(n_dt),
                                      .cs = on_device(n_dt)};
        assert_ok(cuda_conv(&s.pass, &fused, &err), &err);
        assert_ok(cuda_conv(&s.pass, &plain, &err), &err);
        assert_same(fused.xbc, plain.xbc, n_xbc, "convolutions");
        assert_same(fused.dt, plain.dt, n_dt, "dt");
        assert_same(fused.cs, plain.cs, n_dt, "sums of dt");
        assert_same(fused.ring, plain.ring, ring_bytes, "rings");
        free_all();
    }
}

static void steps_take_sums(void **state) {
    const int64_t position_value = 9;
    (void)state;
    tested_engine_needs_cuda();
    for (int i = 0; i < N_SIZES * N_DTYPES; i++) {
        setting s;
        setting_init(&s, &all_sizes[i / N_DTYPES], dtypes[i % N_DTYPES], STEP_ROWS, 1);
        const int64_t size = (int64_t)ssmq_dtype_bytes(s.dtype);
        const int64_t ring_bytes = STEP_ROWS * K_TAPS * s.shape.conv_dim * size;
        const int64_t n_state = STEP_ROWS * s.shape.di * s.shape.N;
        const int64_t n_y = STEP_ROWS * s.shape.di * size;
        const both zxbcdt = draw_product(s.rows, s.shape.R, s.dtype, &s.rng);
        int64_t *position = on_device(sizeof *position);
        void *ring = numbers(STEP_ROWS * K_TAPS * s.shape.conv_dim, s.dtype, 1.0, &s.rng);
        void *states = numbers(n_state, SSMQ_F32, 1.0, &s.rng);
        ssmq_err err = {0};
        must(cudaMemcpy(position, &position_value, sizeof *position, cudaMemcpyHostToDevice));
        const cuda_step_call fused = {.zxbcdt = zxbcdt.sums,
                                      .ring = ring,
                                      .position = position,
                                      .state = states,
                                      .y = on_device(n_y)};
        const cuda_step_call plain = {.zxbcdt = zxbcdt.numbers,
                                      .ring = copy_of(ring, ring_bytes),
                                      .position = position,
                                      .state = copy_of(states, n_state * 4),
                                      .y = on_device(n_y)};
        assert_ok(cuda_step(&s.pass, &fused, &err), &err);
        assert_ok(cuda_step(&s.pass, &plain, &err), &err);
        assert_same(fused.y, plain.y, n_y, "y");
        assert_same(fused.state, plain.state, n_state * 4, "states");
        assert_same(fused.ring, plain.ring, ring_bytes, "rings");
        free_all();
    }
}

int main(int argc, char **argv) {
    static const engine_check checks[] = {
        {"norms leave the same codes", norms_leave_the_same_codes, true},
        {"conv takes sums", conv_takes_sums, true},
        {"steps take sums", steps_take_sums, true},
    };
    const int status = tested_engine_begin(argc, argv);
    if (status != 0) return status;
    return tested_engine_run("gpu_fused", checks, sizeof checks / sizeof checks[0], NULL, 0);
}
