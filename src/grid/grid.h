/* SPDX-License-Identifier: Apache-2.0 */
/* grid/grid.h - the Cartesian product of a configuration's axes as a list of trials. */
#ifndef SSMQ_GRID_GRID_H
#define SSMQ_GRID_GRID_H

#include "base/hash.h"
#include "base/status.h"
#include "base/texts.h"
#include "config/config.h"
#include "model/shapes.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SSMQ_TRIAL_KEY_BYTES = 512, SSMQ_SKIP_BYTES = 160, SSMQ_MAX_TRIALS = 1000000 };

/* Version of everything that decides an accuracy number: raise it when engine semantics, prompts
 * or protocols change, and old results are no longer taken for equal. */
#define SSMQ_NUMERICS_VERSION "3"

/* What the trials of a run have in common and their ids depend on. */
typedef struct ssmq_inputs {
    ssmq_shape shape;
    char model_name[128];
    char model_sha256[SSMQ_SHA256_HEX_BYTES];
    char tokenizer_sha256[SSMQ_SHA256_HEX_BYTES]; /* "" without one */
    char text_sha256[SSMQ_SHA256_HEX_BYTES];      /* of ppl.text; "" if no trial needs it */
    char filler_sha256[SSMQ_SHA256_HEX_BYTES];    /* of passkey.filler_text; "" likewise */
    int64_t text_tokens;                          /* of ppl.text; -1: not known */
    char device[16];                              /* engine's name: results of engines differ */
} ssmq_inputs;

typedef struct ssmq_trial {
    /* Canonical text, "ppl/disjoint/seq_len=2048/.../precision=bf16/scope=all/seed=0/..." */
    const char *key;
    const char *draw; /* key without precision and scope: seeds every random draw */
    const char *skip; /* why it cannot run; "" if it can */
    const char *scope;
    char id[SSMQ_SHA256_HEX_BYTES]; /* hash of key, inputs and numerics version */
    ssmq_task task;
    ssmq_protocol protocol;
    ssmq_precision precision;
    char prompt_template[SSMQ_TEMPLATE_BYTES]; /* of passkey; "" elsewhere */
    int64_t context_length;                    /* window, prompt or prefill tokens */
    int64_t stride;                            /* -1 where it has no meaning */
    int64_t batch_size;
    int64_t gen_len; /* -1 where it has no meaning */
    int64_t seed;
    /* Estimated on a machine of the device's kind; 0 of a trial that cannot run. */
    double cost_s;      /* without loading */
    double load_cost_s; /* of its weights, if others are loaded */
} ssmq_trial;

typedef struct ssmq_grid {
    ssmq_trial *trials;
    size_t n_trials;
    ssmq_texts texts; /* of all trials, which share what is equal */
    size_t n_equal;   /* combinations that were equal to another and were left out */
} ssmq_grid;

/* Expands the axes in the order task, protocol or prompt template, context, batch, seed, precision,
 * scope. Unquantized precisions take no scope (it is "none"); combinations equal to an earlier one
 * are left out, as are those that are not of sweep.only; combinations that cannot run stay, with
 * the reason in skip.
 *
 * Owns: release with ssmq_grid_free().  Fails: CONFIG (scope of a layer that
 * does not exist, more than SSMQ_MAX_TRIALS, no trial at all), NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_grid_init(ssmq_grid *out, const ssmq_config *config,
                                         const ssmq_inputs *inputs, ssmq_err *err);
void ssmq_grid_free(ssmq_grid *grid);

/* Keeps the trials for which an alternative of `expression` holds. Alternatives are joined by
 * " or ", and each is comparisons joined by " and ", all of which must hold:
 *     FIELD=VALUE[,VALUE...] or FIELD!=VALUE
 *
 * of the fields task, protocol, prompt_template, precision, scope, context_length, batch_size and
 * seed. source: the option or key that it comes from, for messages.  Fails: CONFIG. */
SSMQ_MUST_USE ssmq_status ssmq_grid_only(ssmq_grid *grid, const char *source,
                                         const char *expression, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
