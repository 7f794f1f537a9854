/* SPDX-License-Identifier: Apache-2.0 */
#include "quant/spec.h"

#include <string.h>

#include "quant/scope.h"

/* Modules of one layer that the items name. */
static uint32_t named_in_layer(const quant_scope *scope, int64_t layer) {
    uint32_t mask = 0;
    for (int i = 0; i < scope->n_items; i++) {
        const quant_scope_item *item = &scope->items[i];
        bool is_here =
            item->is_every_layer || (layer >= item->first_layer && layer <= item->last_layer);
        if (is_here) mask |= item->modules;
    }
    return mask & ~quant_scope_model_mask();
}

static uint32_t named_of_model(const quant_scope *scope) {
    uint32_t mask = 0;
    for (int i = 0; i < scope->n_items; i++) mask |= scope->items[i].modules;
    return mask & quant_scope_model_mask();
}

static uint32_t selected(const quant_scope *scope, uint32_t included, uint32_t named) {
    switch (scope->kind) {
    case QUANT_SCOPE_ALL:
        return included;
    case QUANT_SCOPE_ONLY:
        return named;
    case QUANT_SCOPE_EXCEPT:
        return included & ~named;
    case QUANT_SCOPE_NONE:
        break;
    }
    return 0;
}

ssmq_status ssmq_spec_init(ssmq_spec *out, const ssmq_precision *precision, const char *scope,
                           const ssmq_shape *shape, ssmq_err *err) {
    quant_scope parsed;
    memset(out, 0, sizeof *out);
    SSMQ_TRY(quant_scope_parse(&parsed, scope, err));
    SSMQ_CHECK(shape->L <= SSMQ_MAX_LAYERS, err);
    for (int i = 0; i < parsed.n_items; i++) {
        const quant_scope_item *item = &parsed.items[i];
        if (!item->is_every_layer && item->last_layer >= shape->L) {
            return SSMQ_FAIL(err, CONFIG, "scope '%s': layer %lld; the model has layers 0 to %lld",
                             scope, (long long)item->last_layer, (long long)shape->L - 1);
        }
    }
    out->precision = *precision;
    if (!ssmq_precision_is_quantized(precision)) return SSMQ_OK;
    const uint32_t of_model = quant_scope_model_mask();
    const uint32_t included = ssmq_module_default_mask();
    for (int64_t layer = 0; layer < shape->L; layer++) {
        out->layer_modules[layer] =
            selected(&parsed, included & ~of_model, named_in_layer(&parsed, layer));
    }
    out->model_modules = selected(&parsed, included & of_model, named_of_model(&parsed));
    return SSMQ_OK;
}

static uint32_t modules_of(const ssmq_spec *spec, const ssmq_module_info *info) {
    return info->layer >= 0 ? spec->layer_modules[info->layer] : spec->model_modules;
}

ssmq_status ssmq_spec_check(const ssmq_spec *spec, const ssmq_shape *shape, ssmq_err *err) {
    for (int i = 0; i < ssmq_modules_count(shape); i++) {
        const ssmq_module_info info = ssmq_modules_get(shape, i);
        const bool is_asked = (modules_of(spec, &info) & SSMQ_MODULE_BIT(info.module)) != 0;
        if (is_asked && !info.is_product) {
            return SSMQ_FAIL(err, SKIP, "%s cannot be quantized: %s", info.name, info.reason);
        }
    }
    return SSMQ_OK;
}

int64_t ssmq_spec_weight_bytes(const ssmq_spec *spec, const ssmq_shape *shape) {
    ssmq_precision plain = spec->precision;
    int64_t bytes = 0;
    plain.w_format = SSMQ_FORMAT_FLOAT;
    for (int i = 0; i < ssmq_modules_count(shape); i++) {
        const ssmq_module_info info = ssmq_modules_get(shape, i);
        if (!info.is_product) continue;
        const bool is_quantized = (modules_of(spec, &info) & SSMQ_MODULE_BIT(info.module)) != 0;
        bytes += ssmq_precision_weight_bytes(is_quantized ? &spec->precision : &plain, info.rows,
                                             info.columns);
    }
    return bytes;
}
