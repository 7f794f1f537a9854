/* SPDX-License-Identifier: Apache-2.0 */
/* quant/scope.h - the text of a scope as a list of items. Internal to quant/; the grammar stands in
 * spec.h. */
#ifndef SSMQ_QUANT_SCOPE_H
#define SSMQ_QUANT_SCOPE_H

#include "base/status.h"
#include "model/modules.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum quant_scope_kind {
    QUANT_SCOPE_ALL,
    QUANT_SCOPE_NONE,
    QUANT_SCOPE_ONLY,
    QUANT_SCOPE_EXCEPT
} quant_scope_kind;

typedef struct quant_scope_item {
    bool is_every_layer;
    int64_t first_layer, last_layer; /* unless every layer */
    uint32_t modules;                /* SSMQ_MODULE_BIT mask */
} quant_scope_item;

/* An item is at least two bytes of a scope with its comma. */
enum { QUANT_MAX_SCOPE_ITEMS = 64 };

typedef struct quant_scope {
    quant_scope_kind kind;
    int n_items;
    quant_scope_item items[QUANT_MAX_SCOPE_ITEMS];
} quant_scope;

/* Modules that no layer has: lm_head and embeddings. */
uint32_t quant_scope_model_mask(void);

/* Fails: CONFIG. */
SSMQ_MUST_USE ssmq_status quant_scope_parse(quant_scope *out, const char *text, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
