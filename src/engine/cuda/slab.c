/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/slab.c - memory of the device in large pieces. */
#include "engine/cuda/check.h"
#include "engine/cuda/cuda_engine.h"

void cuda_slab_free(cuda_slab *slab) {
    (void)cudaFree(slab->bytes);
    slab->bytes = NULL;
    slab->n_bytes = 0;
}

ssmq_status cuda_slab_reserve(cuda_slab *slab, int64_t n_bytes, ssmq_err *err) {
    if (slab->n_bytes >= n_bytes && slab->bytes != NULL) return SSMQ_OK;
    cuda_slab_free(slab);
    const cudaError_t error = cudaMalloc((void **)&slab->bytes, (size_t)n_bytes);
    if (error != cudaSuccess) {
        /* Out of memory is not sticky, but it stays behind as the last error. */
        (void)cudaGetLastError();
        slab->bytes = NULL;
        size_t n_free = 0, n_total = 0;
        if (error == cudaErrorMemoryAllocation &&
            cudaMemGetInfo(&n_free, &n_total) == cudaSuccess) {
            return SSMQ_FAIL(err, NOMEM, "no %lld bytes of device memory; %zu of %zu are free",
                             (long long)n_bytes, n_free, n_total);
        }
        return cuda_failed(err, error, "cudaMalloc", __FILE__, __LINE__);
    }
    slab->n_bytes = n_bytes;
    return SSMQ_OK;
}
