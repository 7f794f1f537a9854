/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <time.h>

enum { NS_PER_S = 1000000000 };

int64_t ssmq_now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * NS_PER_S + now.tv_nsec;
}

void ssmq_sleep_ns(int64_t duration_ns) {
    struct timespec left = {.tv_sec = duration_ns / NS_PER_S, .tv_nsec = duration_ns % NS_PER_S};
    while (nanosleep(&left, &left) != 0 && errno == EINTR) {
    }
}

static void utc(char *out, const char *format) {
    time_t now = time(NULL);
    struct tm parts;
    out[0] = '\0';
    if (gmtime_r(&now, &parts) != NULL) (void)strftime(out, SSMQ_UTC_BYTES, format, &parts);
}

void ssmq_utc_iso(char *out) {
    utc(out, "%Y-%m-%dT%H:%M:%SZ");
}

void ssmq_utc_compact(char *out) {
    utc(out, "%Y%m%dT%H%M%SZ");
}
