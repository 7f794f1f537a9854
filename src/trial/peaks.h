/* SPDX-License-Identifier: Apache-2.0 */
/* trial/peaks.h - what an engine's statistics came to over several calls, in one of them. */
#ifndef SSMQ_TRIAL_PEAKS_H
#define SSMQ_TRIAL_PEAKS_H

#include "engine/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

/* No call yet: zero bytes, nothing known of the device. */
void ssmq_peaks_init(ssmq_engine_stats *peaks);

/* Counts a call in: largest bytes and temperature, lowest clocks, all throttle reasons. What the
 * device does not tell (-1) changes nothing; times are left alone. */
void ssmq_peaks_add(ssmq_engine_stats *peaks, const ssmq_engine_stats *now);

#ifdef __cplusplus
}
#endif
#endif
