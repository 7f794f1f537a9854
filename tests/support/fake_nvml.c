/* SPDX-License-Identifier: Apache-2.0 */
/* A libnvidia-ml.so.1 for tests, with one GPU at 0000:1B:00.0. FAKE_NVML_OLD gives the throttle
 * reasons the name they had before driver 535. The environment variable FAKE_NVML names calls that
 * fail: init, clock, temperature, reasons, version. */
#include <stdlib.h>
#include <string.h>

static int fails(const char *call) {
    const char *failing = getenv("FAKE_NVML");
    return failing != NULL && strstr(failing, call) != NULL ? 999 : 0;
}

static int n_open;
static char gpu;

int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlDeviceGetHandleByPciBusId_v2(const char *pci_bus_id, void **device);
int nvmlDeviceGetClockInfo(void *device, int type, unsigned int *mhz);
int nvmlDeviceGetTemperature(void *device, int sensor, unsigned int *celsius);
int nvmlDeviceGetCurrentClocksEventReasons(void *device, unsigned long long *reasons);
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons);
int nvmlSystemGetDriverVersion(char *out, unsigned int n_bytes);

int nvmlInit_v2(void) {
    n_open++;
    return fails("init");
}

int nvmlShutdown(void) {
    n_open--;
    return 0;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *pci_bus_id, void **device) {
    if (strcmp(pci_bus_id, "0000:1B:00.0") != 0) return 6;
    *device = &gpu;
    return 0;
}

int nvmlDeviceGetClockInfo(void *device, int type, unsigned int *mhz) {
    if (device != &gpu || n_open != 1 || type < 1 || type > 2) return 2;
    *mhz = type == 1 ? 1980 : 2619;
    return fails("clock");
}

int nvmlDeviceGetTemperature(void *device, int sensor, unsigned int *celsius) {
    if (device != &gpu || n_open != 1 || sensor != 0) return 2;
    *celsius = 47;
    return fails("temperature");
}

#ifdef FAKE_NVML_OLD
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons) {
#else
int nvmlDeviceGetCurrentClocksEventReasons(void *device, unsigned long long *reasons) {
#endif
    if (device != &gpu || n_open != 1) return 2;
    *reasons = 0x44;
    return fails("reasons");
}

int nvmlSystemGetDriverVersion(char *out, unsigned int n_bytes) {
    static const char version[] = "580.82.07";
    if (n_bytes < 80) return 7;
    memcpy(out, version, sizeof version);
    return fails("version");
}
