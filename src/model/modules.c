/* SPDX-License-Identifier: Apache-2.0 */
#include "model/modules.h"

#include <stddef.h>
#include <string.h>

/* Modules that every layer has come first in the table; the others belong to the model. */
enum { MODULES_PER_LAYER = SSMQ_CONV1D + 1, MODULES_OF_MODEL = 2 };

static const struct {
    const char *name;
    bool is_product;
    bool is_included;
    const char *reason;
} modules[SSMQ_N_MODULES] = {
#define X(code, name, product, included, reason) {name, (product) != 0, (included) != 0, reason},
    SSMQ_MODULE_TABLE(X)
#undef X
};

const char *ssmq_module_name(ssmq_module module) {
    return (unsigned)module < SSMQ_N_MODULES ? modules[module].name : "unknown";
}

uint32_t ssmq_module_mask_of(const char *text) {
    if (strcmp(text, "in_proj") == 0) return SSMQ_MODULE_BIT(SSMQ_IN_PROJ_BLOCKS) - 1u;
    for (int i = 0; i < SSMQ_N_MODULES; i++) {
        if (strcmp(text, modules[i].name) == 0) return SSMQ_MODULE_BIT(i);
    }
    return 0;
}

uint32_t ssmq_module_default_mask(void) {
    uint32_t mask = 0;
    for (int i = 0; i < SSMQ_N_MODULES; i++) {
        if (modules[i].is_included) mask |= SSMQ_MODULE_BIT(i);
    }
    return mask;
}

int ssmq_modules_count(const ssmq_shape *shape) {
    return (int)shape->L * MODULES_PER_LAYER + MODULES_OF_MODEL;
}

/* Rows and columns of a module; of a block of in_proj also the row where it begins. */
static void set_sizes(const ssmq_shape *s, ssmq_module_info *info) {
    const int64_t blocks[SSMQ_IN_PROJ_BLOCKS] = {s->di, s->di, s->G * s->N, s->G * s->N, s->H};
    info->columns = s->d;
    switch (info->module) {
    case SSMQ_OUT_PROJ:
        info->rows = s->d;
        info->columns = s->di;
        return;
    case SSMQ_CONV1D:
        info->rows = s->conv_dim;
        info->columns = s->K;
        return;
    case SSMQ_LM_HEAD:
    case SSMQ_EMBEDDINGS:
        info->rows = s->V;
        return;
    case SSMQ_IN_PROJ_Z:
    case SSMQ_IN_PROJ_X:
    case SSMQ_IN_PROJ_B:
    case SSMQ_IN_PROJ_C:
    case SSMQ_IN_PROJ_DT:
        info->rows = blocks[info->module];
        for (int i = 0; i < (int)info->module; i++) info->first_row += blocks[i];
        return;
    case SSMQ_N_MODULES:
        return;
    }
}

ssmq_module_info ssmq_modules_get(const ssmq_shape *shape, int i) {
    ssmq_module_info info = {.layer = i / MODULES_PER_LAYER,
                             .module = (ssmq_module)(i % MODULES_PER_LAYER)};
    const int first_of_model = (int)shape->L * MODULES_PER_LAYER;
    if (i >= first_of_model) {
        info.layer = -1;
        info.module = i == first_of_model ? SSMQ_EMBEDDINGS : SSMQ_LM_HEAD;
    }
    info.name = modules[info.module].name;
    info.is_product = modules[info.module].is_product;
    info.included = modules[info.module].is_included;
    info.reason = modules[info.module].reason;
    set_sizes(shape, &info);
    return info;
}

ssmq_module_group ssmq_modules_group(const ssmq_shape *shape, int i) {
    const bool is_in_layers = i < MODULES_PER_LAYER;
    const int first_of_model = (int)shape->L * MODULES_PER_LAYER;
    const int first = is_in_layers ? i : first_of_model + i - MODULES_PER_LAYER;
    return (ssmq_module_group){.info = ssmq_modules_get(shape, first),
                               .n_layers = is_in_layers ? (int)shape->L : 0};
}
