/* SPDX-License-Identifier: Apache-2.0 */
/* A model that is only a shape, the null engine on it, and trials made by hand. */
#ifndef SSMQ_TESTS_TRIAL_FIXTURE_H
#define SSMQ_TESTS_TRIAL_FIXTURE_H

#include "trial/trial.h"

/* Two small layers with the embedded checkpoint's vocabulary of 4096. */
extern const ssmq_model fixture_model;

/* A null engine with this script, loaded at `precision`. */
ssmq_engine *fixture_engine(const char *script, const char *precision);

/* A precision by name; fails the test if there is none. */
ssmq_precision fixture_precision(const char *name);

/* n ids below 4096 from a seed. */
void fixture_ids(int32_t *ids, int64_t n, uint64_t seed);

/* What trials share: one text of n_text ids, passkey of 2 depths x 3 trials, 1 + 3 profile repeats.
 * Everything lives until the next call. */
typedef struct fixture {
    ssmq_config config;
    ssmq_inputs inputs;
    ssmq_trial_inputs trial_inputs;
    int32_t text[512];
} fixture;
void fixture_init(fixture *f, int64_t n_text);

/* A trial of batch 2 and this context length. */
ssmq_trial fixture_trial(ssmq_task task, const char *precision, int64_t context_length);

#endif
