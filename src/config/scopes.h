/* SPDX-License-Identifier: Apache-2.0 */
/* config/scopes.h - scopes with "each" in the place of LAYERS ("only:each.in_proj", "only:each"):
 * they stand for one scope per layer. */
#ifndef SSMQ_CONFIG_SCOPES_H
#define SSMQ_CONFIG_SCOPES_H

#include "base/status.h"
#include "quant/spec.h"

#ifdef __cplusplus
extern "C" {
#endif

/* True if some item's layers are "each". */
bool ssmq_scope_has_each(const char *scope);

/* scope with every "each" replaced by the layer into out[SSMQ_SCOPE_BYTES]. scope is shorter than
 * SSMQ_SCOPE_BYTES and layer below SSMQ_MAX_LAYERS, so that it always fits. */
void ssmq_scope_at_layer(char *out, const char *scope, int layer);

/* As ssmq_scope_check, with "each" allowed.  Fails: CONFIG. */
SSMQ_MUST_USE ssmq_status ssmq_scope_check_each(const char *scope, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
