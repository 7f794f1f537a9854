/* SPDX-License-Identifier: Apache-2.0 */
/* An engine for tests that copies: it says what followed the longest earlier match of the tokens so
 * far, so it finds the key of a passkey prompt. With the demo's tokenizer its mistakes are known:
 * where the next token is COPY_ENGINE_NINE ("9") it says a full stop, and so it does where the
 * first token after a prefill is COPY_ENGINE_ONE (" 1"), which then is its second choice. Logits
 * after a prefill are 4 for what it says, 3 for the second choice and 0 elsewhere; every NLL of a
 * decode step is 0.5. One prefill after each reset. */
#ifndef SSMQ_TESTS_COPY_ENGINE_H
#define SSMQ_TESTS_COPY_ENGINE_H

#include "engine/engine.h"

enum { COPY_ENGINE_STOP = 14, COPY_ENGINE_NINE = 25, COPY_ENGINE_ONE = 1180 };

ssmq_engine *copy_engine_open(void);
/* Loads since it was opened. */
int copy_engine_n_loads(const ssmq_engine *engine);

#endif
