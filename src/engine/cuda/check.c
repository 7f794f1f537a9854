/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/cuda/check.h"

ssmq_status cuda_failed(ssmq_err *err, cudaError_t error, const char *call, const char *file,
                        int line) {
    const ssmq_status status = error == cudaErrorMemoryAllocation ? SSMQ_NOMEM : SSMQ_DEVICE;
    return ssmq_err_set(err, status, file, line, "CUDA error %d, %s, in %s", (int)error,
                        cudaGetErrorString(error), call);
}
