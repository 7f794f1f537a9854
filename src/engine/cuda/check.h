/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/check.h - CUDA's error codes as ours. */
#ifndef SSMQ_ENGINE_CUDA_CHECK_H
#define SSMQ_ENGINE_CUDA_CHECK_H

#include <cuda_runtime_api.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* NOMEM for want of device memory, DEVICE for everything else; `call` is the call's text. */
ssmq_status cuda_failed(ssmq_err *err, cudaError_t error, const char *call, const char *file,
                        int line);

#define CUDA_TRY(call, err)                                                                        \
    do {                                                                                           \
        const cudaError_t cuda_try_ = (call);                                                      \
        if (cuda_try_ != cudaSuccess) {                                                            \
            return cuda_failed((err), cuda_try_, #call, __FILE__, __LINE__);                       \
        }                                                                                          \
    } while (0)

/* After every launch. */
#define CUDA_LAUNCHED(err) CUDA_TRY(cudaGetLastError(), err)

#ifdef __cplusplus
}
#endif
#endif
