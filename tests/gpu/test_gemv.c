/* SPDX-License-Identifier: Apache-2.0 */
/* Products of few rows against sums in fp64 on the host: integer sums exactly, others within what
 * fp32 accumulation and one rounding may do; and a row has the same bits whatever is beside it. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <cuda_runtime_api.h>

#include "base/mem.h"
#include "base/rng.h"
#include "engine/cuda/gemv.h"
#include "support/tested_engine.h"

/* A row is one piece or many; there are fewer rows than multiprocessors, a part of a tile for each,
 * or several tiles. */
static const struct sizes {
    int64_t N, K;
} all_sizes[] = {{1, 64}, {33, 320}, {3352, 768}, {768, 1536}, {1320, 5120}, {9000, 512}};
enum { N_SIZES = sizeof all_sizes / sizeof all_sizes[0], PAD = 3, MAX_CODE = 127 };

typedef struct product {
    cuda_gemm_call call;
    void *host_x, *host_w, *host_bias; /* what the device has */
    char *y;                           /* [M, y_ld] as it came back */
} product;

static void must(cudaError_t error) {
    if (error != cudaSuccess) fail_msg("%s", cudaGetErrorString(error));
}

static int attribute(enum cudaDeviceAttr name) {
    int value = 0;
    must(cudaDeviceGetAttribute(&value, name, 0));
    return value;
}

static int n_sm(void) {
    return attribute(cudaDevAttrMultiProcessorCount);
}

static int shared_bytes(void) {
    return attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
}

static size_t x_bytes_of(const cuda_gemm_shape *s) {
    return s->format == SSMQ_FORMAT_INT8 ? 1 : ssmq_dtype_bytes(s->dtype);
}

static size_t y_bytes_of(const cuda_gemm_shape *s) {
    return s->format == SSMQ_FORMAT_INT8 ? sizeof(int32_t) : ssmq_dtype_bytes(s->y_dtype);
}

static void *to_device(const void *host, size_t n_bytes) {
    void *out = NULL;
    must(cudaMalloc(&out, n_bytes));
    must(cudaMemcpy(out, host, n_bytes, cudaMemcpyHostToDevice));
    return out;
}

/* n numbers of X's type: codes of every size with extremes, or numbers around 0. */
static void *draw(const cuda_gemm_shape *s, int64_t n, ssmq_rng *rng) {
    char *out = NULL;
    assert_int_equal(ssmq_calloc(&out, (size_t)n, x_bytes_of(s), NULL), SSMQ_OK);
    for (int64_t i = 0; i < n; i++) {
        if (s->format == SSMQ_FORMAT_INT8) {
            const int64_t code = (int64_t)ssmq_rng_below(rng, 2 * MAX_CODE + 1) - MAX_CODE;
            out[i] = (char)(i % 5 == 0 ? (code < 0 ? -MAX_CODE : MAX_CODE) : code);
            continue;
        }
        const float x = (float)ssmq_rng_normal(rng);
        const uint16_t half = s->dtype == SSMQ_F16 ? ssmq_f16_from_f32(x) : ssmq_bf16_from_f32(x);
        memcpy(out + 2 * i, &half, 2);
    }
    return out;
}

static double number(const cuda_gemm_shape *s, const void *host, int64_t i) {
    uint16_t half = 0;
    if (s->format == SSMQ_FORMAT_INT8) return (double)((const int8_t *)host)[i];
    memcpy(&half, (const char *)host + 2 * i, 2);
    return (double)(s->dtype == SSMQ_F16 ? ssmq_f32_from_f16(half) : ssmq_f32_from_bf16(half));
}

static product product_make(const cuda_gemm_shape *shape, uint64_t seed) {
    product p = {.call.shape = *shape};
    const cuda_gemm_shape *s = &p.call.shape;
    ssmq_rng rng = ssmq_rng_from_seed(seed);
    p.host_w = draw(s, s->N * s->K, &rng);
    p.host_bias = draw(s, s->N, &rng);
    p.host_x = draw(s, s->M * s->K, &rng);
    p.call.w = to_device(p.host_w, (size_t)(s->N * s->K) * x_bytes_of(s));
    p.call.x = to_device(p.host_x, (size_t)(s->M * s->K) * x_bytes_of(s));
    p.call.bias = to_device(p.host_bias, (size_t)s->N * x_bytes_of(s));
    const size_t n_bytes = (size_t)(s->M * s->y_ld) * y_bytes_of(s);
    must(cudaMalloc(&p.call.y, n_bytes));
    must(cudaMemset(p.call.y, 0, n_bytes));
    assert_int_equal(ssmq_calloc(&p.y, n_bytes, 1, NULL), SSMQ_OK);
    return p;
}

static void product_free(product *p) {
    must(cudaFree((void *)p->call.w));
    must(cudaFree((void *)p->call.x));
    must(cudaFree((void *)p->call.bias));
    must(cudaFree(p->call.y));
    ssmq_free(p->host_w);
    ssmq_free(p->host_x);
    ssmq_free(p->host_bias);
    ssmq_free(p->y);
}

static void product_run(product *p) {
    const cuda_gemm_shape *s = &p->call.shape;
    ssmq_err err = {0};
    assert_true(cuda_gemv_serves(s, n_sm(), shared_bytes()));
    assert_ok(cuda_gemv(&p->call, n_sm(), false, &err), &err);
    must(cudaMemcpy(p->y, p->call.y, (size_t)(s->M * s->y_ld) * y_bytes_of(s),
                    cudaMemcpyDeviceToHost));
}

static double y_number(const product *p, int64_t at) {
    const cuda_gemm_shape *s = &p->call.shape;
    if (s->format == SSMQ_FORMAT_INT8) return (double)((const int32_t *)p->y)[at];
    if (s->y_dtype == SSMQ_F32) return (double)((const float *)p->y)[at];
    return number(s, p->y, at);
}

/* Of number n of row m. fp32 sums of K terms are off by at most K roundings of the sum of sizes;
 * the order here has far fewer, so a thousandth of that many is still generous. */
static void check_number(const product *p, int64_t m, int64_t n) {
    const cuda_gemm_shape *s = &p->call.shape;
    const double unit = s->y_dtype == SSMQ_BF16 ? 0x1p-8 : (s->y_dtype == SSMQ_F16 ? 0x1p-11 : 0.0);
    double sum = s->has_bias ? number(s, p->host_bias, n) : 0.0, sizes = fabs(sum);
    for (int64_t k = 0; k < s->K; k++) {
        const double term = number(s, p->host_x, m * s->K + k) * number(s, p->host_w, n * s->K + k);
        sum += term;
        sizes += fabs(term);
    }
    const double y = y_number(p, m * s->y_ld + n);
    const double allowed = s->format == SSMQ_FORMAT_INT8 ? 0.0 : fabs(sum) * unit + sizes * 0x1p-20;
    if (!(fabs(y - sum) <= allowed)) {
        fail_msg("M %lld, N %lld, K %lld: number %lld of row %lld is %.9g, not %.9g",
                 (long long)s->M, (long long)s->N, (long long)s->K, (long long)n, (long long)m, y,
                 sum);
    }
}

/* The same rows, one at a time. */
static void check_rows_alone(const product *p) {
    const cuda_gemm_shape *s = &p->call.shape;
    const size_t row_bytes = (size_t)s->y_ld * y_bytes_of(s);
    product alone = *p;
    alone.call.shape.M = 1;
    assert_int_equal(ssmq_calloc(&alone.y, row_bytes, 1, NULL), SSMQ_OK);
    for (int64_t m = 0; m < s->M; m++) {
        alone.call.x = (const char *)p->call.x + (size_t)(m * s->K) * x_bytes_of(s);
        product_run(&alone);
        assert_memory_equal(alone.y, p->y + (size_t)m * row_bytes, (size_t)s->N * y_bytes_of(s));
    }
    ssmq_free(alone.y);
}

static void check_shape(const cuda_gemm_shape *shape, uint64_t seed) {
    enum { CHECKED = 100 };
    product p = product_make(shape, seed);
    const int64_t N = shape->N, step = N > CHECKED ? N / CHECKED : 1;
    product_run(&p);
    for (int64_t m = 0; m < shape->M; m++) {
        for (int64_t n = 0; n < N; n += step) check_number(&p, m, n);
        check_number(&p, m, N - 1);
        for (int64_t i = N; i < shape->y_ld; i++) {
            assert_true(y_number(&p, m * shape->y_ld + i) == 0.0);
        }
    }
    check_rows_alone(&p);
    product_free(&p);
}

static void every_shape(const cuda_gemm_shape *like) {
    for (int i = 0; i < N_SIZES; i++) {
        for (int64_t M = 1; M <= CUDA_GEMV_MAX_ROWS; M++) {
            cuda_gemm_shape shape = *like;
            shape.M = M;
            shape.N = all_sizes[i].N;
            shape.K = all_sizes[i].K;
            shape.y_ld = shape.N + PAD;
            /* Long rows of many sequences do not fit. */
            if (M > 2 && !cuda_gemv_serves(&shape, n_sm(), shared_bytes())) continue;
            check_shape(&shape, (uint64_t)(i * 10 + M));
        }
    }
}

static void numbers_are_right(void **state) {
    static const ssmq_dtype types[] = {SSMQ_F16, SSMQ_BF16};
    (void)state;
    for (int i = 0; i < 2; i++) {
        every_shape(&(cuda_gemm_shape){.dtype = types[i], .y_dtype = types[i], .has_bias = true});
        every_shape(&(cuda_gemm_shape){.dtype = types[i], .y_dtype = SSMQ_F32});
    }
}

static void integer_sums_are_exact(void **state) {
    (void)state;
    every_shape(&(cuda_gemm_shape){.format = SSMQ_FORMAT_INT8, .y_dtype = SSMQ_F32});
}

static void other_products_are_not_served(void **state) {
    const cuda_gemm_shape served = {.M = 1, .N = 64, .K = 64, .y_ld = 64, .dtype = SSMQ_BF16};
    cuda_gemm_shape s = served;
    (void)state;
    assert_true(cuda_gemv_serves(&s, 100, 200 << 10));
    s.M = CUDA_GEMV_MAX_ROWS + 1;
    assert_false(cuda_gemv_serves(&s, 100, 200 << 10));
    s = served;
    s.K = 80;
    assert_false(cuda_gemv_serves(&s, 100, 200 << 10));
    s = served;
    s.dtype = SSMQ_F32;
    assert_false(cuda_gemv_serves(&s, 100, 200 << 10));
    s = served;
    s.format = SSMQ_FORMAT_INT8;
    s.n_groups = 2;
    assert_false(cuda_gemv_serves(&s, 100, 200 << 10));
}

int main(int argc, char **argv) {
    static const engine_check checks[] = {
        {"numbers are right", numbers_are_right, true},
        {"integer sums are exact", integer_sums_are_exact, true},
        {"other products are not served", other_products_are_not_served, true},
    };
    const int status = tested_engine_begin(argc, argv);
    if (status != 0) return status;
    return tested_engine_run("gpu_gemv", checks, sizeof checks / sizeof checks[0], NULL, 0);
}
