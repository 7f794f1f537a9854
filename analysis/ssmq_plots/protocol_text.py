# SPDX-License-Identifier: Apache-2.0
"""What a paper's appendix must say of each task, from the records themselves."""
from ssmq_plots import style

PPL = {
    "disjoint": "disjoint windows of seq_len tokens from a zero state, the tail dropped, the first "
                "token of each window not scored (as GPTQ's evaluation)",
    "sliding": "windows of seq_len tokens from a zero state every stride tokens; each token is "
               "scored once, in the first window that holds it, token-weighted exactly; the first "
               "token of the text is not scored",
    "stream": "one pass over the whole text with the recurrent state carried over; every token but "
              "the first is scored; blocks of errors are pieces of seq_len tokens",
    "rolling": "rolling windows of lm-evaluation-harness with context_len 1: seq_len inputs a window "
               "from a zero state, the first of them the token before the first scored one (of the "
               "text's first token <|endoftext|>), the last window topped up with context; every "
               "token is scored once; word and byte perplexity divide by the words "
               "(len(re.split(r\"\\s+\", text))) and UTF-8 bytes of the text, which is one document "
               "and is not detokenized",
    "half_window": "llama.cpp's perplexity: disjoint windows of seq_len tokens from a zero state, tail "
                   "dropped, the tokens after the first seq_len / 2 + 1 of each scored, no token "
                   "replaced by a begin-of-text token",
}


def hashes(values):
    return ", ".join(f"`{value}`" for value in style.distinct(v for v in values if v)) or "none"


def common(trials):
    models = style.distinct(f"{t['model_name']} (SHA-256 `{t['model_sha256']}`"
                            + (f", revision {t['model_revision']})" if t["model_revision"] else ")")
                            for t in trials)
    return (f"Model {'; '.join(models)}. Tokenizer SHA-256 "
            f"{hashes(t['tokenizer_sha256'] for t in trials)}. Seeds: "
            f"{', '.join(str(s) for s in sorted({t['seed'] for t in trials}))}. Numerics version "
            f"{', '.join(style.distinct(t['numerics_version'] for t in trials))}. No special token is "
            "put before a text or a prompt. Recurrent state: "
            f"{', '.join(style.distinct(t['state_dtype'] for t in trials))}.")


def precisions(trials):
    lines = []
    for trial in {t["precision"]: t for t in trials}.values():
        if trial["group_size"] is None:
            lines.append(f"- `{trial['precision']}`: computed in {trial['dtype']}, nothing quantized.")
            continue
        scale = (f"a scale for {trial['group_size']} weights along K" if trial["group_size"]
                 else "a scale for each output channel")
        lines.append(
            f"- `{trial['precision']}`: weights {trial['w_format']}, activations "
            f"{trial['a_format']}, the rest in {trial['dtype']}; symmetric, round half to even, "
            f"{scale}; {trial['calib_method']}; products: {trial['compute_type'] or 'not named'} by "
            f"{trial['quant_backend'] or 'not named'}"
            + (f"; fallback: {trial['fallback']}" if trial["fallback"] else "") + ".")
    return "\n".join(lines)


def windows(trials):
    """Of ppl and fidelity: a sentence for each protocol, with what was counted."""
    lines = []
    for name in dict.fromkeys(t["protocol"] for t in trials):
        mine = [t for t in trials if t["protocol"] == name and t["status"] == "ok"]
        if not mine:
            continue
        counted = {(t["seq_len"], t["stride"], t["n_windows"], t["n_tokens"]) for t in mine}
        lines.append(f"- `{name}`: {PPL.get(name, name)}. "
                     + "; ".join(f"seq_len {length}" + (f", stride {stride}" if stride else "")
                                 + f": {tokens} tokens scored in {n} windows"
                                 for length, stride, n, tokens in sorted(
                                     counted, key=lambda c: tuple(x or 0 for x in c))) + ".")
    text = hashes(t["text_sha256"] for t in trials)
    return (f"Text SHA-256 {text}. NLL in nats, natural logarithm, summed in fp64; perplexity is "
            "exp of the mean over scored tokens.\n\n" + "\n".join(lines))


def passkey(trials):
    done = [t for t in trials if t["status"] == "ok"]
    kinds = style.distinct(f"`{t['prompt_template_version']}` (SHA-256 "
                           f"`{t['prompt_template_hash']}`)" for t in trials)
    prompts = {(t["prompt_template_version"], t["context_length"], t["seed"]):
               (t["n_trials"], t["prompt_hash"]) for t in done}
    listed = "\n".join(f"- `{template}`, {length} tokens, seed {seed}: {n} prompts, SHA-256 of their "
                       f"ids `{sha}`"
                       for (template, length, seed), (n, sha) in sorted(prompts.items()))
    return (f"Prompts of exact token length, template {', '.join(kinds)}; the same for every "
            "precision. Filler is cut between tokens. Greedy decoding; an answer counts if the "
            "answer's own token ids are said exactly. 95 % Wilson intervals; against the baseline "
            f"McNemar's exact two-sided test, prompt by prompt.\n\n{listed}")


def profile(trials):
    # Files of earlier versions lack the field: there was no choice.
    products = style.distinct(t["decode_products"] for t in trials if t.get("decode_products"))
    return (f"{style.span(t['n_warmup'] for t in trials)} repeats before measuring, "
            f"{style.span(t['n_measure'] for t in trials)} measured; medians, 10th and 90th "
            f"percentile; timer: {', '.join(style.distinct(t['timer'] for t in trials if t['timer']))}"
            "; memory: " + ", ".join(style.distinct(t["memory_source"] for t in trials
                                                    if t["memory_source"]))
            + (f"; products of decode steps: {', '.join(products)}" if products else "") + ".")


FIDELITY = ("Baseline and precision run side by side over the same windows on the same device; full "
            "next-token distributions from fp32 logits, softmax and sums in fp64, no file of logits. "
            "KL is KL(baseline || precision) in nats a token. Percentiles by linear interpolation over "
            "scored tokens. 95 % intervals: percentile bootstrap, 2000 samples, blocks (windows, or "
            "pieces of seq_len of a stream) as units; draws from SplitMix64 seeded by the SHA-256 of "
            "the trial's key without precision and scope.")
SENSITIVITY = ("Each projection of each layer quantized alone (scope `only:`) against the unquantized "
               "model in the same compute type (of fidelity trials: the baseline) over the same windows, "
               "by the NLL it adds and by KL(baseline || precision); intervals: 95 % of means of "
               "windows drawn with replacement, 10000 draws, PCG64.")
DRIFT = ("Both models take the same tokens; relative error of a head's recurrent state by the "
         "Frobenius norm, root mean square over heads and sequences. The floor is the same precision's "
         "prefill path against its decode path; an error at or below it is not resolved. The exponent "
         "is the slope of ln error on ln tokens over points above the floor.")
IMPULSE = (" Impulse: one step before the last every entry of the precision's own state is multiplied by "
           "1 + {size:g} or 1 - {size:g}, signs drawn, the same for every precision; the relative "
           "difference to the same model without it, over {size:g}. Its half-life is the median over "
           "heads, and none if it does not fall to a half.")


def drift(trials):
    sizes = sorted({t.get("drift_impulse") for t in trials} - {None})
    return DRIFT + "".join(IMPULSE.format(size=size) for size in sizes)
