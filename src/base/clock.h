/* SPDX-License-Identifier: Apache-2.0 */
/* base/clock.h - wall time for people, monotonic time for measurements. */
#ifndef SSMQ_BASE_CLOCK_H
#define SSMQ_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Monotonic nanoseconds; only differences mean anything. */
int64_t ssmq_now_ns(void);

/* Blocks for about this long. */
void ssmq_sleep_ns(int64_t duration_ns);

enum { SSMQ_UTC_BYTES = 24 };

/* Current UTC time into out[SSMQ_UTC_BYTES]: "2026-11-23T04:28:26Z". */
void ssmq_utc_iso(char *out);
/* The same for names of files: "20261123T042826Z". */
void ssmq_utc_compact(char *out);

#ifdef __cplusplus
}
#endif
#endif
