/* SPDX-License-Identifier: Apache-2.0 */
/* support/cpu_fixture.h - small checkpoints opened and scored on the CPU engine. Calls that are to
 * succeed fail the test with the engine's text if they do not. */
#ifndef SUPPORT_CPU_FIXTURE_H
#define SUPPORT_CPU_FIXTURE_H

#include "engine/engine.h"
#include "support/write_checkpoint.h"

/* Writes, opens and forgets the files of a checkpoint. Release with ssmq_model_close(). */
ssmq_model *cpu_fixture_model(const struct checkpoint_options *options);

/* n ids below V that depend on the seed alone. Release with ssmq_free(). */
int32_t *cpu_fixture_ids(int64_t n, int64_t V, uint64_t seed);

ssmq_spec cpu_fixture_spec(const ssmq_model *model, const char *precision, const char *scope);

/* A loaded engine, not reset yet. */
ssmq_engine *cpu_fixture_engine(const ssmq_model *model, const char *precision, const char *scope,
                                int n_threads);

/* Fails the test with err's text unless status is OK. */
void assert_ok(ssmq_status status, const ssmq_err *err);

/* What the engine makes of B sequences of T + 1 ids, the last one only a target. */
typedef struct cpu_run {
    const int32_t *ids; /* [B, T + 1] */
    int64_t B, T;
    int64_t segment;       /* max_segment_tokens of the extent; 0: T */
    int64_t call;          /* tokens of one prefill call; 0: T */
    int64_t decode_tokens; /* of T, the last so many through decode */
} cpu_run;

/* nll [B, T]; logits [B, V] after the last id but one, or NULL. */
void cpu_fixture_score(ssmq_engine *engine, const cpu_run *run, float *nll, float *logits);

#endif
