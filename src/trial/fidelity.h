/* SPDX-License-Identifier: Apache-2.0 */
/* trial/fidelity.h - from the divergence of each token to the numbers of a record. */
#ifndef SSMQ_TRIAL_FIDELITY_H
#define SSMQ_TRIAL_FIDELITY_H

#include "record/record.h"
#include "trial/divergence.h"
#include "trial/score.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct trial_fidelity {
    const ssmq_protocol_spec *spec;
    const ssmq_divergence *tokens; /* [n_tokens] of the text; those that spec scores are read */
    int64_t n_tokens;
    const char *draw; /* seeds the bootstrap: the same for every precision */
} trial_fidelity;

/* Fills the fidelity fields and series. Sampling units of errors and intervals are blocks: windows,
 * or pieces of seq_len tokens of a stream. A text without a scored token leaves all of them null.
 * Fails: NOMEM, INTERNAL. */
SSMQ_MUST_USE ssmq_status trial_report_fidelity(const trial_fidelity *result, ssmq_record *record,
                                                ssmq_samples *samples, ssmq_err *err);

#ifdef __cplusplus
}
#endif
#endif
