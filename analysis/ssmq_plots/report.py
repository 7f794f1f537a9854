# SPDX-License-Identifier: Apache-2.0
"""report.md of a run: what broke where, a table a task, the protocol, and the provenance."""
import json
import math

from ssmq_plots import causes, fidelity, paired, protocol_text, results, sensitivity, verdict
from ssmq_plots.tables import interval, number, p_value, table

MOST_RANKED, MOST_FAILURES = 10, 30


def whole(trials):
    """Without the trials of single projections, which the ranking sums up."""
    return [t for t in trials if not sensitivity.MODULE.match(t["scope"])]


def by_setting(run, trials, *fields):
    """Trials in the order of these fields, then of precisions and scopes as in the file."""
    order = {name: place for place, name in enumerate(run.precisions)}
    return sorted(trials, key=lambda t: (*(t[f] if t[f] is not None else -1 for f in fields),
                                         order[t["precision"]], t["scope"]))


def breaks(run):
    names = verdict.quantized(run)
    if not names:
        raise results.NoData("no trial with everything quantized")
    baseline = run.trials[0]["baseline"]
    floor = next((t["accuracy_floor"] or 0.0 for t in run.of_task("passkey")), 0.0)
    every = cells_of_templates(run)
    rows, sentences = [], []
    for name in names:
        bits = next((t["storage_bits"] for t in run.trials if t["precision"] == name
                     and t["scope"] in ("none", "all")), None)
        ratio = verdict.ppl_ratio(run, name)
        first = verdict.first_to_go(run, name) or verdict.first_to_go(run, name, "kl")
        cells = {template: found[name] for template, found in every.items() if name in found}
        rows.append([name, number(bits, 3),
                     "-" if ratio is None else f"{interval(*ratio[:3], 5)}; {ratio[3]}",
                     "; ".join((f"{template}: " if len(every) > 1 else "")
                               + verdict.Held(found, floor).text()
                               for template, found in cells.items()) or "-",
                     "-" if first is None else first_text(first), drift_text(run, name)])
        sentences.append(f"- {verdict.sentence(run, name, baseline, cells, floor)}")
    return "\n\n".join([
        table(["precision", "stored bits a weight", "perplexity ratio (95 %)",
               "longest context held (tokens)", "first projection to go (95 %)",
               "drift exponent (95 %)"], rows),
        "\n".join(sentences),
        f"Against the baseline {baseline or '(not named)'}, every projection quantized, or the state "
        "alone. Ratio: exp "
        "of the paired difference of mean NLL. A length of passkey prompts counts as held if at it and "
        "at every shorter one where the baseline's lower Wilson end reaches the floor "
        f"({floor:g}), the precision's lower end reaches it too and McNemar's test, by Holm's method "
        f"over the lengths, finds no loss at {verdict.ALPHA:g}. First to go: the projection that adds "
        "most when it alone is quantized. A '-' was not run."])


def cells_of_templates(run):
    """{template: {precision: {length: Cell}}} of every template that the baseline answered."""
    found = {}
    for template in paired.templates(run.of_task("passkey")):
        try:
            found[template] = verdict.passkey_cells(run, template)
        except results.NoData:
            continue
    return found


def first_text(first):
    text = (f"{first.name}, {interval(first.value, first.low, first.high, 3)} {first.unit}")
    if first.second is not None and not first.is_apart:
        text += f"; not apart from {first.second}"
    return text


def drift_text(run, name):
    trial = verdict.drift_of(run, name)
    if trial is None:
        return "-"
    if trial["drift_verdict"] == "not resolved":
        return "not resolved"
    ends = trial["drift_exponent_ci_low"], trial["drift_exponent_ci_high"]
    return f"{interval(trial['drift_exponent'], *ends, 3)} at {trial['context_length']}"


def perplexity(run):
    trials = run.finished("ppl", "ppl")
    rows = []
    for t in by_setting(run, whole(trials), "protocol", "seq_len", "seed"):
        error = None if t["nll_sem"] is None else paired.Z * t["nll_sem"]
        ends = (None, None) if error is None else (t["ppl"] * math.exp(-error),
                                                   t["ppl"] * math.exp(error))
        added = verdict.added_nll(run, t, trials)
        rows.append([t["protocol"], t["seq_len"], number(t["stride"]), t["precision"], t["scope"],
                     t["n_tokens"], t["n_windows"], interval(t["ppl"], *ends, 6),
                     *(["-", "-"] if added is None else [
                         interval(*added, 4), interval(*(math.exp(x) for x in added), 5)])])
    return "\n\n".join([
        table(["protocol", "seq_len", "stride", "precision", "scope", "tokens", "windows",
               "perplexity (95 %)", "added NLL (nat a token, 95 %)", "ratio (95 %)"], rows),
        "Intervals of perplexity: exp of 1.96 standard errors of the mean NLL, windows as units "
        "(of stream: calls); of the differences: bootstrap of the windows' paired differences. All rows of one protocol, "
        "window and seed score the same tokens."])


def fidelity_table(run):
    rows = []
    for t in by_setting(run, whole(run.finished("fidelity", "kl_mean")), "protocol", "seq_len",
                        "seed"):
        rows.append([
            t["protocol"], t["seq_len"], t["precision"], t["scope"], t["n_tokens"],
            interval(t["kl_mean"], t["kl_mean_ci_low"], t["kl_mean_ci_high"]),
            *(number(t[name]) for name in ("kl_p50", "kl_p99", "kl_max", "kl_worst5_mean",
                                           "reverse_kl_mean", "jsd_mean", "delta_p_mean",
                                           "delta_p_rms")),
            interval(t["same_top_share"], t["same_top_ci_low"], t["same_top_ci_high"]),
            number(t["top5_overlap"]),
            interval(t["delta_nll_mean"], t["delta_nll_ci_low"], t["delta_nll_ci_high"])])
    return table(["protocol", "seq_len", "precision", "scope", "tokens", "KL mean (95 %)", "median",
                  "99 %", "largest", "worst 5 %", "reverse KL", "JSD", "Δp mean", "Δp RMS",
                  "same top (95 %)", "top-5 overlap", "ln ppl ratio (95 %)"], rows)


def passkey(run):
    trials = whole(run.finished("passkey", "accuracy"))
    baseline, every = trials[0]["baseline"], cells_of_templates(run)
    rows = []
    for t in by_setting(run, trials, "prompt_template_version", "context_length", "seed"):
        template = t["prompt_template_version"]
        cell = every.get(template, {}).get(t["precision"], {}).get(t["context_length"])
        if t["precision"] == baseline or t["scope"] not in ("none", "all") or cell is None:
            change = ["-", "-", "-"]
        else:
            masked = cell.is_masked(t["accuracy_floor"] or 0.0)
            change = [cell.lost, cell.gained, "masked" if masked else p_value(cell.p)]
        rows.append([template, t["context_length"], t["precision"], t["scope"],
                     f"{t['n_correct']} of {t['n_trials']}",
                     interval(t["accuracy"], t["accuracy_ci_low"], t["accuracy_ci_high"], 3),
                     *change, number(t["digit_accuracy"], 3), number(t["answer_nll_mean"], 3),
                     number(t["answer_rank_mean"], 3), number(t["control_accuracy"], 3),
                     number(t["wrong_key_accuracy"], 3)])
    return "\n\n".join([
        table(["template", "tokens", "precision", "scope", "right", "accuracy (95 %)", "lost",
               "gained", "p",
               "digits", "answer NLL", "answer rank", "without key", "wrong key"], rows),
        f"lost, gained: prompts against the baseline {baseline or '(not named)'}, all seeds of a "
        "length together; p: McNemar, not corrected. masked: the baseline itself is not surely above "
        "the floor."])


def ranking(run):
    """By added NLL, then by KL, where each was run."""
    parts, missing = [], None
    for measure, name in sensitivity.NAMES.items():
        try:
            parts += [ranking_of(group, name) for group in sensitivity.groups(run, measure)]
        except results.NoData as reason:
            missing = missing or reason
    if not parts:
        raise missing
    return "\n\n".join(parts)


def ranking_of(group, name):
    rows = [[rank, f"{e.layer}.{e.module}", interval(e.delta, e.low, e.high),
             number(e.spared_bits, 3)] for rank, e in enumerate(group.only[:MOST_RANKED], 1)]
    joint = ("" if group.whole is None else
             f"; all at once {interval(group.whole.delta, group.whole.low, group.whole.high)}")
    return (f"{group.precision}, {group.protocol} {group.seq_len}, seed {group.seed}: the worst "
            f"{len(rows)} of {len(group.only)} projections by {name}. Sum of single effects "
            f"{number(group.sum_of_singles)}{joint}.\n\n"
            + table(["rank", "projection", name.replace(")", ", 95 %)"), "bits saved"], rows))


def drift(run):
    rows = []
    for t in by_setting(run, run.finished("drift", "drift_error_final"), "context_length", "seed"):
        rows.append([
            t["context_length"], t["drift_path"], t["precision"], t["scope"],
            interval(t["drift_error_final"], t["drift_error_final_ci_low"],
                     t["drift_error_final_ci_high"]),
            number(t["drift_injected_error_final"]), number(t["drift_floor"]), t["drift_verdict"],
            interval(t["drift_exponent"], t["drift_exponent_ci_low"], t["drift_exponent_ci_high"],
                     3),
            f"{number(t['drift_n_resolved'])} of {number(t['drift_n_heads'])}",
            number(t["drift_worst_layer"]),
            # Files of earlier versions lack the fields.
            number(t.get("drift_impulse_half_life"), 3), number(t.get("drift_impulse_left"), 3)])
    return table(["tokens", "path", "precision", "scope", "error at the end (95 %)", "injected",
                  "floor", "verdict", "exponent (95 %)", "heads resolved", "worst layer",
                  "impulse half-life (tokens)", "left of the impulse"], rows)


def what_from(run):
    rows = [[c.name, c.setting, c.precision, number(c.weights), number(c.activations),
             number(c.state), number(c.whole), number(c.together), f"{c.interaction:+.2g}"]
            for c in causes.find(run)]
    return "\n\n".join([
        table(["figure", "setting", "precision", "weights alone", "activations alone",
               "state alone", "all at once", "expected of all", "interaction"], rows),
        "Expected if none changed what another does: the root of the sum of squares of state "
        "errors, which are taken for independent, and the sum of the NLL added. Interaction: all at "
        "once beyond what is expected. A state alone of '-': all of the row store it in the same "
        "type."])


def profile(run):
    rows = []
    for t in by_setting(run, whole(run.finished("profile", "prefill_ms")), "context_length",
                        "batch_size"):
        rows.append([
            t["context_length"], t["batch_size"], t["precision"], t["scope"],
            interval(t["prefill_ms"], t["prefill_ms_p10"], t["prefill_ms_p90"]),
            number(t["prefill_tokens_per_s"]),
            interval(t["decode_ms"], t["decode_ms_p10"], t["decode_ms_p90"]),
            number(t["decode_tokens_per_s"]), number(t["weight_mem_mb"]),
            number(t["prefill_peak_mem_mb"]), number(t["decode_peak_mem_mb"]),
            t["gpu_name"] or t["cpu_name"], number(t["throttle_reasons"])])
    return table(["tokens", "batch", "precision", "scope", "prefill ms (10 to 90 %)",
                  "prefill tokens/s", "decode ms (10 to 90 %)", "decode tokens/s", "weights MB",
                  "prefill peak MB", "decode peak MB", "device", "throttle reasons"], rows)


def failures(run):
    failed = [t for t in run.trials if t["status"] != "ok"]
    if not failed:
        raise results.NoData("every trial that was run ended ok")
    rows = [[t["task"], t["precision"], t["scope"], t["context_length"], t["status"],
             t["status_reason"]] for t in failed[:MOST_FAILURES]]
    more = len(failed) - len(rows)
    return table(["task", "precision", "scope", "context", "status", "reason"], rows) + (
        f"\n\n{more} more are in `/table/trials`." if more else "")


def protocol(run):
    parts = ["### Common\n\n" + protocol_text.common(run.trials),
             "### Precisions\n\n" + protocol_text.precisions(run.trials)]
    texts = {"ppl": ("Perplexity", protocol_text.windows),
             "fidelity": ("Fidelity", lambda trials: protocol_text.FIDELITY + "\n\n"
                          + protocol_text.windows(trials)),
             "passkey": ("Passkey", protocol_text.passkey),
             "drift": ("Drift", protocol_text.drift),
             "profile": ("Profile", protocol_text.profile)}
    for task, (title, text) in texts.items():
        if run.of_task(task):
            parts.append(f"### {title}\n\n{text(run.of_task(task))}")
    if any(sensitivity.MODULE.match(t["scope"]) for t in run.trials):
        parts.append(f"### Sensitivity\n\n{protocol_text.SENSITIVITY}")
    return "\n\n".join(parts)


def provenance(run):
    facts = [[name, f"`{text}`"] for name, text in run.provenance.items()
             if name not in ("config", "sessions") and text]
    hosts = sorted({t["host"] for t in run.trials if t["host"]})
    for name in ("gpu_name", "cpu_name", "driver", "cuda", "cublaslt", "nccl"):
        values = sorted({t[name] for t in run.trials if t[name]})
        if values:
            facts.append([name, ", ".join(values)])
    facts.append(["hosts", ", ".join(hosts) or "-"])
    parts = [table(["fact", "value"], facts)]
    sessions = json.loads(run.provenance.get("sessions", "[]"))
    if sessions:
        commands = "\n".join(" ".join(session["argv"]) for session in sessions)
        parts.append(f"Commands of the {len(sessions)} session(s):\n\n```\n{commands}\n```")
    config = run.provenance.get("config", "")
    lines = [line for line in config.splitlines() if not line.lstrip().startswith("#")]
    parts.append("Configuration:\n\n```yaml\n" + "\n".join(lines) + "\n```")
    return "\n\n".join(parts)


SECTIONS = [("Where each precision breaks", breaks), ("Perplexity", perplexity),
            ("Fidelity", fidelity_table), ("Passkey", passkey), ("Sensitivity", ranking),
            ("Drift", drift), ("What it comes from", what_from), ("Profile", profile), ("Trials that are not ok", failures),
            ("Protocol", protocol), ("Provenance", provenance)]


def write(run):
    """The report as Markdown."""
    statuses = {}
    for trial in run.trials:
        statuses[trial["status"]] = statuses.get(trial["status"], 0) + 1
    counts = ", ".join(f"{n} {status}" for status, n in sorted(statuses.items()))
    state = "complete" if run.attributes["complete"] else "not complete"
    parts = [f"# Run {run.attributes['run_id']}",
             f"{run.attributes['source']}, begun {run.attributes['created']}; {state}: "
             f"{len(run.trials)} of {run.attributes['n_trials_planned']} trials have a record "
             f"({counts or 'none'}). Every number is from `results.h5`."]
    for title, section in SECTIONS:
        try:
            text = section(run)
        except results.NoData as reason:
            text = f"Nothing: {reason}."
        parts.append(f"## {title}\n\n{text}")
    return "\n\n".join(parts) + "\n"
