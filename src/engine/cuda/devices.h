/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/devices.h - the GPUs of this machine. */
#ifndef SSMQ_ENGINE_CUDA_DEVICES_H
#define SSMQ_ENGINE_CUDA_DEVICES_H

#include "engine/device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* As ssmq_engine_gpus(). */
int cuda_list_gpus(ssmq_gpu *out, int max_gpus, const char **reason);

#ifdef __cplusplus
}
#endif
#endif
