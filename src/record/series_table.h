/* SPDX-License-Identifier: Apache-2.0 */
/* record/series_table.h - the table of raw series beside a record. Those of drift are arrays, last
 * index fastest, over the axes that their meaning ends with. */
#ifndef SSMQ_RECORD_SERIES_TABLE_H
#define SSMQ_RECORD_SERIES_TABLE_H

/* clang-format off */
/* Raw series: name, unit, meaning. */
#define SSMQ_SERIES_TABLE(X)                                                                                \
    X("prefill_ms", "ms", "time of each measured prefill")                                                  \
    X("decode_ms", "ms", "time of each measured decode step, repeats one after another")                    \
    X("host_prefill_ms", "ms", "the same prefills by the host clock")                                       \
    X("nll_window", "nat", "mean negative log likelihood of each window")                                   \
    X("nll_window_tokens", "token", "scored tokens of each window") \
    X("nll_bucket_mean", "nat", "mean negative log likelihood of positions [2^k, 2^(k+1)) in their window or stream") \
    X("nll_bucket_sem", "nat", "standard error of each of those means, windows as units")                   \
    X("nll_bucket_tokens", "token", "tokens in each of those buckets")                                      \
    X("kl_window", "nat", "mean KL(baseline || precision) of each window")                                  \
    X("delta_nll_window", "nat", "mean NLL less the baseline's of each window")                             \
    X("kl_bucket_mean", "nat", "mean KL(baseline || precision) of the positions of nll_bucket_mean")        \
    X("delta_nll_bucket_mean", "nat", "mean NLL less the baseline's of those positions")                    \
    X("delta_nll_bucket_sem", "nat", "standard error of each of those means, windows as units")             \
    X("passkey_depth", "1", "asked place of each prompt's needle, 0 start to 1 end")                        \
    X("passkey_key", "1", "key of each prompt")                                                             \
    X("passkey_correct", "1", "1 if the prompt was answered exactly")                                       \
    X("passkey_digits", "1", "right digits (of ruler-vt: letters) of each prompt")                                                 \
    X("passkey_answer_nll", "nat", "mean negative log likelihood of each prompt's answer tokens")           \
    X("passkey_answer_rank", "1", "rank of each prompt's first answer token")                               \
    X("passkey_control", "1", "1 if the prompt without needle was answered exactly")                        \
    X("passkey_wrong_key", "1", "1 if the prompt with another key was answered exactly with that key") \
    X("drift_step", "token", "tokens of each step")                                                         \
    X("drift_error", "1", "relative error of the recurrent state: step, sequence, layer, head")             \
    X("drift_cosine", "1", "its cosine with the baseline's")                                                \
    X("drift_norm_ratio", "1", "its norm over the baseline's")                                              \
    X("drift_injected_error", "1", "relative error of the state that began as the baseline's one step before")\
    X("drift_floor", "1", "relative distance of prefill and decode path, as the field drift_floor says")              \
    X("drift_conv_error", "1", "relative error of the conv state: step, sequence, layer")                   \
    X("drift_conv_injected_error", "1", "the same of the state that began as the baseline's one step before")\
    X("drift_conv_floor", "1", "the same of the two paths")                                                 \
    X("drift_kl", "nat", "KL(baseline || precision) of the next token: step, sequence")                     \
    X("drift_injected_kl", "nat", "the same of the state that began as the baseline's one step before")     \
    X("drift_kl_floor", "nat", "the same of the two paths")                                                 \
    X("drift_same_top", "1", "1 if the likeliest next token is the baseline's: step, sequence")             \
    X("drift_n_nonfinite", "1", "entries of the recurrent state that are not finite: step, sequence, layer")\
    X("drift_n_saturated", "1", "entries at the largest number of the state's type: step, sequence, layer") \
    X("drift_half_life", "token", "tokens in which a state halves where dt is what dt_bias makes it: layer, head")\
    X("drift_error_rms", "1", "root mean square of drift_error over sequences, layers and heads: step")     \
    X("drift_injected_error_rms", "1", "the same of drift_injected_error")                                  \
    X("drift_floor_rms", "1", "the same of drift_floor")                                                    \
    X("drift_layer_error", "1", "root mean square of drift_error over sequences and heads: step, layer")    \
    X("drift_layer_injected_error", "1", "the same of drift_injected_error")                                \
    X("drift_layer_floor", "1", "the same of drift_floor")                                                  \
    X("drift_layer_exponent", "1", "growth exponent of each layer")                                         \
    X("drift_layer_exponent_ci_low", "1", "lower end of its 95 % interval")                                 \
    X("drift_layer_exponent_ci_high", "1", "upper end of that interval")                                    \
    X("drift_impulse_step", "token", "tokens after the impulse")                                            \
    X("drift_impulse_response", "1", "what the impulse left in the recurrent state, as a share of it: impulse_step, sequence, layer, head") \
    X("drift_impulse_head_half_life", "token", "tokens in which that falls to a half, over sequences; NaN if it does not: layer, head") \
    X("drift_bin_half_life", "token", "least half-life of each bin of heads, a power of two")               \
    X("drift_bin_heads", "1", "heads of each bin")                                                          \
    X("drift_bin_error", "1", "root mean square of drift_error over sequences and the bin's heads: step, bin")\
    X("drift_bin_floor", "1", "the same of drift_floor")
/* clang-format on */

#endif
