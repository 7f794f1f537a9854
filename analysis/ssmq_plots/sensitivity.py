# SPDX-License-Identifier: Apache-2.0
"""Which projection of which layer breaks first: trials of single modules (scope `only:`) and of all
but one (`except:`) against the unquantized model over the same windows, by two measures:

nll  added NLL. ppl trials against the unquantized trial in the compute type of the quantized ones; of
     a run without such, fidelity trials against their baseline.
kl   KL(baseline || precision) of fidelity trials.

Both are nats a token. All trials score the same tokens, so an interval comes from the windows'
differences: 95 % of means of windows drawn with replacement."""
import re

import numpy as np

from ssmq_plots import results, style

MODULE = re.compile(r"^(only|except):(\d+)\.(\w+)$")
DRAWS, SEED, TAIL = 10_000, 20_260_000, 2.5
# Of a measure: what an axis and a table call it.
NAMES = {"nll": "added NLL (nat a token)", "kl": "KL to the baseline (nat a token)"}
SAME = ("dtype", "protocol", "seq_len", "stride", "seed", "state_dtype")


class Effect:
    """A trial against its baseline. kind: only, except or all; layer and module of a single one;
    delta: the measure; low, high: its interval; spared_bits: stored bits a weight, over all linear
    layers, that the trial saves, None where no unquantized trial says what there is to save."""

    def __init__(self, trial, delta, differences, tokens, baseline_bits):
        match = MODULE.match(trial["scope"])
        self.kind = match[1] if match else trial["scope"]
        self.layer = int(match[2]) if match else None
        self.module = match[3] if match else None
        self.delta = delta
        self.low, self.high = interval(differences, tokens)
        self.differences, self.tokens = differences, tokens
        self.spared_bits = (None if baseline_bits is None
                            else baseline_bits - trial["storage_bits"])


class Group:
    """Effects of one precision under one protocol: `only` and `spared` are sorted, the worst first;
    `whole` is the effect of scope all, or None."""

    def __init__(self, trial, effects, measure):
        self.precision, self.dtype, self.measure = trial["precision"], trial["dtype"], measure
        self.task = trial["task"]
        self.protocol, self.seq_len, self.seed = trial["protocol"], trial["seq_len"], trial["seed"]
        self.only = ranked(e for e in effects if e.kind == "only" and e.layer is not None)
        self.whole = next((e for e in effects if e.kind == "all"), None)
        self.spared = [] if self.whole is None else self._spared(effects)

    def _spared(self, effects):
        """What is gained by leaving a module out: all less except."""
        gains = []
        for effect in effects:
            if effect.kind == "except":
                effect.differences = self.whole.differences - effect.differences
                effect.delta = self.whole.delta - effect.delta
                effect.low, effect.high = interval(effect.differences, effect.tokens)
                if effect.spared_bits is not None:
                    effect.spared_bits = self.whole.spared_bits - effect.spared_bits
                gains.append(effect)
        return ranked(gains)

    @property
    def sum_of_singles(self):
        return sum(effect.delta for effect in self.only)


def ranked(effects):
    return sorted(effects, key=lambda e: (-e.delta, e.layer, e.module))


def interval(differences, tokens=None):
    """95 % interval of the mean over tokens of windows drawn with replacement; NaN for fewer than two
    windows. tokens: scored tokens of each window, None if all have the same."""
    n = len(differences)
    if n < 2:
        return float("nan"), float("nan")
    draws = np.random.Generator(np.random.PCG64(SEED)).integers(0, n, (DRAWS, n))
    if tokens is None or len(set(tokens)) == 1:
        means = differences[draws].mean(axis=1)
    else:
        sums = np.where(tokens > 0, differences * tokens, 0.0)
        drawn = tokens[draws].sum(axis=1)
        means = sums[draws].sum(axis=1) / np.where(drawn > 0, drawn, 1.0)
    low, high = np.percentile(means, [TAIL, 100 - TAIL])
    return float(low), float(high)


def added_by_ppl(run, trial, trials):
    """(delta, differences of windows, stored bits of the baseline) of a ppl trial, or None."""
    baseline = next((t for t in trials if t["scope"] == "none"
                     and all(t[name] == trial[name] for name in SAME)), None)
    if baseline is None:
        return None
    windows = [run.series("nll_window", t) for t in (trial, baseline)]
    if any(series is None for series in windows) or len(windows[0]) != len(windows[1]):
        return None
    return (trial["nll_mean"] - baseline["nll_mean"], windows[0] - windows[1],
            baseline["storage_bits"])


def by_fidelity(field, series):
    """The same of a fidelity trial, which holds its differences itself."""
    def of(run, trial, trials):
        windows = run.series(series, trial)
        bits = next((t["storage_bits"] for t in trials if t["scope"] == "none"
                     and all(t[name] == trial[name] for name in SAME)), None)
        return None if windows is None else (trial[field], windows, bits)
    return of


# Task, a field that its finished trials have, and how an effect is found; the first with data is it.
SOURCES = {"nll": [("ppl", "nll_mean", added_by_ppl),
                   ("fidelity", "kl_mean", by_fidelity("delta_nll_mean", "delta_nll_window"))],
           "kl": [("fidelity", "kl_mean", by_fidelity("kl_mean", "kl_window"))]}


def groups(run, measure="nll"):
    """Groups of a run that have single modules, by one of NAMES.  Raises NoData."""
    missing = None
    for task, field, effect_of in SOURCES[measure]:
        try:
            trials = run.finished(task, field)
        except results.NoData as reason:
            missing = missing or reason
            continue
        what = "perplexity" if task == "ppl" else task
        missing = missing or results.NoData(f"no {what} trial of a single module beside an "
                                            f"unquantized one in {run.path.name}")
        found = {}
        for trial in trials:
            effect = None if trial["scope"] == "none" else effect_of(run, trial, trials)
            if effect is None:
                continue
            delta, differences, bits = effect
            key = tuple(trial[name] for name in ("precision", "protocol", "seq_len", "seed"))
            found.setdefault(key, (trial, []))[1].append(Effect(
                trial, delta, differences, run.series("nll_window_tokens", trial), bits))
        every = [Group(trial, effects, measure) for trial, effects in found.values()]
        if any(group.only for group in every):
            return [group for group in every if group.only]
    raise missing


def draw(run, measure="nll"):
    found = groups(run, measure)
    table = style.looks(run.precisions)
    shown = [t for t in run.of_task(found[0].task) if t["status"] == "ok" and t["scope"] != "none"]
    what = ("mean NLL with this projection of this layer alone quantized, less that of the "
            "unquantized model" if measure == "nll" else
            "mean KL(baseline || model with this projection of this layer alone quantized)")
    caption = [
        f"Each bar: {what}. Lines: 95 % of bootstrap means of the windows' differences, "
        f"{DRAWS:,} draws. Sum of all bars against everything quantized at once stands above each "
        "panel: what differs is interaction.",
        f"Windows: {style.span(t['n_windows'] for t in shown)}. Text SHA-256 "
        f"{', '.join(style.distinct(t['text_sha256'][:12] for t in shown))}. {style.origin(run, shown)}"]
    title = "Sensitivity of single projections" + (", by KL" if measure == "kl" else "")
    figure, axes = style.frame(len(found), title, style.subtitle(run, shown), caption)
    for axis, group in zip(axes, found):
        panel(axis, group, table[group.precision])
    return figure


def draw_kl(run):
    return draw(run, "kl")


def panel(axis, group, look):
    colour = look[0]
    modules = sorted({effect.module for effect in group.only})
    layers = sorted({effect.layer for effect in group.only})
    width = 0.8 / len(modules)
    for place, module in enumerate(modules):
        mine = sorted((e for e in group.only if e.module == module), key=lambda e: e.layer)
        xs = [layers.index(e.layer) + (place - (len(modules) - 1) / 2) * width for e in mine]
        axis.bar(xs, [e.delta for e in mine], width * 0.92, color=colour, label=module,
                 alpha=1.0 - 0.55 * place / max(len(modules) - 1, 1), zorder=2)
        axis.vlines(xs, [e.low for e in mine], [e.high for e in mine], color=style.INK,
                    linewidth=0.9, zorder=3)
    axis.axhline(0, color=style.INK, linewidth=0.8)
    step = -(-len(layers) // 16)
    axis.set_xticks(range(0, len(layers), step), [str(n) for n in layers[::step]])
    axis.grid(axis="x", visible=False)
    axis.set_xlabel("Layer")
    name = NAMES[group.measure]
    axis.set_ylabel(name[0].upper() + name[1:])
    joint = "" if group.whole is None else f", all at once {group.whole.delta:.4f}"
    axis.set_title(f"{group.precision}, {group.protocol} {group.seq_len}: sum "
                   f"{group.sum_of_singles:.4f}{joint}", loc="left")
    axis.legend(frameon=False, loc="upper center", ncols=len(modules))


FIGURES = {"sensitivity.png": draw, "sensitivity_kl.png": draw_kl}
