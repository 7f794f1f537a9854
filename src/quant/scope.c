/* SPDX-License-Identifier: Apache-2.0 */
#include "quant/scope.h"

#include <string.h>

#include "quant/spec.h"

uint32_t quant_scope_model_mask(void) {
    return SSMQ_MODULE_BIT(SSMQ_LM_HEAD) | SSMQ_MODULE_BIT(SSMQ_EMBEDDINGS);
}

static ssmq_status fault(const char *text, const char *item, const char *what, ssmq_err *err) {
    return SSMQ_FAIL(err, CONFIG,
                     "scope '%.127s': '%.64s' %s; allowed are all, none, only:ITEM[,ITEM...], "
                     "except:ITEM[,ITEM...] with ITEM = [LAYERS.]MODULE or LAYERS, LAYERS = N, N-M "
                     "or *, MODULE = in_proj, in_proj.{z,x,B,C,dt}, out_proj, conv1d, lm_head or "
                     "embeddings",
                     text, item, what);
}

/* Decimal digits at *at, which moves behind them. */
static bool take_number(const char **at, int64_t *out) {
    int64_t value = 0;
    const char *first = *at;
    while (**at >= '0' && **at <= '9' && *at - first < 9) value = value * 10 + (*(*at)++ - '0');
    *out = value;
    return *at > first && !(**at >= '0' && **at <= '9');
}

static bool take_layers(const char **at, quant_scope_item *item) {
    if (**at == '*') {
        (*at)++;
        item->is_every_layer = true;
        return true;
    }
    if (!take_number(at, &item->first_layer)) return false;
    item->last_layer = item->first_layer;
    if (**at != '-') return true;
    (*at)++;
    return take_number(at, &item->last_layer) && item->last_layer >= item->first_layer;
}

static ssmq_status parse_item(quant_scope_item *out, const char *text, const char *item,
                              ssmq_err *err) {
    const char *at = item;
    bool has_layers = *at == '*' || (*at >= '0' && *at <= '9');
    memset(out, 0, sizeof *out);
    out->is_every_layer = !has_layers;
    if (has_layers && !take_layers(&at, out)) {
        return fault(text, item, "has no valid layers", err);
    }
    if (has_layers && *at == '\0') {
        out->modules = ssmq_module_default_mask();
        return SSMQ_OK;
    }
    if (has_layers && *at++ != '.') return fault(text, item, "has no valid layers", err);
    out->modules = ssmq_module_mask_of(at);
    if (out->modules == 0) return fault(text, item, "names no module", err);
    if (has_layers && (out->modules & quant_scope_model_mask()) != 0) {
        return fault(text, item, "is part of no layer", err);
    }
    return SSMQ_OK;
}

static ssmq_status parse_items(quant_scope *out, const char *text, const char *items,
                               ssmq_err *err) {
    char item[SSMQ_SCOPE_BYTES];
    for (;;) {
        size_t length = strcspn(items, ",");
        memcpy(item, items, length);
        item[length] = '\0';
        if (out->n_items == QUANT_MAX_SCOPE_ITEMS) {
            return fault(text, item, "is an item too many", err);
        }
        SSMQ_TRY(parse_item(&out->items[out->n_items++], text, item, err));
        if (items[length] == '\0') return SSMQ_OK;
        items += length + 1;
    }
}

ssmq_status quant_scope_parse(quant_scope *out, const char *text, ssmq_err *err) {
    memset(out, 0, sizeof *out);
    if (strlen(text) >= SSMQ_SCOPE_BYTES) {
        return SSMQ_FAIL(err, CONFIG, "scope '%.40s...': longer than %d bytes", text,
                         SSMQ_SCOPE_BYTES - 1);
    }
    if (strcmp(text, "all") == 0) return SSMQ_OK;
    if (strcmp(text, "none") == 0) {
        out->kind = QUANT_SCOPE_NONE;
        return SSMQ_OK;
    }
    const char *colon = strchr(text, ':');
    size_t n_kind = colon != NULL ? (size_t)(colon - text) : 0;
    if (n_kind == 4 && strncmp(text, "only", n_kind) == 0) {
        out->kind = QUANT_SCOPE_ONLY;
    } else if (n_kind == 6 && strncmp(text, "except", n_kind) == 0) {
        out->kind = QUANT_SCOPE_EXCEPT;
    } else {
        return fault(text, text, "is no scope", err);
    }
    return parse_items(out, text, colon + 1, err);
}

ssmq_status ssmq_scope_check(const char *scope, ssmq_err *err) {
    quant_scope parsed;
    return quant_scope_parse(&parsed, scope, err);
}
