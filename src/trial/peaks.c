/* SPDX-License-Identifier: Apache-2.0 */
#include "trial/peaks.h"

#include <string.h>

static int64_t larger(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static int32_t lower_known(int32_t a, int32_t b) {
    if (a < 0) return b;
    return b < 0 || a < b ? a : b;
}

void ssmq_peaks_init(ssmq_engine_stats *peaks) {
    memset(peaks, 0, sizeof *peaks);
    peaks->sm_clock_mhz = -1;
    peaks->memory_clock_mhz = -1;
    peaks->temperature_c = -1;
    peaks->throttle_reasons = -1;
}

void ssmq_peaks_add(ssmq_engine_stats *peaks, const ssmq_engine_stats *now) {
    peaks->weight_bytes = larger(peaks->weight_bytes, now->weight_bytes);
    peaks->state_bytes = larger(peaks->state_bytes, now->state_bytes);
    peaks->activation_bytes = larger(peaks->activation_bytes, now->activation_bytes);
    peaks->workspace_bytes = larger(peaks->workspace_bytes, now->workspace_bytes);
    peaks->peak_bytes = larger(peaks->peak_bytes, now->peak_bytes);
    peaks->sm_clock_mhz = lower_known(peaks->sm_clock_mhz, now->sm_clock_mhz);
    peaks->memory_clock_mhz = lower_known(peaks->memory_clock_mhz, now->memory_clock_mhz);
    peaks->temperature_c = (int32_t)larger(peaks->temperature_c, now->temperature_c);
    if (now->throttle_reasons < 0) return;
    peaks->throttle_reasons = larger(peaks->throttle_reasons, 0) | now->throttle_reasons;
}
