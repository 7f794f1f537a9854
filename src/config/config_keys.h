/* SPDX-License-Identifier: Apache-2.0 */
/* config/config_keys.h - the table of keys. Reading, defaults, checks, writing and comparing go
 * through it: a new key is one line here and its member of the same name in config.h.
 *
 * Columns: section, key, kind, default as YAML, least, greatest, choices, meaning (with unit).
 *   ONE   a single value: section.key
 *   AXIS  a list in an ssmq_axis_*: section.key.n, section.key.values
 *   LIST  a list: section.n_key, section.key
 * Least and greatest bound numbers; choices, separated by " | ", bound texts ("" allows any).
 * Sections stand together, in the order in which they are written. */
#ifndef SSMQ_CONFIG_CONFIG_KEYS_H
#define SSMQ_CONFIG_CONFIG_KEYS_H

/* Bounds that only keep products of sizes inside 63 bits. */
#define SSMQ_MOST_TOKENS  16777216
#define SSMQ_MOST_REPEATS 1000000
#define SSMQ_MOST_SECONDS 1e9

/* clang-format off */
#define SSMQ_CONFIG_KEYS(ONE, AXIS, LIST)                                                          \
    ONE(model, path, NEEDED, "configs/demo", 0, 0, "",                                             \
        "checkpoint folder, or random:NAME for random weights of a published shape")               \
    ONE(model, revision, TEXT, "\"\"", 0, 0, "", "what you call this version; recorded")           \
    ONE(model, device, TEXT, "auto", 0, 0, "auto | cpu | cuda | null", "engine; auto: a GPU if there is one") \
    ONE(model, threads, I64, "0", 0, 4096, "", "host threads a rank; 0: cores / ranks of the host") \
    ONE(model, null_script, TEXT, "\"\"", 0, 0, "", "faults of the null engine")                   \
    LIST(sweep, tasks, TASK, "[ppl, passkey, profile]", 0, 0, "ppl | passkey | profile | fidelity | drift", "what is measured") \
    LIST(sweep, precisions, PRECISION, "[fp16, bf16]", 0, 0, "", "names, or precisions written out") \
    LIST(sweep, scopes, SCOPE, "[all]", 0, 0, "", "modules that a quantized precision applies to") \
    ONE(sweep, only, TEXT, "\"\"", 0, 0, "", "part of the grid, e.g. 'task=ppl or scope=all,none'; empty: all of it") \
    AXIS(sweep, seed, I64, "[0]", 0, 4294967295, "", "seeds of prompts and random ids")            \
    ONE(sweep, baseline, NAME, "bf16", 0, 0, "", "precision that others are compared with")        \
    ONE(sweep, order, TEXT, "cost", 0, 0, "cost | grid | shuffled", "order of trials; results do not depend on it") \
    ONE(sweep, max_trial_s, F64, "0", 0, SSMQ_MOST_SECONDS, "", "seconds a trial may take; 0: no limit") \
    ONE(sweep, reuse_mb, I64, "1024", 0, 1048576, "", "memory a rank, of its GPU or host, 10^6 bytes, for layers that trials share; 0 also stops forks of prompts; results do not depend on it") \
    ONE(sweep, nccl_least_mb, I64, "1000", 0, 1048576, "", "least checkpoint, 10^6 bytes, that goes from GPU to GPU by NCCL; smaller ones come from host memory sooner") \
    ONE(sweep, notes, TEXT, "\"\"", 0, 0, "", "goes into every record")                            \
    ONE(ppl, text, NEEDED, "configs/demo/demo-text.txt", 0, 0, "", "UTF-8 file that is scored")    \
    LIST(ppl, protocols, PROTOCOL, "[disjoint]", 0, 0, "disjoint | sliding | stream | rolling | half_window", "how the text is cut into windows") \
    AXIS(ppl, seq_len, I64, "[2048]", 2, SSMQ_MOST_TOKENS, "", "tokens of a window; of stream: of one prefill call") \
    ONE(ppl, stride, I64, "0", 0, SSMQ_MOST_TOKENS, "", "tokens between windows of sliding; 0: not set") \
    ONE(ppl, max_tokens, I64, "0", 0, 1099511627776, "", "tokens of the text that are used; 0: all") \
    ONE(ppl, batch_size, I64, "1", 1, 4096, "", "windows run together; results do not depend on it") \
    AXIS(passkey, context_length, I64, "[1024, 2048, 4096]", 16, SSMQ_MOST_TOKENS, "", "exact tokens of a prompt") \
    AXIS(passkey, depth, F64, "[0.1, 0.5, 0.9]", 0, 1, "", "places of the needle, 0 start to 1 end") \
    ONE(passkey, n_trials, I64, "4", 1, SSMQ_MOST_REPEATS, "", "prompts a depth")                  \
    LIST(passkey, prompt_template, TEXT, "[demo-1]", 0, 0, "demo-1 | landmark-1 | ruler-niah-1 | ruler-vt-1", "wordings of the prompt; without this key landmark-1 for other models than the demo") \
    ONE(passkey, filler, TEXT, "grass", 0, 0, "grass | text", "what surrounds the needle")         \
    ONE(passkey, filler_text, TEXT, "\"\"", 0, 0, "", "UTF-8 file of filler: text")                \
    ONE(passkey, control, BOOL, "false", 0, 0, "", "also run each prompt without its needle")      \
    ONE(passkey, wrong_key, BOOL, "false", 0, 0, "", "also run each prompt with another key in its needle, which is then the right answer") \
    ONE(passkey, accuracy_floor, F64, "0.5", 0, 1, "", "figures mask cells where the lower end of the baseline's interval is below; results do not depend on it") \
    ONE(passkey, batch_size, I64, "1", 1, 4096, "", "prompts run together; results do not depend on it") \
    AXIS(profile, context_length, I64, "[1024, 2048, 4096]", 1, SSMQ_MOST_TOKENS, "", "tokens of the prefill; decode goes on from there") \
    AXIS(profile, batch_size, I64, "[1]", 1, 4096, "", "sequences run together")                   \
    ONE(profile, gen_len, I64, "32", 1, SSMQ_MOST_REPEATS, "", "decode steps of one sample")       \
    ONE(profile, decode_products, TEXT, "library", 0, 0, "library | own", "on a GPU: products of decode steps of up to 8 sequences by the library, as elsewhere, or by ssmq's own kernels") \
    ONE(profile, n_warmup, I64, "2", 0, SSMQ_MOST_REPEATS, "", "repeats before measuring")         \
    ONE(profile, n_measure, I64, "5", 1, SSMQ_MOST_REPEATS, "", "measured repeats")                \
    ONE(drift, context_length, I64, "4096", 128, SSMQ_MOST_TOKENS, "", "tokens of the last step; steps are 128, 256, 512, ... up to it") \
    ONE(drift, n_sequences, I64, "1", 1, 4096, "", "pieces of ppl.text of that length, run side by side") \
    ONE(drift, path, TEXT, "prefill", 0, 0, "prefill | decode", "how both models take the tokens; the other way gives the floor") \
    ONE(drift, impulse, F64, "0", 0, 1, "", "also: this relative error put once into every head's state, one step before the last, and how it decays; 0: not run") \
    ONE(run, out_dir, NEEDED, "runs", 0, 0, "", "folder of run folders")                           \
    ONE(run, run_id, FOLDER, "\"\"", 0, 0, "", "name of the run folder; empty: UTC time and a short hash") \
    ONE(run, fail_fast, BOOL, "false", 0, 0, "", "stop handing out trials at the first failure")   \
    ONE(run, max_failures, I64, "0", 0, SSMQ_MOST_REPEATS, "", "stop after this many failures; 0: no limit") \
    ONE(run, time_limit_s, F64, "0", 0, SSMQ_MOST_SECONDS, "", "seconds after which no trial is handed out; 0: no limit")
/* clang-format on */

#endif
