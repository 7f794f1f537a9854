/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/gemv.h - products of few rows by a kernel of our own, for decode: where a library's
 * product waits for its input before it asks for weights, this one has them on their way, and it is
 * a link of the chain of kernels (chain.cuh). Internal to this folder.
 *
 * It computes what cuda_gemm() does: FLOAT with fp32 accumulation and one rounding, INT8 with exact
 * int32 sums. A row's bits depend on K and the types alone. */
#ifndef SSMQ_ENGINE_CUDA_GEMV_H
#define SSMQ_ENGINE_CUDA_GEMV_H

#include "engine/cuda/gemm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rows of X that a product may have. */
enum { CUDA_GEMV_MAX_ROWS = 8 };

/* True if cuda_gemv() computes this product on a device of n_sm multiprocessors whose blocks may
 * take max_shared_bytes of shared memory. */
bool cuda_gemv_serves(const cuda_gemm_shape *shape, int n_sm, int64_t max_shared_bytes);

/* Launches the product. Of X and Y only M rows are touched.  Fails: DEVICE. */
SSMQ_MUST_USE ssmq_status cuda_gemv(const cuda_gemm_call *call, int n_sm, bool is_chained,
                                    ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
