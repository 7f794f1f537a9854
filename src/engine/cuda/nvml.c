/* SPDX-License-Identifier: Apache-2.0 */
/* NVML by name. Its header comes with the CUDA toolkit only sometimes, so the few functions that
 * are used are declared here, as its manual gives them (a result of 0 is success). */
#include "engine/cuda/nvml.h"

#include <dlfcn.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

enum {
    NVML_SUCCESS = 0,
    NVML_CLOCK_SM = 1,
    NVML_CLOCK_MEM = 2,
    NVML_TEMPERATURE_GPU = 0,
    VERSION_BYTES = 96 /* NVML asks for 80 */
};

typedef int nvml_init(void);
typedef int nvml_shutdown(void);
typedef int nvml_find(const char *pci_bus_id, void **device);
typedef int nvml_clock(void *device, int type, unsigned int *mhz);
typedef int nvml_temperature(void *device, int sensor, unsigned int *celsius);
typedef int nvml_reasons(void *device, unsigned long long *reasons);
typedef int nvml_version(char *out, unsigned int n_bytes);

struct cuda_nvml {
    void *library;
    void *device; /* NULL if NVML does not know it */
    nvml_shutdown *shutdown;
    /* NULL where this version of NVML has none. */
    nvml_clock *clock;
    nvml_temperature *temperature;
    nvml_reasons *reasons;
    nvml_version *version;
};

/* The function of a name into *out, which is a function pointer of its type, or NULL. */
static void find(const cuda_nvml *nvml, const char *name, void *out) {
    /* ISO C has no conversion from void * to a function pointer; POSIX says that both are the same
     * bytes. */
    void *symbol = dlsym(nvml->library, name);
    memcpy(out, &symbol, sizeof symbol);
}

static void find_functions(cuda_nvml *nvml) {
    find(nvml, "nvmlShutdown", &nvml->shutdown);
    find(nvml, "nvmlDeviceGetClockInfo", &nvml->clock);
    find(nvml, "nvmlDeviceGetTemperature", &nvml->temperature);
    find(nvml, "nvmlDeviceGetCurrentClocksEventReasons", &nvml->reasons);
    if (nvml->reasons == NULL) {
        find(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", &nvml->reasons);
    }
    find(nvml, "nvmlSystemGetDriverVersion", &nvml->version);
}

static void find_device(cuda_nvml *nvml, const char *pci_bus_id) {
    nvml_find *by_bus_id = NULL;
    find(nvml, "nvmlDeviceGetHandleByPciBusId_v2", &by_bus_id);
    if (by_bus_id == NULL || by_bus_id(pci_bus_id, &nvml->device) != NVML_SUCCESS) {
        nvml->device = NULL;
    }
}

cuda_nvml *cuda_nvml_open(const char *pci_bus_id) {
    cuda_nvml *nvml = NULL;
    nvml_init *init = NULL;
    if (ssmq_calloc(&nvml, 1, sizeof *nvml, NULL) != SSMQ_OK) return NULL;
    nvml->library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (nvml->library == NULL) goto none;
    find(nvml, "nvmlInit_v2", &init);
    if (init == NULL || init() != NVML_SUCCESS) goto none;
    find_functions(nvml);
    find_device(nvml, pci_bus_id);
    return nvml;
none:
    if (nvml->library != NULL) (void)dlclose(nvml->library);
    ssmq_free(nvml);
    return NULL;
}

void cuda_nvml_close(cuda_nvml *nvml) {
    if (nvml == NULL) return;
    if (nvml->shutdown != NULL) (void)nvml->shutdown();
    (void)dlclose(nvml->library);
    ssmq_free(nvml);
}

static int32_t clock_of(const cuda_nvml *nvml, int type) {
    unsigned int mhz = 0;
    if (nvml->clock == NULL || nvml->clock(nvml->device, type, &mhz) != NVML_SUCCESS) return -1;
    return mhz <= INT32_MAX ? (int32_t)mhz : -1;
}

static int32_t temperature_of(const cuda_nvml *nvml) {
    unsigned int celsius = 0;
    if (nvml->temperature == NULL ||
        nvml->temperature(nvml->device, NVML_TEMPERATURE_GPU, &celsius) != NVML_SUCCESS) {
        return -1;
    }
    return celsius <= INT32_MAX ? (int32_t)celsius : -1;
}

static int64_t reasons_of(const cuda_nvml *nvml) {
    unsigned long long reasons = 0;
    if (nvml->reasons == NULL || nvml->reasons(nvml->device, &reasons) != NVML_SUCCESS) return -1;
    return reasons <= INT64_MAX ? (int64_t)reasons : -1;
}

void cuda_nvml_read(const cuda_nvml *nvml, ssmq_engine_stats *out) {
    const bool is_known = nvml != NULL && nvml->device != NULL;
    out->sm_clock_mhz = is_known ? clock_of(nvml, NVML_CLOCK_SM) : -1;
    out->memory_clock_mhz = is_known ? clock_of(nvml, NVML_CLOCK_MEM) : -1;
    out->temperature_c = is_known ? temperature_of(nvml) : -1;
    out->throttle_reasons = is_known ? reasons_of(nvml) : -1;
}

bool cuda_nvml_driver(const cuda_nvml *nvml, char *out, size_t n_bytes) {
    char version[VERSION_BYTES] = "";
    const bool is_known = nvml != NULL && nvml->version != NULL &&
                          nvml->version(version, sizeof version) == NVML_SUCCESS;
    version[sizeof version - 1] = '\0';
    ssmq_field_set(out, n_bytes, is_known ? version : "");
    return is_known;
}
