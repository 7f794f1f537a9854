/* SPDX-License-Identifier: Apache-2.0 */
/* quant/spec.h - what an engine is asked for: a precision and the modules it applies to.
 *
 * Scopes:
 *   all                      every module the registry includes by default
 *   none                     nothing (the unquantized baseline)
 *   only:ITEM[,ITEM...]      these and nothing else
 *   except:ITEM[,ITEM...]    "all" without these
 *   ITEM   = [LAYERS.]MODULE, or LAYERS alone for its default modules
 *   LAYERS = N | N-M | *           (default: every layer)
 *   MODULE = in_proj | in_proj.z | in_proj.x | in_proj.B | in_proj.C | in_proj.dt | out_proj |
 *            conv1d | lm_head | embeddings */
#ifndef SSMQ_QUANT_SPEC_H
#define SSMQ_QUANT_SPEC_H

#include "base/status.h"
#include "model/modules.h"
#include "model/shapes.h"
#include "quant/precision.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SSMQ_SCOPE_BYTES = 128 };

typedef struct ssmq_spec {
    ssmq_precision precision;
    uint32_t layer_modules[SSMQ_MAX_LAYERS]; /* SSMQ_MODULE_BIT mask of quantized modules */
    uint32_t model_modules;                  /* lm_head, embeddings */
} ssmq_spec;

/* Resolves a scope for a shape.  Fails: CONFIG (syntax, unknown module, layer out of range). */
SSMQ_MUST_USE ssmq_status ssmq_spec_init(ssmq_spec *out, const ssmq_precision *precision,
                                         const char *scope, const ssmq_shape *shape, ssmq_err *err);

/* Syntax only, for a configuration that is checked before its checkpoint is opened. */
SSMQ_MUST_USE ssmq_status ssmq_scope_check(const char *scope, ssmq_err *err);

/* What no engine can do with a spec that is well-formed: a module that is no matrix product.
 * Fails: SKIP (the registry's reason). */
SSMQ_MUST_USE ssmq_status ssmq_spec_check(const ssmq_spec *spec, const ssmq_shape *shape,
                                          ssmq_err *err);

/* Bytes of in_proj, out_proj and lm_head as stored under this spec: 4-bit values two to a byte,
 * scales counted at 4 bytes; modules not in scope at the compute type. */
int64_t ssmq_spec_weight_bytes(const ssmq_spec *spec, const ssmq_shape *shape);

#ifdef __cplusplus
}
#endif
#endif
