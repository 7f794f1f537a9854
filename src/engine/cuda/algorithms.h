/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/algorithms.h - the file of measured GEMM algorithms: text, one line a shape, columns
 * separated by tabs,
 *     cublaslt version, device, multiprocessors, M, N, K, y_ld, dtype, y_dtype, bias, algorithm
 * (dtype "int8*20": 20 groups along K; y_dtype "bf16+24": Y is columns from 24 on of a wider one),
 * the last in hexadecimal (64 bytes that the same library version restores). Ranks append whole
 * lines; the first line of a key counts, so that all agree. Without a file, choices live as long as
 * the engine. */
#ifndef SSMQ_ENGINE_CUDA_ALGORITHMS_H
#define SSMQ_ENGINE_CUDA_ALGORITHMS_H

#include "engine/cuda/gemm.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cuda_algorithms cuda_algorithms;

/* The first ten columns. */
typedef struct cuda_algorithm_key {
    char text[512];
} cuda_algorithm_key;

/* Of a shape on the current device.  Fails: DEVICE. */
SSMQ_MUST_USE ssmq_status cuda_algorithm_key_init(cuda_algorithm_key *out,
                                                  const cuda_gemm_shape *shape, size_t version,
                                                  ssmq_err *err);

/* path may be NULL; the file need not exist.  Owns: *out, cuda_algorithms_close().  Fails: NOMEM,
 * CONFIG (path too long). */
SSMQ_MUST_USE ssmq_status cuda_algorithms_open(cuda_algorithms **out, const char *path,
                                               ssmq_err *err);
void cuda_algorithms_close(cuda_algorithms *algorithms); /* NULL is a no-op */

/* The bytes of a key's algorithm; false if the file has none, or cannot be read. */
bool cuda_algorithms_find(cuda_algorithms *algorithms, const cuda_algorithm_key *key, void *bytes,
                          size_t n_bytes);
/* Appends a line.  Fails: IO. */
SSMQ_MUST_USE ssmq_status cuda_algorithms_add(cuda_algorithms *algorithms,
                                              const cuda_algorithm_key *key, const void *bytes,
                                              size_t n_bytes, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
