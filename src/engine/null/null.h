/* SPDX-License-Identifier: Apache-2.0 */
/* engine/null/null.h - an engine without a model: numbers from a hash of the tokens, faults from a
 * script. It lets tests of the sweep produce every outcome without computing anything. The script
 * is described at the head of null.c. */
#ifndef SSMQ_ENGINE_NULL_NULL_H
#define SSMQ_ENGINE_NULL_NULL_H

#include "engine/engine.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const ssmq_engine_api ssmq_engine_null;

#ifdef __cplusplus
}
#endif
#endif
