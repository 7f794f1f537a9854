/* SPDX-License-Identifier: Apache-2.0 */
/* cli/bench_run.h - one measurement of ssmq bench: a prefill length or a decode batch. */
#ifndef SSMQ_CLI_BENCH_RUN_H
#define SSMQ_CLI_BENCH_RUN_H

#include "cli/bench_floor.h"
#include "cli/runner.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    SSMQ_BENCH_WARMUP_PREFILLS = 3,
    SSMQ_BENCH_WARMUP_STEPS = 10,
    SSMQ_BENCH_PROMPT_TOKENS = 16 /* prefilled before decode steps */
};

typedef struct ssmq_bench_settings {
    int64_t n_repeat;          /* measured prefills; measured decode calls */
    int64_t n_steps;           /* of a decode call */
    int64_t segment_tokens;    /* longest piece that the engine computes at once */
    bool has_stages, has_gemv; /* as of ssmq_engine_extent */
} ssmq_bench_settings;

/* Times in ms of one prefill or of one decode step; NaN where there is none. */
typedef struct ssmq_bench_result {
    bool is_decode;
    int64_t B;
    int64_t T; /* tokens of the prefill; in decode, of the prompt before */
    ssmq_status status;
    char reason[SSMQ_ERR_TEXT_BYTES]; /* "" if ok */
    int64_t n_warmup, n_measure;      /* prefills, or steps */
    double median_ms, p10_ms, p90_ms; /* by the engine's timer */
    double host_ms;                   /* median by the host clock */
    double tokens_per_s;
    ssmq_bench_work work;
    double floor_ms;
    ssmq_engine_stats peaks;        /* over the measured calls */
    double stage_ms[SSMQ_N_STAGES]; /* medians of the staged pass */
    double staged_ms;               /* the whole of a staged call; NaN without stages */
    char algorithms[32];            /* as of ssmq_engine_facts, */
    char decode_products[16];       /* which this is of, too */
} ssmq_bench_result;

/* A prefill of one sequence of T tokens, logits of the last: from a zero state, again and again.
 * What fails for this size alone (out of memory, skipped, not finite) is in out->status.
 * Fails: DEVICE, POISONED, INTERNAL, and any status with a device that is lost. */
SSMQ_MUST_USE ssmq_status ssmq_bench_prefill(const ssmq_runner *runner,
                                             const ssmq_bench_settings *settings, int64_t T,
                                             ssmq_bench_result *out, ssmq_err *err);

/* Decode steps of B sequences after a short prompt.  Fails: likewise. */
SSMQ_MUST_USE ssmq_status ssmq_bench_decode(const ssmq_runner *runner,
                                            const ssmq_bench_settings *settings, int64_t B,
                                            ssmq_bench_result *out, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
