/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/gemm.h - matrix products over cuBLASLt. The home of cublasLt.h.
 *
 *   FLOAT     Y[M, N] = X[M, K] W[N, K]^T + bias[N], fp32 accumulation, one rounding to Y's type
 *   INT8      Y[n_groups, M, N] int32 = exact sums over each group of K columns apart: X is
 *             [M, n_groups * K], W [N, n_groups * K]
 *   FP8_E4M3  Y[M, N] = sum of products * w_scales[N] * x_scales[M], fp32 accumulation, rounded
 *
 * Which algorithm: by default a fixed function of N, K, the types, the device, the library version
 * and whether it is prefill or decode - never of M - and without split-K, so that a row's bits do
 * not depend on how many other rows there are. For timed work it is the fastest of all heuristics,
 * measured once for each M and kept in a file that ranks and reruns share. */
#ifndef SSMQ_ENGINE_CUDA_GEMM_H
#define SSMQ_ENGINE_CUDA_GEMM_H

#include <cuda_runtime_api.h>

#include "base/status.h"
#include "engine/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cuda_gemms cuda_gemms;

enum {
    CUDA_GEMM_WORKSPACE_BYTES = 32 << 20,
    /* X and Y of a decode product have room for M rounded up to a multiple of this: with fixed
     * algorithms it runs in pieces of so many rows, and what lies past M is read and written. */
    CUDA_GEMM_PAD_ROWS = 16
};

/* A product's shape. X and W are dense: their leading dimension is K, or n_groups * K. */
typedef struct cuda_gemm_shape {
    int64_t M, N, K;
    int64_t y_ld;       /* of Y, in numbers, >= N */
    int64_t y_first;    /* numbers before Y in a row of a wider matrix: how Y is aligned */
    ssmq_format format; /* of X and W: FLOAT (their type is dtype), INT8 or FP8_E4M3 */
    int64_t n_groups;   /* of INT8; elsewhere 0 or 1 */
    ssmq_dtype dtype;   /* of X, W and bias */
    ssmq_dtype y_dtype; /* of Y, unless that is int32 */
    bool has_bias;      /* of FLOAT */
    bool is_decode;
} cuda_gemm_shape;

typedef struct cuda_gemm_call {
    cuda_gemm_shape shape;
    const void *x, *w, *bias;
    const float *x_scales, *w_scales; /* of FP8_E4M3 */
    void *y;
    cudaStream_t stream;
} cuda_gemm_call;

/* algorithms_path may be NULL.  Owns: *out, cuda_gemms_close().  Fails: NOMEM, DEVICE, IO. */
SSMQ_MUST_USE ssmq_status cuda_gemms_open(cuda_gemms **out, const char *algorithms_path,
                                          ssmq_err *err);
void cuda_gemms_close(cuda_gemms *gemms); /* NULL is a no-op */

/* Scratch of CUDA_GEMM_WORKSPACE_BYTES on the device, borrowed until the next call. */
void cuda_gemms_set_workspace(cuda_gemms *gemms, void *workspace);
/* From here on algorithms are measured, or fixed. */
void cuda_gemms_set_timed(cuda_gemms *gemms, bool is_timed);

/* Chooses the algorithm of a shape before it is needed. With measured algorithms the weights
 * w[n_w] (of n_w layers, read in turn so that they come from memory) and the buffers of `call`
 * are used, and y is overwritten.  Fails: SKIP (no algorithm for this shape), DEVICE, NOMEM. */
SSMQ_MUST_USE ssmq_status cuda_gemms_prepare(cuda_gemms *gemms, const cuda_gemm_call *call,
                                             const void *const *w, int64_t n_w, ssmq_err *err);

/* Launches the product; a shape that was not prepared is prepared here, which must not happen
 * while a graph is captured.  Fails: as prepare. */
SSMQ_MUST_USE ssmq_status cuda_gemm(cuda_gemms *gemms, const cuda_gemm_call *call, ssmq_err *err);

/* The library's numbers of the algorithms chosen so far for a format and a type, in ascending
 * order: "21,66". What does not fit is left out. */
void cuda_gemms_name_algorithms(const cuda_gemms *gemms, ssmq_format format, ssmq_dtype dtype,
                                char *out, size_t out_bytes);

/* "13.1.0" of the library that runs. */
void cuda_gemms_version(char *out, size_t out_bytes);

#ifdef __cplusplus
}
#endif
#endif
