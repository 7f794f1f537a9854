/* SPDX-License-Identifier: Apache-2.0 */
/* engine/null/script.h - the null engine's list of faults. Language: head of null.c. */
#ifndef SSMQ_ENGINE_NULL_SCRIPT_H
#define SSMQ_ENGINE_NULL_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "quant/precision.h"

#ifdef __cplusplus
extern "C" {
#endif

/* code, name in scripts */
#define NULL_FAULT_TABLE(X)                                                                        \
    X(SKIP, "skip")                                                                                \
    X(OOM, "oom")                                                                                  \
    X(NAN, "nan")                                                                                  \
    X(INF, "inf")                                                                                  \
    X(DEVICE, "device")                                                                            \
    X(POISON, "poison")                                                                            \
    X(DELAY, "delay")                                                                              \
    X(HANG, "hang")                                                                                \
    X(KILL, "kill")                                                                                \
    X(SEGV, "segv")                                                                                \
    X(EXIT, "exit")

typedef enum null_kind {
#define X(code, name) NULL_FAULT_##code,
    NULL_FAULT_TABLE(X)
#undef X
        NULL_N_FAULTS
} null_kind;

/* Calls that a fault may strike. */
typedef enum null_site {
    NULL_AT_SUPPORTS, /* supports() and load() */
    NULL_AT_RESET,
    NULL_AT_CALL /* prefill() and decode() */
} null_site;

typedef struct null_fault {
    null_kind kind;
    null_site site;
    int64_t delay_ns;      /* of DELAY */
    int64_t reset_idx;     /* only after that many resets; 0: always */
    int64_t context_at;    /* only in the call that reaches this many tokens; 0: always */
    int64_t context_least; /* only in calls that end at so many tokens or more; 0: always */
    char precision[SSMQ_PRECISION_NAME_BYTES]; /* only under this one; "": always */
} null_fault;

enum { NULL_MAX_FAULTS = 16 };

typedef struct null_script {
    size_t n_faults;
    null_fault faults[NULL_MAX_FAULTS];
} null_script;

/* What a call looks like to a script. */
typedef struct null_moment {
    null_site site;
    int64_t n_resets; /* of this engine so far, this one counted */
    int64_t context_before, context_after;
    const char *precision;
} null_moment;

/* NULL and "" are scripts without faults.  Fails: CONFIG. */
SSMQ_MUST_USE ssmq_status null_script_parse(null_script *out, const char *text, ssmq_err *err);

bool null_fault_strikes(const null_fault *fault, const null_moment *moment);

#ifdef __cplusplus
}
#endif
#endif
