/* SPDX-License-Identifier: Apache-2.0 */
/* base/log.h - messages on stderr: time, level, rank/size, text. stdout belongs to the program's
 * product. */
#ifndef SSMQ_BASE_LOG_H
#define SSMQ_BASE_LOG_H

#include <stdbool.h>

#include "base/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum ssmq_log_level {
    SSMQ_LOG_DEBUG,
    SSMQ_LOG_INFO,
    SSMQ_LOG_WARN,
    SSMQ_LOG_ERROR
} ssmq_log_level;

/* Messages below `level` are dropped; rank and size go into each line (size 1: left out). */
void ssmq_log_setup(ssmq_log_level level, int rank, int size);
/* Also appends each line to this file from now on (NULL: no longer). The descriptor stays the
 * caller's. Pass -1 to stop. */
void ssmq_log_copy_to(int fd);

void ssmq_log(ssmq_log_level level, const char *format, ...) SSMQ_PRINTF(2, 3);
/* An error's text; with file and line of its cause at debug level. */
void ssmq_log_err(ssmq_log_level level, const ssmq_err *err);

/* One line that replaces itself on a terminal; on anything else an ordinary info line. */
void ssmq_log_progress(const char *text);

#ifdef __cplusplus
}
#endif
#endif
