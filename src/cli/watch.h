/* SPDX-License-Identifier: Apache-2.0 */
/* cli/watch.h - what a running sweep is doing, from its run folder alone. */
#ifndef SSMQ_CLI_WATCH_H
#define SSMQ_CLI_WATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* True if a sweep holds the folder's lock; asks without taking it. */
bool ssmq_run_is_running(const char *run_dir);

/* Prints to standard output, every `every_s` seconds until the sweep has ended, and once more then:
 * trials done, failed and in flight, about how much time is left, and a line for each rank at work
 * with the age of its trial. On a terminal the text replaces the one before. Reads the journals
 * anew each time and changes nothing.
 * Fails: CONFIG (not a run folder), IO, NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_watch(const char *run_dir, int64_t every_s, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
