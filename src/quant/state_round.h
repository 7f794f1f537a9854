/* SPDX-License-Identifier: Apache-2.0 */
/* quant/state_round.h - what storing the recurrent state in a smaller type does to it.
 *
 * A row is one channel of one head: N numbers. Formats have one scale a row, absmax / qmax, found
 * anew at each store; fp16 and bf16 have none. To nearest, ties to even; or stochastically: of the
 * two neighbours in the type the upper one with the probability that makes the mean exact
 * (saturating), by a draw that depends on place and index alone. */
#ifndef SSMQ_QUANT_STATE_ROUND_H
#define SSMQ_QUANT_STATE_ROUND_H

#include "quant/precision.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a row's draws depend on: not on the batch, nor on how a context is cut elsewhere. */
typedef struct ssmq_state_place {
    int64_t layer;
    int64_t token; /* consumed tokens */
    int64_t row;   /* head * P + channel */
} ssmq_state_place;

/* row [n] to the state's type and back, in place. */
void ssmq_state_round(const ssmq_precision *precision, const ssmq_state_place *place, float *row,
                      int64_t n);

#ifdef __cplusplus
}
#endif
#endif
