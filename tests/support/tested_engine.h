/* SPDX-License-Identifier: Apache-2.0 */
/* support/tested_engine.h - the engine that a test program is about: "cuda", or the one named on
 * its command line: `test_gpu_invariants cpu` tests the test, and needs no GPU. A second argument
 * picks tests by a pattern of their names: `test_gpu_invariants cuda "segments*fp16*"`. */
#ifndef SUPPORT_TESTED_ENGINE_H
#define SUPPORT_TESTED_ENGINE_H

#include "support/cpu_fixture.h"

/* To be called first in main(). 0: go on; otherwise what main() is to return: 77 where there is no
 * GPU, or 1 if SSMQ_REQUIRE_GPU is set or there is no engine of that name. */
int tested_engine_begin(int argc, char **argv);

const ssmq_engine_api *tested_engine_api(void);
bool tested_engine_is_cuda(void);
/* Ends the running test as skipped if the engine is another one. */
void tested_engine_needs_cuda(void);

/* Release with its close(). */
ssmq_engine *tested_engine_open(void);
/* Loaded with every module that the precision quantizes by default, not reset yet. */
ssmq_engine *tested_engine_load(const ssmq_model *model, const char *precision);

/* What a run gave. */
typedef struct scored {
    int64_t B, T, V;
    float *nll;    /* [B, T] */
    float *logits; /* [B, V] */
} scored;
/* Release with scored_free(). */
scored scored_run(ssmq_engine *engine, const ssmq_model *model, const cpu_run *run);
void scored_free(scored *s);
/* Fails the test, naming the first number that differs, unless both are the same bits. */
void assert_same_scored(const scored *a, const scored *b, const char *what);
/* Likewise for n numbers. */
void assert_same_bits(const float *a, const float *b, int64_t n, const char *what);

/* A model and a precision; what a check's *state points at. */
typedef struct engine_case {
    const struct checkpoint_options *shape;
    const char *precision;
    ssmq_model *model;
} engine_case;

/* A function that is run for every shape in fp32, fp16 and bf16, each as a test of its own, so that
 * one run shows all that is wrong; or once, with no state. */
typedef struct engine_check {
    const char *name;
    void (*run)(void **state);
    bool is_single;
} engine_check;

/* Small models of each kind: any sizes; those of the tensor-core scan; groups, biases and a head of
 * its own. */
enum { TESTED_ENGINE_SHAPES = 3 };
extern const struct checkpoint_options tested_engine_shapes[TESTED_ENGINE_SHAPES];

/* Runs all checks; returns what main() is to return. Shapes are named by their seed. */
int tested_engine_run(const char *group, const engine_check *checks, int n_checks,
                      const struct checkpoint_options *shapes, int n_shapes);

#endif
