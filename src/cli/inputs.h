/* SPDX-License-Identifier: Apache-2.0 */
/* cli/inputs.h - everything a configuration names, opened: checkpoint, tokenizer, texts, engine. */
#ifndef SSMQ_CLI_INPUTS_H
#define SSMQ_CLI_INPUTS_H

#include "base/status.h"
#include "config/config.h"
#include "engine/engine.h"
#include "grid/grid.h"
#include "model/tokenizer.h"
#include "trial/trial.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_loaded {
    ssmq_config config;
    ssmq_model *model;                 /* NULL: SSMQ_NEEDS_SHAPE of a published shape */
    ssmq_tokenizer *tokenizer;         /* NULL for random models */
    ssmq_ids text;                     /* of ppl.text; empty if no task needs it */
    ssmq_ids filler;                   /* of passkey.filler_text; likewise */
    ssmq_text_counts counts;           /* of the text as far as it is used */
    const ssmq_engine_api *engine_api; /* NULL: SSMQ_NEEDS_SHAPE, and not in this build */
    ssmq_inputs inputs;
    ssmq_trial_inputs trial; /* views of the above, for trials */
} ssmq_loaded;

/* How much must be here. */
typedef enum ssmq_need {
    SSMQ_NEEDS_DEVICE, /* everything that trials need */
    SSMQ_NEEDS_BUILD,  /* an engine of this build, though no device of its kind is here */
    SSMQ_NEEDS_SHAPE   /* neither; and a published shape ("random:...") stands for a checkpoint that
                          is not here: the tokens of a text are then estimated from its bytes */
} ssmq_need;

/* Opens what the configuration names and checks that it fits together; writes nothing.
 * Owns: *out, release with ssmq_loaded_close(). *out must stay where it is.
 * Fails: CONFIG (one line that names the file), NOMEM, IO. */
SSMQ_MUST_USE ssmq_status ssmq_loaded_open(ssmq_loaded *out, const ssmq_config *config,
                                           ssmq_need need, ssmq_err *err);
/* As above for trials, with a model that is open and an engine that was found. Takes the model
 * over, also on failure. */
SSMQ_MUST_USE ssmq_status ssmq_loaded_open_with(ssmq_loaded *out, const ssmq_config *config,
                                                const ssmq_engine_api *engine_api,
                                                ssmq_model *model, ssmq_err *err);
void ssmq_loaded_close(ssmq_loaded *loaded);

/* The engine that a device name means: auto takes a GPU if one works.
 * Fails: CONFIG (not in this build, or no such device although needs_device; the message lists
 * what is there). */
SSMQ_MUST_USE ssmq_status ssmq_device_find(const ssmq_engine_api **out, const char *device,
                                           bool needs_device, ssmq_err *err);

/* Reads a UTF-8 text and appends its ids; `sha256` (may be NULL) receives the file's hash,
 * `counts` (likewise) its words and bytes.
 * Owns: ids.  Fails: CONFIG (missing, empty, not UTF-8: with the offset), NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_text_tokenize(const char *path, const ssmq_tokenizer *tokenizer,
                                             ssmq_ids *ids, char sha256[SSMQ_SHA256_HEX_BYTES],
                                             ssmq_text_counts *counts, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
