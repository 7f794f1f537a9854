/* SPDX-License-Identifier: Apache-2.0 */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    const char *meaning;
} statuses[SSMQ_N_STATUSES] = {
#define X(code, name, meaning) {name, meaning},
    SSMQ_STATUS_TABLE(X)
#undef X
};

const char *ssmq_status_name(ssmq_status status) {
    return (unsigned)status < SSMQ_N_STATUSES ? statuses[status].name : "unknown";
}

const char *ssmq_status_meaning(ssmq_status status) {
    return (unsigned)status < SSMQ_N_STATUSES ? statuses[status].meaning : "unknown status";
}

bool ssmq_status_from_name(const char *name, ssmq_status *out) {
    for (int i = 0; i < SSMQ_N_STATUSES; i++) {
        if (strcmp(name, statuses[i].name) == 0) {
            *out = (ssmq_status)i;
            return true;
        }
    }
    return false;
}

ssmq_status ssmq_err_set(ssmq_err *err, ssmq_status status, const char *file, int line,
                         const char *format, ...) {
    if (err == NULL || err->status != SSMQ_OK) return status;
    va_list args;
    va_start(args, format);
    (void)vsnprintf(err->text, sizeof err->text, format, args);
    va_end(args);
    err->status = status;
    err->file = file;
    err->line = line;
    return status;
}

void ssmq_err_clear(ssmq_err *err) {
    memset(err, 0, sizeof *err);
}

void ssmq_panic(const char *file, int line, const char *text) {
    (void)fprintf(stderr, "ssmq: panic at %s:%d: %s\n", file, line, text);
    abort(); /* lint: allow abort */
}
