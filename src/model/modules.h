/* SPDX-License-Identifier: Apache-2.0 */
/* model/modules.h - the registry of linear modules: the one place that knows which parts of a
 * checkpoint can be quantized, which are by default, and why the others are not. */
#ifndef SSMQ_MODEL_MODULES_H
#define SSMQ_MODEL_MODULES_H

#include "base/status.h"
#include "model/shapes.h"

#ifdef __cplusplus
extern "C" {
#endif

/* code, name in scopes and listings, is a matrix product and so can be quantized, in scope of
 * "all", reason if it is not */
#define SSMQ_MODULE_TABLE(X)                                                                       \
    X(IN_PROJ_Z, "in_proj.z", 1, 1, "")                                                            \
    X(IN_PROJ_X, "in_proj.x", 1, 1, "")                                                            \
    X(IN_PROJ_B, "in_proj.B", 1, 1, "")                                                            \
    X(IN_PROJ_C, "in_proj.C", 1, 1, "")                                                            \
    X(IN_PROJ_DT, "in_proj.dt", 1, 1, "")                                                          \
    X(OUT_PROJ, "out_proj", 1, 1, "")                                                              \
    X(CONV1D, "conv1d", 0, 0, "depthwise, K values a channel; not a matrix product")               \
    X(LM_HEAD, "lm_head", 1, 0, "not a mixer projection; name it to include it")                   \
    X(EMBEDDINGS, "embeddings", 0, 0, "a table look-up, not a product; shared with a tied lm_head")

typedef enum ssmq_module {
#define X(code, name, product, included, reason) SSMQ_##code,
    SSMQ_MODULE_TABLE(X)
#undef X
        SSMQ_N_MODULES
} ssmq_module;

/* Bit of a module in a mask. */
#define SSMQ_MODULE_BIT(module) (1u << (unsigned)(module))

/* Rows of in_proj, in the order of the checkpoint: z, x, B, C, dt. */
enum { SSMQ_IN_PROJ_BLOCKS = 5 };

/* One module of one layer as the registry lists it. */
typedef struct ssmq_module_info {
    int layer; /* -1 for lm_head and embeddings */
    ssmq_module module;
    const char *name;
    int64_t first_row; /* of the tensor it is a block of */
    int64_t rows;
    int64_t columns;
    bool is_product;    /* a matrix product: can be quantized */
    bool included;      /* in scope of "all" */
    const char *reason; /* why not, "" if included */
} ssmq_module_info;

const char *ssmq_module_name(ssmq_module module);

/* Modules of a layer that name `text` stands for: a module's own name, or "in_proj" for its five
 * blocks; 0 if there is none. */
uint32_t ssmq_module_mask_of(const char *text);

/* Mask of what "all" quantizes in a layer. */
uint32_t ssmq_module_default_mask(void);

/* Number of modules of a checkpoint, and the i-th of them, layer by layer, then embeddings and
 * lm_head. */
int ssmq_modules_count(const ssmq_shape *shape);
ssmq_module_info ssmq_modules_get(const ssmq_shape *shape, int i);

/* Equal modules as one, for listings: all layers of a checkpoint have the same shapes, so that each
 * module occurs in layers [info.layer, info.layer + n_layers) alike; or once, as embeddings and
 * lm_head, with n_layers 0. i in [0, SSMQ_N_MODULES), in the order of ssmq_modules_get(). */
typedef struct ssmq_module_group {
    ssmq_module_info info; /* of the first */
    int n_layers;
} ssmq_module_group;
ssmq_module_group ssmq_modules_group(const ssmq_shape *shape, int i);

#ifdef __cplusplus
}
#endif
#endif
