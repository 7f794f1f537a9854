/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/cuda/devices.h"

#include <string.h>

#include <cuda_runtime_api.h>

#include "base/str.h"

/* bf16 tensor cores came with this compute capability. */
enum { BF16_MAJOR = 8 };

static bool describe_gpu(ssmq_gpu *out, int device_idx) {
    struct cudaDeviceProp properties;
    if (cudaGetDeviceProperties(&properties, device_idx) != cudaSuccess) return false;
    memset(out, 0, sizeof *out);
    ssmq_field_set(out->name, sizeof out->name, properties.name);
    out->major = properties.major;
    out->minor = properties.minor;
    out->memory_bytes = (int64_t)properties.totalGlobalMem;
    out->has_bf16 = properties.major >= BF16_MAJOR;
    return true;
}

int cuda_list_gpus(ssmq_gpu *out, int max_gpus, const char **reason) {
    int n_devices = 0;
    /* Without a driver the runtime says so here and leaves the count as it was. */
    const cudaError_t error = cudaGetDeviceCount(&n_devices);
    *reason = "";
    if (error != cudaSuccess) {
        *reason = cudaGetErrorString(error);
        return 0;
    }
    if (n_devices == 0) *reason = "the driver shows no device";
    int n_listed = 0;
    for (int i = 0; i < n_devices && n_listed < max_gpus; i++) {
        n_listed += describe_gpu(&out[n_listed], i);
    }
    if (n_devices > 0 && n_listed == 0 && max_gpus > 0) *reason = "no device can be read";
    return n_listed;
}
