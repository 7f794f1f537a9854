# SPDX-License-Identifier: Apache-2.0
"""Which projection of which layer breaks first: perplexity trials of single modules (scope `only:`)
and of all but one (`except:`) against the unquantized trial over the same windows.

An effect is a difference of mean NLL, in nats a token. Trials score the same tokens, so its interval
comes from the differences of their windows: 95 % of means of windows drawn with replacement. The
baseline is the unquantized trial in the compute type of the quantized ones."""
import re

import numpy as np

from ssmq_plots import results, style

MODULE = re.compile(r"^(only|except):(\d+)\.(\w+)$")
DRAWS, SEED, TAIL = 10_000, 20_260_000, 2.5


class Effect:
    """A trial against its baseline. kind: only, except or all; layer and module of a single one;
    delta: NLL of the trial less the baseline's; low, high: its interval; spared_bits: stored bits a
    weight, over all linear layers, that the trial saves."""

    def __init__(self, trial, baseline, differences, tokens):
        match = MODULE.match(trial["scope"])
        self.kind = match[1] if match else trial["scope"]
        self.layer = int(match[2]) if match else None
        self.module = match[3] if match else None
        self.delta = trial["nll_mean"] - baseline["nll_mean"]
        self.low, self.high = interval(differences, tokens)
        self.differences, self.tokens = differences, tokens
        self.spared_bits = baseline["storage_bits"] - trial["storage_bits"]


class Group:
    """Effects of one precision under one protocol: `only` and `spared` are sorted, the worst first;
    `whole` is the effect of scope all, or None."""

    def __init__(self, trial, effects):
        self.precision, self.dtype = trial["precision"], trial["dtype"]
        self.protocol, self.seq_len, self.seed = trial["protocol"], trial["seq_len"], trial["seed"]
        self.only = ranked(e for e in effects if e.kind == "only")
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


def groups(run):
    """Groups of a run that have single modules.  Raises NoData."""
    trials = run.finished("ppl", "nll_mean")
    found = {}
    for trial in trials:
        baseline = next((t for t in trials if t["scope"] == "none" and all(
            t[name] == trial[name] for name in ("dtype", "protocol", "seq_len", "stride", "seed",
                                                "state_dtype"))), None)
        if trial["scope"] == "none" or baseline is None:
            continue
        windows = [run.series("nll_window", t) for t in (trial, baseline)]
        if any(series is None for series in windows) or len(windows[0]) != len(windows[1]):
            continue
        key = tuple(trial[name] for name in ("precision", "protocol", "seq_len", "seed"))
        found.setdefault(key, (trial, []))[1].append(
            Effect(trial, baseline, windows[0] - windows[1], run.series("nll_window_tokens", trial)))
    with_singles = [Group(trial, effects) for trial, effects in found.values()
                    if any(e.kind == "only" and e.layer is not None for e in effects)]
    if not with_singles:
        raise results.NoData("no perplexity trial of a single module beside an unquantized one in "
                             f"{run.path.name}")
    return with_singles


def draw(run):
    found = groups(run)
    table = style.looks(run.precisions)
    trials = run.finished("ppl", "nll_mean")
    shown = [t for t in trials if t["scope"] != "none"]
    caption = [
        "Each bar: mean NLL with this projection of this layer alone quantized, less that of the "
        "unquantized model. Lines: 95 % of bootstrap means of the windows' differences, "
        f"{DRAWS:,} draws. Sum of all bars against everything quantized at once stands above each "
        "panel: what differs is interaction.",
        f"Windows: {style.span(t['n_windows'] for t in shown)}. Text SHA-256 "
        f"{', '.join(style.distinct(t['text_sha256'][:12] for t in shown))}. {style.origin(run, shown)}"]
    figure, axes = style.frame(len(found), "Sensitivity of single projections",
                               style.subtitle(run, shown), caption)
    for axis, group in zip(axes, found):
        panel(axis, group, table[group.precision])
    return figure


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
    axis.set_ylabel("Added NLL (nat a token)")
    joint = "" if group.whole is None else f", all at once {group.whole.delta:.4f}"
    axis.set_title(f"{group.precision}, {group.protocol} {group.seq_len}: sum "
                   f"{group.sum_of_singles:.4f}{joint}", loc="left")
    axis.legend(frameon=False, loc="upper center", ncols=len(modules))


FIGURES = {"sensitivity.png": draw}
