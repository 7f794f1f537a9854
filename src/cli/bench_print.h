/* SPDX-License-Identifier: Apache-2.0 */
/* cli/bench_print.h - what ssmq bench says on stdout: a table for people or JSON lines. */
#ifndef SSMQ_CLI_BENCH_PRINT_H
#define SSMQ_CLI_BENCH_PRINT_H

#include "cli/bench_run.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What all measurements of a call have in common. */
typedef struct ssmq_bench_about {
    const ssmq_runner *runner; /* loaded */
    const ssmq_bench_settings *settings;
    ssmq_engine_facts facts;
    ssmq_ceilings ceilings;                  /* zeros where not measured */
    char ceilings_note[SSMQ_ERR_TEXT_BYTES]; /* why not; "" if they were */
} ssmq_bench_about;

/* Lines above the table. */
void ssmq_bench_print_head(const ssmq_bench_about *about);
/* A line of the table and what its memory held, or why there is none; with stages a third. */
void ssmq_bench_print_row(const ssmq_bench_result *result);

/* One flat JSON object on one line; null for what was not measured.  Fails: NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_bench_print_json(const ssmq_bench_about *about,
                                                const ssmq_bench_result *result, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
