/* SPDX-License-Identifier: Apache-2.0 */
/* model/config_json.h - the shape of a model from its configuration, in the three naming families:
 * Transformers (config.json), state-spaces (config.json with d_model), Mistral (params.json). */
#ifndef SSMQ_MODEL_CONFIG_JSON_H
#define SSMQ_MODEL_CONFIG_JSON_H

#include <stddef.h>

#include "base/status.h"
#include "model/shapes.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SSMQ_CONFIG_JSON_MAX_BYTES = 1 << 20 };

/* Shape from the text of a configuration; `name` is what messages call it.  Fails: CONFIG (no
 * Mamba2 model, or one that ssmq does not compute; the message names key and reason), NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_config_json_parse(ssmq_shape *out, const char *text, size_t n_bytes,
                                                 const char *name, ssmq_err *err);

/* Path of the folder's configuration into out[SSMQ_PATH_BYTES]: config.json, else params.json.
 * Fails: CONFIG (neither). */
SSMQ_MUST_USE ssmq_status ssmq_config_json_find(char *out, const char *folder, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
