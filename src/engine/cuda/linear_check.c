/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/linear_check.c - products of codes on the device against the same products on the
 * host, before any number of a trial depends on them. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "engine/cuda/check.h"
#include "engine/cuda/linear.h"
#include "quant/e4m3.h"

enum {
    STEP_ROWS = 3,
    SEGMENT_ROWS = 200, /* of which the first, one between and the last are looked at */
    ROOM_ROWS = 208,
    N_LOOKED_AT = 3,
    RUN = 64, /* codes of one kind in a row */
    N_CODES = 256
};

/* Operands and sums of one block's product, here and on the device. */
typedef struct bench {
    const cuda_linear *linear;
    const cuda_block *block;
    cudaStream_t stream;
    int8_t *x, *w;              /* [ROOM_ROWS, ld], [N, ld] */
    float *x_scales, *w_scales; /* [ROOM_ROWS], [N] of fp8 */
    void *sums;                 /* [n_groups, ROOM_ROWS, N] int32, or fp32 of fp8 */
    int64_t n_sums;
    double values[N_CODES]; /* of e4m3 codes */
    char *device;           /* the same, and the library's workspace */
    char *device_x, *device_w, *device_x_scales, *device_w_scales, *device_sums;
} bench;

static bool is_fp8(const bench *b) {
    return b->linear->w_format == SSMQ_FORMAT_FP8_E4M3;
}

/* Runs of random codes, of the largest and of the smallest. */
static int8_t draw(ssmq_rng *rng, ssmq_format format, int64_t i) {
    const int64_t kind = i / RUN % 4;
    if (format == SSMQ_FORMAT_FP8_E4M3) {
        const uint8_t largest = 0x7e; /* 448; the code above is NaN */
        const uint8_t sign = kind == 2 || (kind != 1 && ssmq_rng_below(rng, 2) == 1) ? 0x80 : 0;
        const bool is_extreme = kind == 1 || kind == 2;
        return (int8_t)(sign | (is_extreme ? largest : ssmq_rng_below(rng, largest + 1)));
    }
    const int64_t qmax = (int64_t)ssmq_format_get(format)->qmax;
    if (kind == 1) return (int8_t)qmax;
    if (kind == 2) return (int8_t)-qmax;
    return (int8_t)((int64_t)ssmq_rng_below(rng, (uint64_t)(2 * qmax + 1)) - qmax);
}

/* Weights have zeros where their layout has padding; activations may have anything there. */
static void fill(bench *b) {
    const cuda_linear *l = b->linear;
    const cuda_code_shape *s = &l->codes;
    ssmq_rng rng = ssmq_rng_from_text("products of codes");
    for (int i = 0; i < N_CODES; i++) b->values[i] = (double)ssmq_e4m3_decode((uint8_t)i);
    for (int64_t i = 0; i < ROOM_ROWS * s->ld; i++) b->x[i] = draw(&rng, l->a_format, i);
    for (int64_t n = 0; n < b->block->rows; n++) {
        for (int64_t k = 0; k < s->columns; k++) {
            const int64_t at = k / s->group_columns * s->group_ld + k % s->group_columns;
            b->w[n * s->ld + at] = draw(&rng, l->w_format, k + n * RUN / 2);
        }
        b->w_scales[n] = 0.5f + (float)(n % 7) / 8.0f;
    }
    for (int64_t m = 0; m < ROOM_ROWS; m++) b->x_scales[m] = 1.0f + (float)m / 64.0f;
}

static ssmq_status upload(const bench *b, ssmq_err *err) {
    const int64_t ld = b->linear->codes.ld, N = b->block->N;
    const struct {
        void *to;
        const void *from;
        int64_t n_bytes;
    } pieces[] = {
        {b->device_x, b->x, ROOM_ROWS * ld},
        {b->device_w, b->w, N * ld},
        {b->device_x_scales, b->x_scales, ROOM_ROWS * (int64_t)sizeof(float)},
        {b->device_w_scales, b->w_scales, N * (int64_t)sizeof(float)},
    };
    for (size_t i = 0; i < sizeof pieces / sizeof pieces[0]; i++) {
        CUDA_TRY(cudaMemcpyAsync(pieces[i].to, pieces[i].from, (size_t)pieces[i].n_bytes,
                                 cudaMemcpyHostToDevice, b->stream),
                 err);
    }
    return SSMQ_OK;
}

/* Sums of M rows into b->sums. */
static ssmq_status multiply(const bench *b, cuda_gemms *gemms, int64_t M, bool is_decode,
                            ssmq_err *err) {
    const cuda_linear *l = b->linear;
    const cuda_gemm_call call = {
        .shape = {.M = M,
                  .N = b->block->N,
                  .K = l->codes.group_ld,
                  .y_ld = b->block->N,
                  .format = is_fp8(b) ? SSMQ_FORMAT_FP8_E4M3 : SSMQ_FORMAT_INT8,
                  .n_groups = l->codes.n_groups,
                  .dtype = l->dtype,
                  .y_dtype = SSMQ_F32,
                  .is_decode = is_decode},
        .x = b->device_x,
        .w = b->device_w,
        .x_scales = (const float *)b->device_x_scales,
        .w_scales = (const float *)b->device_w_scales,
        .y = b->device_sums,
        .stream = b->stream,
    };
    const size_t n_bytes = (size_t)b->n_sums * sizeof(int32_t);
    /* Sums that nobody wrote are wrong. */
    CUDA_TRY(cudaMemsetAsync(b->device_sums, 0x55, n_bytes, b->stream), err);
    SSMQ_TRY(cuda_gemm(gemms, &call, err));
    CUDA_TRY(cudaMemcpyAsync(b->sums, b->device_sums, n_bytes, cudaMemcpyDeviceToHost, b->stream),
             err);
    CUDA_TRY(cudaStreamSynchronize(b->stream), err);
    return SSMQ_OK;
}

/* Of n codes from x and w. */
static int32_t exact_sum(const int8_t *x, const int8_t *w, int64_t n) {
    int32_t sum = 0;
    for (int64_t k = 0; k < n; k++) sum += (int32_t)x[k] * w[k];
    return sum;
}

/* An fp8 tensor core keeps fewer bits of a sum than fp32 does: an error of 1 in 512 of the sum of
 * magnitudes is far more than it makes, and far less than a wrong operand or scale. */
static bool is_near(const double *values, const int8_t *x, const int8_t *w, int64_t n, double scale,
                    float got) {
    const double allowed = 1.0 / 512.0;
    double sum = 0.0, magnitudes = 0.0;
    for (int64_t k = 0; k < n; k++) {
        const double term = values[(uint8_t)x[k]] * values[(uint8_t)w[k]];
        sum += term;
        magnitudes += fabs(term);
    }
    return fabs((double)got - sum * scale) <= allowed * magnitudes * scale;
}

/* How many sums of row m of M are wrong. fp8 is looked at in one channel of eight: it is slow. */
static int64_t count_wrong(const bench *b, int64_t M, int64_t m) {
    enum { FP8_STEP = 8 };
    const cuda_code_shape *s = &b->linear->codes;
    const int64_t N = b->block->N;
    int64_t n_wrong = 0;
    for (int64_t g = 0; g < s->n_groups; g++) {
        const int8_t *x = b->x + m * s->ld + g * s->group_ld;
        for (int64_t n = 0; n < N; n += is_fp8(b) ? FP8_STEP : 1) {
            const int8_t *w = b->w + n * s->ld + g * s->group_ld;
            const int64_t at = (g * M + m) * N + n;
            if (is_fp8(b)) {
                const double scale = (double)b->x_scales[m] * (double)b->w_scales[n];
                n_wrong +=
                    !is_near(b->values, x, w, s->group_ld, scale, ((const float *)b->sums)[at]);
            } else {
                n_wrong += exact_sum(x, w, s->group_ld) != ((const int32_t *)b->sums)[at];
            }
        }
    }
    return n_wrong;
}

static ssmq_status check_rows(const bench *b, cuda_gemms *gemms, int64_t M, bool is_decode,
                              ssmq_err *err) {
    const int64_t looked_at[N_LOOKED_AT] = {0, M / 2, M - 1};
    const cuda_code_shape *s = &b->linear->codes;
    int64_t n_wrong = 0;
    SSMQ_TRY(multiply(b, gemms, M, is_decode, err));
    for (int i = 0; i < N_LOOKED_AT; i++) n_wrong += count_wrong(b, M, looked_at[i]);
    if (n_wrong == 0) return SSMQ_OK;
    return SSMQ_FAIL(err, SKIP,
                     "cuBLASLt's %s product of M %lld, N %lld, K %lld in %lld groups is wrong on "
                     "this device: %lld sums of %d rows are not those of the CPU",
                     is_fp8(b) ? "fp8_e4m3" : "int8", (long long)M, (long long)b->block->N,
                     (long long)s->columns, (long long)s->n_groups, (long long)n_wrong,
                     N_LOOKED_AT);
}

static ssmq_status check_block(bench *b, cuda_gemms *gemms, ssmq_err *err) {
    fill(b);
    SSMQ_TRY(upload(b, err));
    SSMQ_TRY(check_rows(b, gemms, STEP_ROWS, true, err));
    return check_rows(b, gemms, SEGMENT_ROWS, false, err);
}

static int64_t aligned(int64_t n_bytes) {
    enum { ALIGN_BYTES = 256 };
    return (n_bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

/* Host memory first, then the device's in one piece, of which the workspace is the first. */
static ssmq_status reserve(bench *b, ssmq_err *err) {
    const int64_t ld = b->linear->codes.ld, N = b->block->N;
    b->n_sums = b->linear->codes.n_groups * ROOM_ROWS * N;
    SSMQ_TRY(ssmq_calloc(&b->x, (size_t)(ROOM_ROWS * ld), 1, err));
    SSMQ_TRY(ssmq_calloc(&b->w, (size_t)(N * ld), 1, err));
    SSMQ_TRY(ssmq_calloc(&b->x_scales, ROOM_ROWS, sizeof(float), err));
    SSMQ_TRY(ssmq_calloc(&b->w_scales, (size_t)N, sizeof(float), err));
    SSMQ_TRY(ssmq_calloc(&b->sums, (size_t)b->n_sums, sizeof(int32_t), err));
    const struct {
        char **piece;
        int64_t n_bytes;
    } pieces[] = {
        {&b->device_x, ROOM_ROWS * ld},
        {&b->device_w, N * ld},
        {&b->device_x_scales, ROOM_ROWS * (int64_t)sizeof(float)},
        {&b->device_w_scales, N * (int64_t)sizeof(float)},
        {&b->device_sums, b->n_sums * (int64_t)sizeof(int32_t)},
    };
    enum { N_PIECES = sizeof pieces / sizeof pieces[0] };
    int64_t n_bytes = CUDA_GEMM_WORKSPACE_BYTES;
    for (int i = 0; i < N_PIECES; i++) n_bytes += aligned(pieces[i].n_bytes);
    const cudaError_t error = cudaMalloc((void **)&b->device, (size_t)n_bytes);
    if (error != cudaSuccess) {
        (void)cudaGetLastError();
        b->device = NULL;
        return cuda_failed(err, error, "cudaMalloc", __FILE__, __LINE__);
    }
    char *next = b->device + CUDA_GEMM_WORKSPACE_BYTES;
    for (int i = 0; i < N_PIECES; i++) {
        *pieces[i].piece = next;
        next += aligned(pieces[i].n_bytes);
    }
    return SSMQ_OK;
}

static void bench_free(bench *b) {
    ssmq_free(b->x);
    ssmq_free(b->w);
    ssmq_free(b->x_scales);
    ssmq_free(b->w_scales);
    ssmq_free(b->sums);
    (void)cudaFree(b->device);
}

ssmq_status cuda_linear_check(const cuda_linear *linear, const cuda_block *block, cuda_gemms *gemms,
                              cudaStream_t stream, ssmq_err *err) {
    bench b = {.linear = linear, .block = block, .stream = stream};
    ssmq_status status = reserve(&b, err);
    if (status == SSMQ_OK) {
        cuda_gemms_set_workspace(gemms, b.device);
        cuda_gemms_set_timed(gemms, false);
        status = check_block(&b, gemms, err);
        cuda_gemms_set_workspace(gemms, NULL);
    }
    bench_free(&b);
    return status;
}
