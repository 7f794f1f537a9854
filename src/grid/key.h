/* SPDX-License-Identifier: Apache-2.0 */
/* grid/key.h - canonical texts of a trial: what it is, whatever it is called. */
#ifndef SSMQ_GRID_KEY_H
#define SSMQ_GRID_KEY_H

#include "grid/grid.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One scope of the configuration, "each" replaced by a layer. */
typedef struct ssmq_scope_entry {
    char text[SSMQ_SCOPE_BYTES];      /* as the user wrote it; what engines are given */
    char canonical[SSMQ_SCOPE_BYTES]; /* equal for equal sets of modules */
    bool is_none;                     /* no module at all */
    double quantized_share;           /* of the weights of all layers' products, 0 .. 1 */
} ssmq_scope_entry;

/* Resolves entry->text for the shape into the others. The canonical text is "all", "none", or
 * "only:" with runs of layers of equal modules in ascending order and modules in the order of the
 * registry, "in_proj" standing for its five blocks; if that is longer than a scope may be, its
 * SHA-256.  Fails: CONFIG (as ssmq_spec_init). */
SSMQ_MUST_USE ssmq_status ssmq_scope_entry_resolve(ssmq_scope_entry *entry, const ssmq_shape *shape,
                                                   ssmq_err *err);

/* Fills key and id of a trial whose settings are complete, and draw where that is NULL: it is the
 * same for all precisions and scopes. canonical_scope is of its entry. texts own the texts.
 * Fails: CONFIG (a key that does not fit), NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_trial_name(ssmq_trial *trial, const char *canonical_scope,
                                          const ssmq_config *config, const ssmq_inputs *inputs,
                                          ssmq_texts *texts, ssmq_err *err);

/* Tokens of ppl.text that are used: all, or ppl.max_tokens; -1 if their number is not known. */
int64_t ssmq_used_tokens(const ssmq_config *config, const ssmq_inputs *inputs);

/* Estimated seconds of a trial on a machine of its device's kind, without loading: for each call of
 * the engine the larger of its products and of reading the weights once, the traffic of everything
 * else, and a constant a layer for launches. quantized_share: see above.
 * Of the grid, so that no estimate needs a device. */
double ssmq_trial_cost(const ssmq_trial *trial, double quantized_share, const ssmq_config *config,
                       const ssmq_inputs *inputs);
/* Estimated seconds of loading weights, whatever their precision: the checkpoint is read. */
double ssmq_load_cost(const ssmq_inputs *inputs);

#ifdef __cplusplus
}
#endif
#endif
