/* SPDX-License-Identifier: Apache-2.0 */
/* The CUDA engine's quantized linear layers, each on its own, against loops over the reference
 * quantizers: codes, scales and packing bit for bit, integer products bit for bit from numbers to
 * rounded results (so their int32 sums are exact too), weight-only and fp8 products closely. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <cuda_runtime_api.h>

#include "base/mem.h"
#include "base/rng.h"
#include "engine/cuda/layout.h"
#include "engine/cuda/linear.h"
#include "engine/cuda/quant.h"
#include "model/model.h"
#include "quant/quantize.h"
#include "support/tested_engine.h"

enum { MAX_M = 150, MAX_K = 1024, GUARD = 0x5a };

/* Waits for the default stream and is waited for by it; unlike that it can be captured. */
static cudaStream_t stream;

/* in_proj of a shape: rows z | x | B | C | dt of K columns. */
static const struct layer_case {
    const char *precision;
    uint32_t modules; /* in scope, of the five blocks */
    int64_t K, di, GN, H;
    bool has_bias;
    const char *kind; /* of the activations */
} cases[] = {
    {"fp32:w8a8", 31, 768, 1536, 128, 24, false, "normal"}, /* 3352 rows */
    {"bf16:w8a8", 31, 768, 1536, 128, 24, false, "extreme"},
    {"bf16:w8a8", 16, 768, 1536, 128, 24, false, "normal"}, /* dt alone */
    {"bf16:w4a8", 15, 768, 1536, 128, 24, true, "normal"},  /* all but dt */
    {"fp32:w4a8", 31, 768, 1536, 128, 24, false, "extreme"},
    {"fp16:w4a4", 10, 256, 512, 128, 8, true, "normal"}, /* x and C */
    {"fp32:w8a8", 31, 33, 55, 5, 11, true, "normal"},
    {"bf16:w8a8", 21, 33, 55, 5, 11, true, "extreme"}, /* z, B and dt of odd sizes */
    {"fp32:w4a8:g7", 31, 33, 55, 5, 11, true, "normal"},
    {"fp16:w4a4:g5", 5, 40, 30, 7, 3, false, "normal"},
    {"fp32:w8a8:g24", 31, 100, 64, 16, 4, true, "normal"},
    {"bf16:w4a8:channel", 31, 256, 512, 128, 8, false, "normal"},
    {"bf16:w4a8:g16", 31, 256, 512, 128, 8, false, "zeros"},
    {"fp32:w8a16", 31, 256, 512, 128, 8, true, "normal"},
    {"fp32:w4a16:g7", 9, 33, 55, 5, 11, true, "normal"},
    {"bf16:w4a16", 31, 768, 1536, 128, 24, false, "normal"},
    {"fp32:w8a8-fp8", 31, 768, 1536, 128, 24, false, "normal"},
    {"bf16:w8a8-fp8", 31, 256, 512, 128, 8, false, "normal"},
    {"bf16:w8a8-fp8", 26, 768, 1536, 128, 24, true, "normal"},
    {"fp16:w8a8-fp8", 5, 40, 30, 7, 3, true, "normal"},
};
enum { N_CASES = sizeof cases / sizeof cases[0] };

/* A linear layer on the device, and the same numbers here. */
typedef struct layer {
    const struct layer_case *c;
    ssmq_precision precision;
    cuda_linear linear;
    cuda_linear_scratch scratch;
    void *workspace;
    float *w, *bias, *x; /* [R, K], [R], [MAX_M, K]; bias and x as CT holds them */
    void *device_x, *device_y;
    float *y; /* [MAX_M, y_ld] */
} layer;

static void must(cudaError_t error) {
    if (error != cudaSuccess) fail_msg("%s", cudaGetErrorString(error));
}

static void *on_device(int64_t n_bytes) {
    void *out = NULL;
    must(cudaMalloc(&out, (size_t)n_bytes + 256));
    must(cudaMemset(out, 0, (size_t)n_bytes + 256));
    return out;
}

static float *floats(int64_t n) {
    float *out = NULL;
    assert_int_equal(ssmq_calloc(&out, (size_t)n, sizeof *out, NULL), SSMQ_OK);
    return out;
}

/* Numbers to the device in a type, or back. */
static void to_device(void *to, const float *from, int64_t n, ssmq_dtype dtype) {
    const size_t size = ssmq_dtype_bytes(dtype);
    char *bytes = NULL;
    assert_int_equal(ssmq_calloc(&bytes, (size_t)n, size, NULL), SSMQ_OK);
    for (int64_t i = 0; i < n; i++) {
        const uint16_t half =
            dtype == SSMQ_F16 ? ssmq_f16_from_f32(from[i]) : ssmq_bf16_from_f32(from[i]);
        const void *value = dtype == SSMQ_F32 ? (const void *)&from[i] : &half;
        memcpy(bytes + (size_t)i * size, value, size);
    }
    must(cudaMemcpy(to, bytes, (size_t)n * size, cudaMemcpyHostToDevice));
    ssmq_free(bytes);
}

static void from_device(float *to, const void *from, int64_t n, ssmq_dtype dtype) {
    char *bytes = NULL;
    assert_int_equal(ssmq_calloc(&bytes, (size_t)n, ssmq_dtype_bytes(dtype), NULL), SSMQ_OK);
    must(cudaMemcpy(bytes, from, (size_t)n * ssmq_dtype_bytes(dtype), cudaMemcpyDeviceToHost));
    const ssmq_tensor tensor = {.bytes = bytes, .rows = 1, .columns = n, .dtype = dtype};
    ssmq_tensor_f32(&tensor, 0, n, to);
    ssmq_free(bytes);
}

/* Draws of the named kind, as the type holds them. */
static void draw(float *out, int64_t rows, int64_t columns, const char *kind, ssmq_dtype dtype,
                 ssmq_rng *rng) {
    for (int64_t i = 0; i < rows * columns; i++) {
        double x = ssmq_rng_normal(rng);
        if (strcmp(kind, "extreme") == 0) x = i % 3 == 0 ? -3.0 : 3.0;
        /* A token of zeros, one of the smallest numbers, and one large number among small ones. */
        if (strcmp(kind, "zeros") == 0 && i / columns % 3 == 0) x = 0.0;
        if (strcmp(kind, "zeros") == 0 && i / columns % 3 == 1) x *= 0x1p-130;
        if (strcmp(kind, "zeros") == 0 && i % columns == 3) x *= 1000.0;
        out[i] = ssmq_round_to((float)x, dtype);
    }
}

/* Codes and scales of the block on the device; they must be the reference's. */
static void quantize_block(layer *l, const cuda_block *k) {
    const cuda_code_shape *s = &l->linear.codes;
    const ssmq_format format = l->precision.w_format;
    const bool is_packed = format == SSMQ_FORMAT_INT4;
    float *w = l->w + k->first_row * s->columns, *expected_scales = floats(k->rows * s->n_groups);
    float *scales = floats(k->N * s->n_groups);
    int8_t *expected = NULL, *codes = NULL;
    void *staged = on_device(k->rows * s->columns * (int64_t)sizeof(float));
    uint8_t *loose = on_device(k->N * s->ld);
    ssmq_err err = {0};
    assert_int_equal(ssmq_calloc(&expected, (size_t)(k->rows * s->columns), 1, NULL), SSMQ_OK);
    assert_int_equal(ssmq_calloc(&codes, (size_t)(k->N * s->ld), 1, NULL), SSMQ_OK);
    to_device(staged, w, k->rows * s->columns, SSMQ_F32);
    const cuda_quantize_call call = {.x = staged,
                                     .dtype = SSMQ_F32,
                                     .rows = k->rows,
                                     .shape = *s,
                                     .format = format,
                                     .by_group = true,
                                     .codes = is_packed ? loose : k->w,
                                     .scales = k->scales,
                                     .scale_stride = k->N,
                                     .stream = stream};
    assert_ok(cuda_quantize(&call, &err), &err);
    if (is_packed) {
        assert_ok(cuda_pack_int4(loose, k->N * s->ld, k->w, stream, &err), &err);
        must(cudaMemset(loose, GUARD, (size_t)(k->N * s->ld)));
        assert_ok(cuda_unpack_int4(k->w, k->N * s->ld, loose, stream, &err), &err);
    }
    must(cudaMemcpy(codes, is_packed ? loose : k->w, (size_t)(k->N * s->ld),
                    cudaMemcpyDeviceToHost));
    must(cudaMemcpy(scales, k->scales, (size_t)(k->N * s->n_groups) * sizeof *scales,
                    cudaMemcpyDeviceToHost));
    ssmq_quantize_weight(w, k->rows, s->columns, format, l->precision.group_size, expected,
                         expected_scales);
    for (int64_t i = 0; i < k->N * s->ld; i++) {
        const int64_t row = i / s->ld, group = i % s->ld / s->group_ld, at = i % s->group_ld;
        const int64_t column = group * s->group_columns + at;
        const bool is_there = row < k->rows && at < s->group_columns && column < s->columns;
        const int8_t wanted = is_there ? expected[row * s->columns + column] : 0;
        if (codes[i] != wanted) {
            fail_msg("code %d at row %lld, column %lld; the reference has %d", codes[i],
                     (long long)row, (long long)column, wanted);
        }
    }
    for (int64_t i = 0; i < k->rows * s->n_groups; i++) {
        const float got = scales[i % s->n_groups * k->N + i / s->n_groups];
        assert_memory_equal(&got, &expected_scales[i], sizeof got);
    }
    must(cudaFree(staged));
    must(cudaFree(loose));
    ssmq_free(expected);
    ssmq_free(codes);
    ssmq_free(scales);
    ssmq_free(expected_scales);
}

static void fill_block(layer *l, cuda_block *k) {
    k->w = on_device(cuda_block_bytes(&l->linear, k));
    if (k->is_quantized) {
        k->scales = on_device(cuda_block_scales(&l->linear, k) * (int64_t)sizeof(float));
        quantize_block(l, k);
    } else {
        to_device(k->w, l->w + k->first_row * l->linear.columns, k->rows * l->linear.columns,
                  l->linear.dtype);
    }
}

static void layer_open(layer *l, const struct layer_case *c) {
    ssmq_shape shape = {
        .d = c->K, .di = c->di, .G = 1, .N = c->GN, .H = c->H, .L = 1, .has_bias = c->has_bias};
    ssmq_spec spec = {.layer_modules = {c->modules}};
    ssmq_err err = {0};
    ssmq_rng rng = ssmq_rng_from_text(c->precision);
    shape.R = 2 * c->di + 2 * c->GN + c->H;
    memset(l, 0, sizeof *l);
    l->c = c;
    assert_ok(ssmq_precision_parse(&l->precision, c->precision, &err), &err);
    spec.precision = l->precision;
    l->linear = cuda_linear_in_proj(&shape, &spec, 0);
    cuda_linear *linear = &l->linear;
    const int64_t size = (int64_t)ssmq_dtype_bytes(linear->dtype);
    l->w = floats(shape.R * c->K);
    l->x = floats(MAX_M * c->K);
    l->y = floats(MAX_M * linear->y_ld);
    draw(l->w, shape.R, c->K, "normal", linear->dtype, &rng);
    draw(l->x, MAX_M, c->K, c->kind, linear->dtype, &rng);
    for (int i = 0; i < linear->n_blocks; i++) fill_block(l, &linear->blocks[i]);
    if (c->has_bias) {
        l->bias = floats(linear->y_ld);
        draw(l->bias, 1, shape.R, "normal", linear->dtype, &rng);
        linear->bias = on_device(linear->y_ld * size);
        to_device(linear->bias, l->bias, linear->y_ld, linear->dtype);
    }
    cuda_linear_need need = {0};
    cuda_linear_need_add(&need, linear, MAX_M, false);
    l->scratch.codes = on_device((MAX_M + CUDA_GEMM_PAD_ROWS) * need.code_ld);
    /* What lies in the padding of activations must not count. */
    must(cudaMemset(l->scratch.codes, GUARD, (size_t)(MAX_M * need.code_ld)));
    l->scratch.scales = on_device((MAX_M + CUDA_GEMM_PAD_ROWS) * (int64_t)sizeof(float));
    l->scratch.sums = on_device(need.sum_bytes);
    l->scratch.unpacked = on_device(need.unpacked_bytes);
    l->workspace = on_device(CUDA_GEMM_WORKSPACE_BYTES);
    l->device_x = on_device((MAX_M + CUDA_GEMM_PAD_ROWS) * c->K * size);
    l->device_y = on_device((MAX_M + CUDA_GEMM_PAD_ROWS) * linear->y_ld * size);
    to_device(l->device_x, l->x, MAX_M * c->K, linear->dtype);
}

static void layer_close(layer *l) {
    void *const on_gpu[] = {l->scratch.codes,    l->scratch.scales, l->scratch.sums,
                            l->scratch.unpacked, l->workspace,      l->device_x,
                            l->device_y,         l->linear.bias};
    for (size_t i = 0; i < sizeof on_gpu / sizeof on_gpu[0]; i++) must(cudaFree(on_gpu[i]));
    for (int i = 0; i < l->linear.n_blocks; i++) {
        must(cudaFree(l->linear.blocks[i].w));
        must(cudaFree(l->linear.blocks[i].scales));
    }
    ssmq_free(l->w);
    ssmq_free(l->bias);
    ssmq_free(l->x);
    ssmq_free(l->y);
}

static void multiply(layer *l, cuda_gemms *gemms, int64_t M, bool is_decode) {
    const int64_t n = MAX_M * l->linear.y_ld;
    const cuda_linear_call call = {.linear = &l->linear,
                                   .gemms = gemms,
                                   .scratch = l->scratch,
                                   .x = l->device_x,
                                   .y = l->device_y,
                                   .M = M,
                                   .is_decode = is_decode,
                                   .stream = stream};
    const cuda_linear *linears[] = {&l->linear};
    ssmq_err err = {0};
    must(cudaMemset(l->device_y, GUARD, (size_t)n * ssmq_dtype_bytes(l->linear.dtype)));
    cuda_gemms_set_workspace(gemms, l->workspace);
    assert_ok(cuda_linear_prepare(&call, linears, 1, &err), &err);
    assert_ok(cuda_linear_multiply(&call, &err), &err);
    must(cudaDeviceSynchronize());
    from_device(l->y, l->device_y, n, l->linear.dtype);
}

/* ---- the reference ---- */

static uint32_t bits_of(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* One output number of an integer block: every operation of design section 5, one by one. */
static float integer_result(const layer *l, const int8_t *x, float s_x, int64_t row,
                            const int8_t *w, const float *s_w) {
    const cuda_code_shape *s = &l->linear.codes;
    float sum = 0.0f;
    for (int64_t g = 0; g < s->n_groups; g++) {
        int32_t acc = 0;
        for (int64_t k = g * s->group_columns; k < s->columns && k < (g + 1) * s->group_columns;
             k++) {
            acc += (int32_t)x[k] * w[row * s->columns + k];
        }
        const float scaled = (float)acc * s_x;
        const float term = scaled * s_w[row * s->n_groups + g];
        sum = g > 0 ? sum + term : term;
    }
    return sum;
}

static void check_integer_block(const layer *l, const cuda_block *k, int64_t M) {
    const cuda_code_shape *s = &l->linear.codes;
    float *s_w = floats(k->rows * s->n_groups);
    int8_t *w = NULL, *x = NULL;
    assert_int_equal(ssmq_calloc(&w, (size_t)(k->rows * s->columns), 1, NULL), SSMQ_OK);
    assert_int_equal(ssmq_calloc(&x, (size_t)s->columns, 1, NULL), SSMQ_OK);
    ssmq_quantize_weight(l->w + k->first_row * s->columns, k->rows, s->columns,
                         l->precision.w_format, l->precision.group_size, w, s_w);
    for (int64_t m = 0; m<M; m += M> 8 ? 7 : 1) {
        const float s_x =
            ssmq_quantize_block(l->x + m * s->columns, s->columns, l->precision.a_format, x);
        for (int64_t n = 0; n < k->rows; n++) {
            float expected = integer_result(l, x, s_x, n, w, s_w);
            if (l->bias != NULL) expected += l->bias[k->first_row + n];
            expected = ssmq_round_to(expected, l->linear.dtype);
            const float got = l->y[m * l->linear.y_ld + k->first_row + n];
            if (bits_of(got) != bits_of(expected)) {
                fail_msg("row %lld, channel %lld: %.9g, not %.9g", (long long)m,
                         (long long)(k->first_row + n), (double)got, (double)expected);
            }
        }
    }
    ssmq_free(w);
    ssmq_free(x);
    ssmq_free(s_w);
}

/* Weights [rows, K] quantized and back, rounded to a type. */
static void weights_of(const layer *l, float *w, int64_t rows, ssmq_dtype dtype) {
    const cuda_code_shape *s = &l->linear.codes;
    for (int64_t i = 0; i < rows * s->n_groups; i++) {
        const int64_t first = i % s->n_groups * s->group_columns, left = s->columns - first;
        const int64_t n = left < s->group_columns ? left : s->group_columns;
        float *group = w + i / s->n_groups * s->columns + first;
        float values[MAX_K];
        const float scale = ssmq_quantize_values(group, n, l->precision.w_format, values);
        for (int64_t k = 0; k < n; k++) group[k] = ssmq_round_to(values[k] * scale, dtype);
    }
}

/* A row of activations as its product sees it: of an fp8 block quantized and back. */
static void row_of(const layer *l, bool is_fp8, int64_t m, float *out, double *scale) {
    const int64_t n = l->linear.columns;
    *scale = 1.0;
    memcpy(out, l->x + m * n, (size_t)n * sizeof *out);
    if (is_fp8) {
        *scale = (double)ssmq_quantize_values(l->x + m * n, n, SSMQ_FORMAT_FP8_E4M3, out);
    }
}

/* float, weight-only and fp8: fp64 sums, within what rounding and the order of sums allow. fp8
 * tensor cores keep fewer bits of a sum than fp32 does. */
static void check_float_block(const layer *l, const cuda_block *k, int64_t M) {
    const cuda_code_shape *s = &l->linear.codes;
    const bool is_fp8 = k->is_quantized && l->precision.w_format == SSMQ_FORMAT_FP8_E4M3;
    const double unit = l->linear.dtype == SSMQ_BF16 ? 0x1p-8 : 0x1p-11;
    const double of_sum = is_fp8 ? 1.0 / 512.0 : 4e-6;
    float *w = floats(k->rows * s->columns), *x = floats(s->columns);
    for (int64_t i = 0; i < k->rows * s->columns; i++) w[i] = l->w[k->first_row * s->columns + i];
    if (k->is_quantized) weights_of(l, w, k->rows, is_fp8 ? SSMQ_F32 : l->linear.dtype);
    for (int64_t m = 0; m<M; m += M> 8 ? 29 : 1) {
        double scale = 1.0;
        row_of(l, is_fp8, m, x, &scale);
        for (int64_t n = 0; n < k->rows; n++) {
            double sum = 0.0, magnitudes = 0.0;
            for (int64_t c = 0; c < s->columns; c++) {
                const double term = (double)w[n * s->columns + c] * (double)x[c] * scale;
                sum += term;
                magnitudes += fabs(term);
            }
            if (l->bias != NULL) sum += (double)l->bias[k->first_row + n];
            const double got = (double)l->y[m * l->linear.y_ld + k->first_row + n];
            double allowed = magnitudes * of_sum;
            if (l->linear.dtype != SSMQ_F32) allowed += fabs(sum) * unit;
            if (!(fabs(got - sum) <= allowed)) {
                fail_msg("row %lld, channel %lld: %.9g, not %.9g", (long long)m,
                         (long long)(k->first_row + n), got, sum);
            }
        }
    }
    ssmq_free(w);
    ssmq_free(x);
}

static bool is_here(const struct layer_case *c) {
    struct cudaDeviceProp device;
    must(cudaGetDeviceProperties(&device, 0));
    const bool is_fp8 = strstr(c->precision, "fp8") != NULL;
    return !is_fp8 || (device.major == 9 && device.minor == 0);
}

static void check_case(layer *l, cuda_gemms *gemms, int64_t M, bool is_decode) {
    multiply(l, gemms, M, is_decode);
    for (int i = 0; i < l->linear.n_blocks; i++) {
        const cuda_block *k = &l->linear.blocks[i];
        const bool is_integer = k->is_quantized && l->precision.a_format != SSMQ_FORMAT_FLOAT &&
                                l->precision.w_format != SSMQ_FORMAT_FP8_E4M3;
        if (is_integer) check_integer_block(l, k, M);
        if (!is_integer) check_float_block(l, k, M);
    }
}

static void run_cases(bool is_timed) {
    static const int64_t segments[] = {1, 2, 17, MAX_M}, steps[] = {1, 5, 33};
    cuda_gemms *gemms = NULL;
    ssmq_err err = {0};
    tested_engine_needs_cuda();
    must(cudaStreamCreate(&stream));
    assert_ok(cuda_gemms_open(&gemms, NULL, &err), &err);
    cuda_gemms_set_timed(gemms, is_timed);
    for (int i = 0; i < N_CASES; i++) {
        layer l;
        if (!is_here(&cases[i])) continue;
        print_message("  %s, modules %u, K %lld, %s%s\n", cases[i].precision, cases[i].modules,
                      (long long)cases[i].K, cases[i].kind, cases[i].has_bias ? ", bias" : "");
        layer_open(&l, &cases[i]);
        for (int k = 0; k < 4; k++) check_case(&l, gemms, segments[k], false);
        for (int k = 0; k < 3; k++) check_case(&l, gemms, steps[k], true);
        layer_close(&l);
    }
    cuda_gemms_close(gemms);
    must(cudaStreamDestroy(stream));
}

static void products_with_fixed_algorithms(void **state) {
    (void)state;
    run_cases(false);
}

/* Integer products keep their bits whatever is fastest. */
static void products_with_measured_algorithms(void **state) {
    (void)state;
    run_cases(true);
}

/* The check that every load makes. */
static void products_pass_their_own_check(void **state) {
    cuda_gemms *gemms = NULL;
    ssmq_err err = {0};
    (void)state;
    tested_engine_needs_cuda();
    must(cudaStreamCreate(&stream));
    assert_ok(cuda_gemms_open(&gemms, NULL, &err), &err);
    for (int i = 0; i < N_CASES; i++) {
        layer l;
        if (!is_here(&cases[i])) continue;
        layer_open(&l, &cases[i]);
        for (int k = 0; k < l.linear.n_blocks; k++) {
            if (!cuda_block_has_codes(&l.linear, &l.linear.blocks[k])) continue;
            assert_ok(cuda_linear_check(&l.linear, &l.linear.blocks[k], gemms, stream, &err), &err);
        }
        layer_close(&l);
    }
    cuda_gemms_close(gemms);
    must(cudaStreamDestroy(stream));
}

int main(int argc, char **argv) {
    static const engine_check checks[] = {
        {"products with fixed algorithms", products_with_fixed_algorithms, true},
        {"products with measured algorithms", products_with_measured_algorithms, true},
        {"products pass their own check", products_pass_their_own_check, true},
    };
    const int status = tested_engine_begin(argc, argv);
    if (status != 0) return status;
    return tested_engine_run("gpu_quant", checks, sizeof checks / sizeof checks[0], NULL, 0);
}
