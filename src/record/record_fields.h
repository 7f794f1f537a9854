/* SPDX-License-Identifier: Apache-2.0 */
/* record/record_fields.h - the field table. A new field is one line here and its assignment in
 * trial/. Columns: kind, name, (bytes of a text,) unit, meaning. */
#ifndef SSMQ_RECORD_RECORD_FIELDS_H
#define SSMQ_RECORD_RECORD_FIELDS_H

/* clang-format off */
#define SSMQ_RECORD_FIELDS(STR, I64, F64)                                                                   \
    STR(IDENTITY, run_id, 128, "1", "name of the run folder: UTC time and a short hash")                    \
    STR(IDENTITY, trial_id, 72, "1", "SHA-256 of trial_key, inputs and numerics version")                   \
    STR(IDENTITY, trial_key, 512, "1", "canonical text of everything that defines the trial")               \
    STR(IDENTITY, task, 16, "1", "ppl, passkey, profile, fidelity or drift")                               \
    STR(RESULT, status, 16, "1", "ok, skipped, nonfinite, oom, timeout, device_error, device_lost, crashed, internal or io") \
    STR(RESULT, status_reason, 256, "1", "why the status is not ok")                                        \
    I64(PROVENANCE, attempt, "1", "1 for the first try of this trial")                                      \
    I64(PROVENANCE, rank, "1", "MPI rank that ran it")                                                      \
    STR(PROVENANCE, started_utc, 24, "1", "when the trial began, ISO 8601")                                 \
    STR(PROVENANCE, git_commit, 48, "1", "commit of ssmq, with -dirty if its tree was changed")             \
    STR(PROVENANCE, engine_version, 32, "1", "version of ssmq")                                             \
    STR(PROVENANCE, numerics_version, 16, "1", "version of engine semantics, prompts and protocols")        \
    STR(PROVENANCE, host, 64, "1", "host name")                                                             \
    STR(PROVENANCE, cpu_name, 96, "1", "processor")                                                         \
    I64(PROVENANCE, n_threads, "1", "host threads of the engine")                                           \
    STR(PROVENANCE, gpu_name, 96, "1", "GPU; empty without one")                                            \
    STR(PROVENANCE, driver, 32, "1", "GPU driver")                                                          \
    STR(PROVENANCE, cuda, 32, "1", "CUDA runtime")                                                          \
    STR(PROVENANCE, cublaslt, 32, "1", "cuBLASLt")                                                          \
    STR(PROVENANCE, nccl, 32, "1", "NCCL")                                                                  \
    STR(SETTING, model_name, 128, "1", "checkpoint folder or random shape")                                 \
    STR(SETTING, model_revision, 64, "1", "revision the user gave")                                         \
    STR(SETTING, model_sha256, 72, "1", "config.json and tensor files")                                     \
    STR(SETTING, tokenizer_sha256, 72, "1", "tokenizer.json")                                               \
    STR(SETTING, text_sha256, 72, "1", "text of the task")                                                  \
    STR(SETTING, precision, 32, "1", "named precision")                                                     \
    STR(SETTING, scope, 128, "1", "modules that are quantized")                                             \
    STR(SETTING, dtype, 8, "1", "compute type of what is not quantized")                                    \
    STR(SETTING, device, 16, "1", "engine: cpu, cuda or null")                                              \
    I64(SETTING, batch_size, "sequence", "sequences run together")                                          \
    I64(SETTING, seq_len, "token", "window of the perplexity protocol")                                     \
    I64(SETTING, stride, "token", "step between windows")                                                   \
    I64(SETTING, gen_len, "token", "generated tokens")                                                      \
    I64(SETTING, context_length, "token", "prompt or prefill length")                                       \
    I64(SETTING, max_context_tokens, "token", "longest context any sequence of the trial reached")          \
    I64(SETTING, w_bits, "bit", "stored bits of a quantized weight")                                        \
    I64(SETTING, a_bits, "bit", "bits of a quantized activation")                                           \
    STR(SETTING, w_format, 16, "1", "number format of weights")                                             \
    STR(SETTING, a_format, 16, "1", "number format of activations")                                         \
    I64(SETTING, group_size, "weight", "weights a scale along K; 0 for one scale a channel")                \
    I64(SETTING, per_channel, "1", "1 if each output channel has one weight scale, 0 if groups do")         \
    STR(SETTING, calib_method, 96, "1", "how scales were found")                                            \
    STR(SETTING, quant_backend, 48, "1", "library that computed the products")                              \
    STR(SETTING, state_dtype, 16, "1", "type of the recurrent state")                                       \
    STR(SETTING, state_rounding, 16, "1", "how the state is rounded to it: nearest or stochastic")          \
    F64(SETTING, storage_bits, "bit", "stored bits a linear weight, scales counted, over all linear layers") \
    STR(SETTING, compute_type, 32, "1", "type quantized products were accumulated in")                      \
    STR(PROVENANCE, algo_id, 48, "1", "algorithm of the matrix library")                                    \
    STR(PROVENANCE, gemm_algorithms, 16, "1", "fixed by shape, or measured; empty: there is no choice")     \
    STR(SETTING, decode_products, 16, "1", "whose products decode steps took: library, own or both; empty: there is no choice") \
    STR(SETTING, fallback, 96, "1", "what ran instead of what was asked for; empty if nothing")             \
    I64(SETTING, seed, "1", "seed of the trial")                                                            \
    STR(SETTING, generation, 48, "1", "decoding settings")                                                  \
    STR(SETTING, protocol, 16, "1", "perplexity protocol: disjoint, sliding, stream, rolling or half_window") \
    F64(RESULT, ppl, "1", "perplexity, exp(nll_mean)")                                                      \
    F64(RESULT, nll_mean, "nat", "mean negative log likelihood of a scored token")                          \
    F64(RESULT, nll_sum, "nat", "sum over scored tokens")                                                   \
    F64(RESULT, nll_sem, "nat", "standard error of nll_mean from window means")                             \
    I64(RESULT, n_tokens, "token", "scored tokens")                                                         \
    I64(RESULT, n_words, "1", "white-space separated words of the scored text, as lm-evaluation-harness counts; of rolling") \
    I64(RESULT, n_bytes, "byte", "UTF-8 bytes of the scored text, of its ids if ppl.max_tokens cuts it; of rolling") \
    F64(RESULT, word_perplexity, "1", "exp(nll_sum / n_words)")                                             \
    F64(RESULT, byte_perplexity, "1", "exp(nll_sum / n_bytes)")                                             \
    F64(RESULT, bits_per_byte, "bit", "nll_sum / (n_bytes ln 2)")                                           \
    I64(RESULT, n_windows, "1", "windows of the protocol")                                                  \
    F64(MEASURED, runtime_s, "s", "wall time of the trial without loading weights")                           \
    F64(MEASURED, tokens_per_s, "token/s", "scored tokens over runtime_s")                                    \
    F64(MEASURED, reused_share, "1", "share of layer computations left out: done by earlier trials of the rank or for other prompts")  \
    STR(SETTING, prompt_template_version, 32, "1", "template of passkey prompts and prompts like them")     \
    STR(SETTING, prompt_template_hash, 72, "1", "SHA-256 of the template's parts and filler")               \
    STR(RESULT, prompt_hash, 72, "1", "SHA-256 of all prompt ids of the trial")                             \
    I64(RESULT, n_trials, "1", "passkey prompts")                                                           \
    I64(RESULT, n_correct, "1", "prompts answered exactly")                                                 \
    F64(RESULT, accuracy, "1", "n_correct / n_trials")                                                      \
    F64(RESULT, accuracy_ci_low, "1", "lower end of the 95 % Wilson interval")                              \
    F64(RESULT, accuracy_ci_high, "1", "upper end of the 95 % Wilson interval")                             \
    F64(RESULT, digit_accuracy, "1", "share of the key's digits (of ruler-vt: the names' letters) that were right") \
    F64(RESULT, answer_nll_mean, "nat", "mean negative log likelihood of an answer token")                  \
    F64(RESULT, answer_rank_mean, "1", "mean rank of the first answer token, 1 is best")                    \
    F64(RESULT, control_accuracy, "1", "accuracy on the same prompts without the needle")                   \
    F64(RESULT, wrong_key_accuracy, "1", "accuracy on the same prompts with another key, which is the right answer") \
    F64(SETTING, accuracy_floor, "1", "cells whose baseline's lower bound is below are masked in figures")  \
    STR(SETTING, baseline, 32, "1", "precision that others are compared with")                              \
    F64(RESULT, kl_mean, "nat", "mean KL(baseline || precision) of the next-token distributions")           \
    F64(RESULT, kl_sem, "nat", "standard error of kl_mean, windows as units")                               \
    F64(RESULT, kl_mean_ci_low, "nat", "lower end of the 95 % block-bootstrap interval, windows as blocks") \
    F64(RESULT, kl_mean_ci_high, "nat", "upper end of that interval")                                       \
    F64(RESULT, kl_min, "nat", "smallest KL of a token")                                                    \
    F64(RESULT, kl_p001, "nat", "0.1th percentile over tokens")                                             \
    F64(RESULT, kl_p01, "nat", "1st percentile over tokens")                                                \
    F64(RESULT, kl_p05, "nat", "5th percentile over tokens")                                                \
    F64(RESULT, kl_p10, "nat", "10th percentile over tokens")                                               \
    F64(RESULT, kl_p50, "nat", "50th percentile over tokens")                                               \
    F64(RESULT, kl_p90, "nat", "90th percentile over tokens")                                               \
    F64(RESULT, kl_p95, "nat", "95th percentile over tokens")                                               \
    F64(RESULT, kl_p99, "nat", "99th percentile over tokens")                                               \
    F64(RESULT, kl_p999, "nat", "99.9th percentile over tokens")                                            \
    F64(RESULT, kl_max, "nat", "largest KL of a token")                                                     \
    F64(RESULT, kl_worst5_mean, "nat", "mean of the largest 5 % of the tokens' KL")                         \
    F64(RESULT, reverse_kl_mean, "nat", "mean KL(precision || baseline)")                                   \
    F64(RESULT, jsd_mean, "nat", "mean Jensen-Shannon divergence")                                          \
    F64(RESULT, delta_p_mean, "1", "mean change of the probability of the true token, precision - baseline")\
    F64(RESULT, delta_p_rms, "1", "its root mean square")                                                   \
    F64(RESULT, delta_p_min, "1", "its smallest value")                                                     \
    F64(RESULT, delta_p_p001, "1", "0.1th percentile over tokens")                                          \
    F64(RESULT, delta_p_p01, "1", "1st percentile over tokens")                                             \
    F64(RESULT, delta_p_p05, "1", "5th percentile over tokens")                                             \
    F64(RESULT, delta_p_p10, "1", "10th percentile over tokens")                                            \
    F64(RESULT, delta_p_p25, "1", "25th percentile over tokens")                                            \
    F64(RESULT, delta_p_p50, "1", "50th percentile over tokens")                                            \
    F64(RESULT, delta_p_p75, "1", "75th percentile over tokens")                                            \
    F64(RESULT, delta_p_p90, "1", "90th percentile over tokens")                                            \
    F64(RESULT, delta_p_p95, "1", "95th percentile over tokens")                                            \
    F64(RESULT, delta_p_p99, "1", "99th percentile over tokens")                                            \
    F64(RESULT, delta_p_p999, "1", "99.9th percentile over tokens")                                         \
    F64(RESULT, delta_p_max, "1", "its largest value")                                                      \
    F64(RESULT, same_top_share, "1", "share of tokens with the same likeliest next token")                  \
    F64(RESULT, same_top_ci_low, "1", "lower end of its 95 % block-bootstrap interval")                     \
    F64(RESULT, same_top_ci_high, "1", "upper end of that interval")                                        \
    F64(RESULT, top5_overlap, "1", "mean share of the five likeliest tokens in common")                     \
    F64(RESULT, baseline_nll_mean, "nat", "nll_mean of the baseline over the same tokens")                  \
    F64(RESULT, baseline_ppl, "1", "exp(baseline_nll_mean)")                                                \
    F64(RESULT, delta_nll_mean, "nat", "nll_mean - baseline_nll_mean: the logarithm of ppl_ratio")          \
    F64(RESULT, delta_nll_sem, "nat", "standard error of delta_nll_mean, paired, windows as units")         \
    F64(RESULT, delta_nll_ci_low, "nat", "lower end of its 95 % block-bootstrap interval")                  \
    F64(RESULT, delta_nll_ci_high, "nat", "upper end of that interval")                                     \
    F64(RESULT, ppl_ratio, "1", "ppl / baseline_ppl")                                                       \
    F64(RESULT, nll_correlation, "1", "Pearson correlation of the tokens' NLL with the baseline's")         \
    STR(SETTING, drift_path, 16, "1", "how both models take the tokens: prefill or decode")                 \
    F64(SETTING, drift_impulse, "1", "relative error put into the state once, one step before the last; null if none was") \
    F64(RESULT, drift_error_final, "1", "relative error of the recurrent state at the last step, root mean square over heads")\
    F64(RESULT, drift_error_final_ci_low, "1", "lower end of its 95 % bootstrap interval, sequences as units")\
    F64(RESULT, drift_error_final_ci_high, "1", "upper end of that interval")                               \
    F64(RESULT, drift_injected_error_final, "1", "the same of the state that began as the baseline's one step before")\
    F64(RESULT, drift_floor, "1", "distance of prefill and decode path there: of the precision, of the baseline if the state has less than fp32")         \
    STR(RESULT, drift_verdict, 16, "1", "resolved if drift_error_final is above drift_floor, else not resolved")\
    F64(RESULT, drift_conv_error_final, "1", "relative error of the conv state there, root mean square over layers")\
    F64(RESULT, drift_exponent, "1", "slope of the logarithm of the error on that of the tokens, all heads")\
    F64(RESULT, drift_exponent_ci_low, "1", "lower end of its 95 % interval")                               \
    F64(RESULT, drift_exponent_ci_high, "1", "upper end of that interval")                                  \
    I64(RESULT, drift_n_points, "1", "steps times sequences above the floor, which the line goes through")  \
    I64(RESULT, drift_n_heads, "1", "heads of all layers")                                                  \
    I64(RESULT, drift_n_resolved, "1", "heads whose error at the last step is above their floor")           \
    I64(RESULT, drift_worst_layer, "1", "layer with the largest error at the last step; null if there is none")                    \
    F64(RESULT, drift_kl_mean, "nat", "mean KL(baseline || precision) of the next token at the steps")      \
    F64(RESULT, drift_same_top_share, "1", "share of steps with the same likeliest next token")             \
    I64(RESULT, drift_n_nonfinite, "1", "most entries of a layer's state that are not finite, at any step") \
    F64(RESULT, drift_impulse_half_life, "token", "tokens in which what the impulse left in a head's state falls to a half, median over heads; null if in over half of them it does not") \
    F64(RESULT, drift_impulse_left, "1", "what the impulse left at the last step, as a share of it, root mean square over heads") \
    I64(RESULT, drift_n_saturated, "1", "most entries of a layer's state at the largest number of its type")\
    I64(SETTING, n_warmup, "1", "repeats before measuring")                                                 \
    I64(SETTING, n_measure, "1", "measured repeats")                                                        \
    F64(MEASURED, prefill_tokens_per_s, "token/s", "batch_size * context_length / prefill_ms")                \
    F64(MEASURED, prefill_ms, "ms", "median time of one prefill")                                             \
    F64(MEASURED, prefill_ms_p10, "ms", "10th percentile")                                                    \
    F64(MEASURED, prefill_ms_p90, "ms", "90th percentile")                                                    \
    F64(MEASURED, decode_tokens_per_s, "token/s", "batch_size / decode_ms")                                   \
    F64(MEASURED, decode_ms, "ms", "median time of one decode step")                                          \
    F64(MEASURED, decode_ms_p10, "ms", "10th percentile")                                                     \
    F64(MEASURED, decode_ms_p90, "ms", "90th percentile")                                                     \
    F64(MEASURED, host_prefill_ms, "ms", "median of the same prefill by the host clock")                      \
    F64(MEASURED, host_decode_ms, "ms", "median of the same decode step by the host clock")                   \
    F64(MEASURED, prefill_peak_mem_mb, "MB", "peak of the engine's memory during prefill, 10^6 bytes")        \
    F64(MEASURED, decode_peak_mem_mb, "MB", "peak of the engine's memory during decode, 10^6 bytes")          \
    F64(MEASURED, weight_mem_mb, "MB", "weights at their stored size, scales counted")                        \
    F64(MEASURED, state_mem_mb, "MB", "recurrent and conv state of the batch")                                \
    F64(MEASURED, activation_mem_mb, "MB", "buffers between operations, larger of prefill and decode")        \
    F64(MEASURED, workspace_mem_mb, "MB", "scratch of libraries, larger of prefill and decode")               \
    I64(MEASURED, sm_clock_mhz, "MHz", "lowest clock of the multiprocessors after a measured call")         \
    I64(MEASURED, memory_clock_mhz, "MHz", "lowest clock of the device memory after a measured call")       \
    I64(MEASURED, temperature_c, "degC", "highest temperature of the device after a measured call")         \
    I64(MEASURED, throttle_reasons, "1", "NVML clocks event reasons of all measured calls, a bit mask")     \
    STR(SETTING, timer, 32, "1", "what measured prefill_ms and decode_ms")                                  \
    STR(SETTING, memory_source, 32, "1", "what counted the memory")                                         \
    STR(SETTING, notes, 512, "1", "the user's notes")
/* clang-format on */

#endif
