/* SPDX-License-Identifier: Apache-2.0 */
/* support/oracle.h - Mamba2 as plain fp64 loops, token by token, written from the definition of the
 * recurrence and of the quantizers alone. It shares no code with the engines but the reading of
 * tensors and the rounding of one number to 16 bits. */
#ifndef SUPPORT_ORACLE_H
#define SUPPORT_ORACLE_H

#include "model/model.h"
#include "quant/spec.h"

/* Feeds n ids to a fresh state. nll [n - 1]: nll[t] = -log p(ids[t + 1] | ids[0..t]), or NULL.
 * logits [V]: after the last id, or NULL. spec NULL: fp64 throughout; else tensors are rounded to
 * its compute type where it is one of 16 bits, and its modules are quantized. */
void oracle_run(const ssmq_model *model, const ssmq_spec *spec, const int32_t *ids, int64_t n,
                double *nll, double *logits);

#endif
