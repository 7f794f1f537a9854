/* SPDX-License-Identifier: Apache-2.0 */
/* base/status.h - the one error type: a status code and the text of its first cause.
 * Every function that can fail returns ssmq_status and fills the caller's ssmq_err. */
#ifndef SSMQ_BASE_STATUS_H
#define SSMQ_BASE_STATUS_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* code, name as recorded for a trial, meaning */
#define SSMQ_STATUS_TABLE(X)                                                                       \
    X(OK, "ok", "finished")                                                                        \
    X(CONFIG, "config", "bad usage, configuration or input file")                                  \
    X(SKIP, "skipped", "this combination cannot run here; see the notes")                          \
    X(NUMERIC, "nonfinite", "NaN or infinity in a result")                                         \
    X(NOMEM, "oom", "out of memory")                                                               \
    X(TIMEOUT, "timeout", "over its time limit")                                                   \
    X(DEVICE, "device_error", "a device call failed")                                              \
    X(POISONED, "device_lost", "the device context is lost")                                       \
    X(IO, "io", "a file could not be read or written")                                             \
    X(INTERNAL, "internal", "a broken invariant; please report")                                   \
    X(CRASHED, "crashed", "took its process down twice; not tried again")

typedef enum ssmq_status {
#define X(code, name, meaning) SSMQ_##code,
    SSMQ_STATUS_TABLE(X)
#undef X
        SSMQ_N_STATUSES
} ssmq_status;

enum { SSMQ_ERR_TEXT_BYTES = 480 };

/* First cause of a failure: where it was seen and what a user reads. */
typedef struct ssmq_err {
    ssmq_status status;
    const char *file;
    int line;
    char text[SSMQ_ERR_TEXT_BYTES];
} ssmq_err;

#if defined(__GNUC__)
#define SSMQ_MUST_USE                      __attribute__((warn_unused_result))
#define SSMQ_PRINTF(format_arg, first_arg) __attribute__((format(printf, format_arg, first_arg)))
#else
#define SSMQ_MUST_USE
#define SSMQ_PRINTF(format_arg, first_arg)
#endif

/* Name of a status as it is recorded ("ok", "oom", ...). Never NULL. */
const char *ssmq_status_name(ssmq_status status);
/* One sentence on a status. Never NULL. */
const char *ssmq_status_meaning(ssmq_status status);
/* Status of a recorded name into *out; false if there is none. */
bool ssmq_status_from_name(const char *name, ssmq_status *out);

/* Fills err (may be NULL; keeps an earlier cause if err already holds one) and returns status.
 * Use through SSMQ_FAIL. */
ssmq_status ssmq_err_set(ssmq_err *err, ssmq_status status, const char *file, int line,
                         const char *format, ...) SSMQ_PRINTF(5, 6);

/* Forgets an earlier cause. */
void ssmq_err_clear(ssmq_err *err);

/* Prints the text to stderr and aborts. Only for invariants of sched and journal whose breach
 * could lose or double a result. */
#if defined(__GNUC__)
__attribute__((noreturn))
#endif
void ssmq_panic(const char *file, int line, const char *text);

/* return SSMQ_FAIL(err, CONFIG, "%s: ...", path); */
#define SSMQ_FAIL(err, code, ...) ssmq_err_set((err), SSMQ_##code, __FILE__, __LINE__, __VA_ARGS__)

/* Where the function owns nothing yet. */
#define SSMQ_TRY(expr)                                                                             \
    do {                                                                                           \
        ssmq_status ssmq_try_ = (expr);                                                            \
        if (ssmq_try_ != SSMQ_OK) return ssmq_try_;                                                \
    } while (0)

/* Where it does: a local `ssmq_status status` receives the code, then control goes to label. */
#define SSMQ_TRY_OR(expr, label)                                                                   \
    do {                                                                                           \
        status = (expr);                                                                           \
        if (status != SSMQ_OK) goto label;                                                         \
    } while (0)

/* Invariant, always compiled in. */
#define SSMQ_CHECK(cond, err)                                                                      \
    do {                                                                                           \
        if (!(cond)) return SSMQ_FAIL((err), INTERNAL, "broken: %s", #cond);                       \
    } while (0)

#ifdef __cplusplus
}
#endif
#endif
