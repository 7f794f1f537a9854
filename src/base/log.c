/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

enum { LINE_BYTES = 1024 };

static struct {
    ssmq_log_level level;
    int rank;
    int size;
    int copy_fd;
    bool progress_shown;
} g_log = {.level = SSMQ_LOG_INFO, .size = 1, .copy_fd = -1};

void ssmq_log_setup(ssmq_log_level level, int rank, int size) {
    g_log.level = level;
    g_log.rank = rank;
    g_log.size = size;
}

void ssmq_log_copy_to(int fd) {
    g_log.copy_fd = fd;
}

/* One write(2) a line, so that lines of several ranks do not mix. A full stderr is not worth
 * failing for. */
static void put(int fd, const char *line, size_t n_bytes) {
    ssize_t written = write(fd, line, n_bytes);
    (void)written;
}

void ssmq_log(ssmq_log_level level, const char *format, ...) {
    static const char *const names[] = {"debug", "info", "warn", "error"};
    if (level < g_log.level) return;
    char line[LINE_BYTES];
    char now[SSMQ_UTC_BYTES];
    ssmq_utc_iso(now);
    int used = g_log.size > 1 ? snprintf(line, sizeof line, "%s %-5s %d/%d ", now, names[level],
                                         g_log.rank, g_log.size)
                              : snprintf(line, sizeof line, "%s %-5s ", now, names[level]);
    va_list args;
    va_start(args, format);
    int text = vsnprintf(line + used, sizeof line - (size_t)used - 1, format, args);
    va_end(args);
    if (text < 0) return;
    size_t n_bytes = (size_t)used + (size_t)text;
    if (n_bytes > sizeof line - 2) n_bytes = sizeof line - 2;
    line[n_bytes++] = '\n';
    if (g_log.progress_shown) put(STDERR_FILENO, "\r\x1b[K", 4);
    g_log.progress_shown = false;
    put(STDERR_FILENO, line, n_bytes);
    if (g_log.copy_fd >= 0) put(g_log.copy_fd, line, n_bytes);
}

void ssmq_log_err(ssmq_log_level level, const ssmq_err *err) {
    if (g_log.level == SSMQ_LOG_DEBUG && err->file != NULL) {
        ssmq_log(level, "%s (%s, %s:%d)", err->text, ssmq_status_name(err->status), err->file,
                 err->line);
    } else {
        ssmq_log(level, "%s", err->text);
    }
}

void ssmq_log_progress(const char *text) {
    if (SSMQ_LOG_INFO < g_log.level) return;
    if (!isatty(STDERR_FILENO)) {
        ssmq_log(SSMQ_LOG_INFO, "%s", text);
        return;
    }
    char line[LINE_BYTES];
    int n_bytes = snprintf(line, sizeof line, "\r\x1b[K%s", text);
    if (n_bytes > 0) put(STDERR_FILENO, line, strlen(line));
    g_log.progress_shown = true;
}
