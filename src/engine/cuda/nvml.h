/* SPDX-License-Identifier: Apache-2.0 */
/* engine/cuda/nvml.h - clocks, temperature and driver of a GPU through NVML, opened at run time and
 * never linked: a machine without it has these facts unknown. */
#ifndef SSMQ_ENGINE_CUDA_NVML_H
#define SSMQ_ENGINE_CUDA_NVML_H

#include <stdbool.h>
#include <stddef.h>

#include "engine/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cuda_nvml cuda_nvml;

/* The device at a PCI address as cudaDeviceGetPCIBusId() gives it. NULL where there is no NVML or
 * it does not start, which is no error. A device that NVML does not know leaves clocks unknown.
 * Owns: the result, cuda_nvml_close(). */
cuda_nvml *cuda_nvml_open(const char *pci_bus_id);
void cuda_nvml_close(cuda_nvml *nvml); /* NULL is a no-op */

/* Fills sm_clock_mhz, memory_clock_mhz, temperature_c and throttle_reasons as they are now, -1
 * where a call fails or nvml is NULL; leaves the rest alone. Some tens of microseconds. */
void cuda_nvml_read(const cuda_nvml *nvml, ssmq_engine_stats *out);

/* Version of the driver, e.g. "580.82.07", into out[n_bytes]; false and "" where unknown. */
bool cuda_nvml_driver(const cuda_nvml *nvml, char *out, size_t n_bytes);

#ifdef __cplusplus
}
#endif
#endif
