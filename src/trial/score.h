/* SPDX-License-Identifier: Apache-2.0 */
/* trial/score.h - perplexity protocols: which tokens are scored in which window, and running them
 * on an engine. Definitions: design section 7; counts as in the published protocols. */
#ifndef SSMQ_TRIAL_SCORE_H
#define SSMQ_TRIAL_SCORE_H

#include "base/status.h"
#include "config/config.h"
#include "engine/engine.h"
#include "model/tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ssmq_protocol_spec {
    ssmq_protocol protocol;
    int64_t seq_len;     /* window; of stream: tokens of one prefill call */
    int64_t stride;      /* of sliding; 1 <= stride <= seq_len */
    int64_t batch_size;  /* windows run together; results do not depend on it */
    int64_t deadline_ns; /* ssmq_now_ns() after which scoring stops with TIMEOUT; 0: none */
    int32_t prefix_id;   /* of rolling: what stands before the text, ssmq_protocol_prefix() */
} ssmq_protocol_spec;

/* Window i of n tokens: it covers [begin, end) and scores targets [first_target, end). Token -1 is
 * the prefix. */
typedef struct ssmq_window {
    int64_t begin, end, first_target;
} ssmq_window;

/* Windows of a text of n_tokens; 0 if it is too short to score anything.
 *   disjoint  n_tokens / seq_len windows, tail dropped, first token of each unscored
 *   sliding   windows begin every stride tokens, the last ends the text; each token but the first
 *             is scored once, in the first window that holds it. With stride = seq_len windows do
 *             not overlap, so the first token of each has no context and is not scored; a last
 *             window of that token alone is left out.
 *   stream    one window over everything, the first token unscored
 *   rolling   lm-evaluation-harness with context_len 1: seq_len inputs a window, the first of them
 *             the token before its first target, of the text's first token the prefix; each token
 *             is scored once; the last window begins so early that it has seq_len inputs too
 *   half_window  llama.cpp: n_tokens / seq_len windows, tail dropped; scored are the tokens after
 *             the first seq_len / 2 + 1 of each; a text shorter than two windows has none */
int64_t ssmq_protocol_n_windows(const ssmq_protocol_spec *spec, int64_t n_tokens);
ssmq_window ssmq_protocol_window(const ssmq_protocol_spec *spec, int64_t n_tokens, int64_t i);

/* The id that rolling puts before a text: that of <|endoftext|>, which is the begin and end of a
 * text to tokenizers of the GPT-NeoX kind.
 * Fails: CONFIG (no tokenizer, or none that knows the token), NOMEM. */
SSMQ_MUST_USE ssmq_status ssmq_protocol_prefix(int32_t *out, const ssmq_tokenizer *tokenizer,
                                               ssmq_err *err);
/* Token t of a text, or the prefix for t = -1. */
int32_t ssmq_protocol_token(const ssmq_protocol_spec *spec, const int32_t *ids, int64_t t);

/* Windows of equal length from window i on, at most batch_size: they run together. */
int64_t ssmq_protocol_n_together(const ssmq_protocol_spec *spec, int64_t n_tokens, int64_t i);
/* Always fails: CONFIG (the text holds no window to score, with its numbers). */
SSMQ_MUST_USE ssmq_status ssmq_protocol_no_window(const ssmq_protocol_spec *spec, int64_t n_tokens,
                                                  ssmq_err *err);

/* Scores a text. nll [n_tokens]: nll[t] = -log p(ids[t] | its window before t), NaN where token t
 * is not scored.  Fails: CONFIG (nothing to score), NUMERIC (infinite or NaN NLLs, with their
 * count), TIMEOUT, or what the engine returns. */
SSMQ_MUST_USE ssmq_status ssmq_score_text(ssmq_engine *engine, const ssmq_protocol_spec *spec,
                                          const int32_t *ids, int64_t n_tokens, double *nll,
                                          ssmq_err *err);

/* Sums of an nll array (NaN: unscored), in fp64, in order of position. */
typedef struct ssmq_score {
    double nll_sum;
    int64_t n_tokens;
    double nll_mean; /* NaN without tokens */
    double ppl;
} ssmq_score;
ssmq_score ssmq_score_sum(const double *nll, int64_t n_tokens);

#ifdef __cplusplus
}
#endif
#endif
