/* SPDX-License-Identifier: Apache-2.0 */
/* engine/device.h - the devices that engines run on, whatever model they run. */
#ifndef SSMQ_ENGINE_DEVICE_H
#define SSMQ_ENGINE_DEVICE_H

#include "base/status.h"
#include "model/shapes.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Number of devices that an accelerator engine of this build can use; 0 without such an engine. */
int ssmq_engine_n_devices(void);

/* What a device reaches on its own, measured: the ceilings that bench compares with. */
typedef struct ssmq_ceilings {
    double copy_bytes_per_s; /* large device-to-device copy, bytes read and written */
    double gemm_flops;       /* FLOP/s of an 8192^3 product in dtype, fp32 accumulation */
} ssmq_ceilings;
/* Medians of repeated runs on random numbers.  Fails: SKIP (no device of this kind), NOMEM,
 * DEVICE. */
SSMQ_MUST_USE ssmq_status ssmq_engine_ceilings(int device_idx, ssmq_dtype dtype, ssmq_ceilings *out,
                                               ssmq_err *err);

/* A GPU that the CUDA runtime shows. */
typedef struct ssmq_gpu {
    char name[96];
    int major, minor; /* compute capability */
    int64_t memory_bytes;
    bool has_bf16; /* products in bf16 on tensor cores; otherwise fp16 */
} ssmq_gpu;

/* Visible GPUs into out[max_gpus]; returns how many. With none, *reason says why (static text):
 * this build has no CUDA, there is no driver, or no device. */
int ssmq_engine_gpus(ssmq_gpu *out, int max_gpus, const char **reason);

#ifdef __cplusplus
}
#endif
#endif
