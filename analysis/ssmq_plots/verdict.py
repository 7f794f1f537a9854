# SPDX-License-Identifier: Apache-2.0
"""Where each precision breaks: its perplexity ratio, the longest context that it holds, the first
projection to go, how its state drifts."""
import math

from ssmq_plots import fidelity, paired, results, sensitivity

ALPHA = 0.05  # of McNemar's tests of a precision's lengths together


def quantized(run):
    """Precisions that have a trial of everything quantized, in the order of the file."""
    found = {t["precision"] for t in run.trials if t["scope"] == "all"}
    return [name for name in run.precisions if name in found]


def ppl_ratio(run, precision):
    """(ratio, low, high, what) of the group that the figures show, paired by windows: of ppl, else
    of fidelity; None if neither was run."""
    for task, field in (("ppl", "nll_mean"), ("fidelity", "delta_nll_mean")):
        try:
            trials = [t for t in run.finished(task, field) if t["scope"] in ("none", "all")]
            group = fidelity.group_of(trials)
        except (results.NoData, ValueError):
            continue
        mine = fidelity.in_group(trials, group)
        trial = next((t for t in mine if t["precision"] == precision), None)
        if trial is None:
            continue
        what = f"{group[0]} {group[1]}"
        if task == "fidelity":
            ends = trial["delta_nll_ci_low"], trial["delta_nll_ci_high"]
            return (trial["ppl_ratio"], *(None if e is None else math.exp(e) for e in ends), what)
        found = added_nll(run, trial, mine)
        if found is not None:
            return (*(math.exp(x) for x in found), what)
    return None


def added_nll(run, trial, trials):
    """(delta, low, high) of a ppl trial against the baseline over the same windows, or None."""
    base = next((t for t in trials if t["precision"] == trial["baseline"]
                 and t["scope"] in ("none", "all") and all(
                     t[name] == trial[name] for name in ("protocol", "seq_len", "stride", "seed"))),
                None)
    windows = run.series("nll_window", trial), base and run.series("nll_window", base)
    if base is None or any(w is None for w in windows) or len(windows[0]) != len(windows[1]):
        return None
    return (trial["nll_mean"] - base["nll_mean"], *sensitivity.interval(
        windows[0] - windows[1], run.series("nll_window_tokens", trial)))


def holm(ps):
    """{name: p adjusted by Holm's step-down method (Scand. J. Statist. 6, 1979)}."""
    adjusted, worst = {}, 0.0
    for place, (name, p) in enumerate(sorted(ps.items(), key=lambda item: item[1])):
        worst = max(worst, min(1.0, (len(ps) - place) * p))
        adjusted[name] = worst
    return adjusted


def passkey_cells(run, task="passkey"):
    """Baseline's name, {precision: {length: Cell}} against it, and its own {length: Cell}; scope
    all and none.  Raises NoData."""
    trials = [t for t in run.finished(task, "accuracy") if t["scope"] in ("none", "all")]
    baseline = trials[0]["baseline"] if trials else ""
    of = {name: paired.outcomes(run, [t for t in trials if t["precision"] == name])
          for name in run.precisions}
    if not of.get(baseline):
        raise results.NoData(f"no finished {task} trial of the baseline {baseline or '(not named)'}")
    every = {name: paired.cells(of[baseline], found, paired.by_length)
             for name, found in of.items() if found}
    return baseline, {name: cells for name, cells in every.items() if cells}


class Held:
    """The longest length up to which a precision loses nothing at every length where the baseline
    is above the floor: its own interval is above the floor as well, and McNemar's test, by Holm's
    method over its lengths, finds no loss. length: None if not even the shortest is held; broke:
    (length, Cell, adjusted p) of the first that is not, or None; top: the longest that could be
    judged, None if the baseline is nowhere above the floor."""

    def __init__(self, cells, floor):
        judged = {n: c for n, c in sorted(cells.items()) if not c.is_masked(floor)}
        adjusted = holm({n: cell.p for n, cell in judged.items()})
        self.length, self.broke = None, None
        self.top = max(judged, default=None)
        for length, cell in judged.items():
            is_lost = adjusted[length] < ALPHA and cell.lost > cell.gained
            if is_lost or paired.wilson(cell.right, cell.prompts)[0] < floor:
                self.broke = length, cell, adjusted[length]
                break
            self.length = length

    def text(self):
        if self.top is None:
            return "not judged: the baseline is below the floor"
        if self.broke is None:
            return f"{self.length} (all that the baseline holds)"
        length, cell, p = self.broke
        before = "none" if self.length is None else f"{self.length}"
        return (f"{before} (at {length}: {cell.right} of {cell.prompts} right, {cell.lost} lost, "
                f"{cell.gained} gained, p {p:.2g})")


class First:
    """Projection that adds most when quantized alone: name, effect, interval, and whether its
    interval lies above the runner-up's effect."""

    def __init__(self, ranked, unit):
        name, self.value, self.low, self.high = ranked[0]
        self.name, self.unit = name, unit
        self.second = ranked[1][0] if len(ranked) > 1 else None
        self.is_apart = len(ranked) > 1 and self.low > ranked[1][1]


def first_to_go(run, precision):
    """First of a precision by the NLL added (ppl), else by KL (fidelity); None without trials of
    single projections."""
    try:
        found = [g for g in sensitivity.groups(run) if g.precision == precision]
        shown = fidelity.group_of(run.finished("ppl", "nll_mean"))
        # The windows of the ratio, where single projections were run over them.
        found.sort(key=lambda g: (g.protocol, g.seq_len, g.seed) != shown)
        if found:
            return First([(f"{e.layer}.{e.module}", e.delta, e.low, e.high)
                          for e in found[0].only if e.layer is not None], "nat a token")
    except results.NoData:
        pass
    try:
        singles = [t for t in run.finished("fidelity", "kl_mean")
                   if t["precision"] == precision and sensitivity.MODULE.match(t["scope"])
                   and t["scope"].startswith("only:")]
    except results.NoData:
        return None
    if not singles:
        return None
    mine = fidelity.in_group(singles, fidelity.group_of(singles))
    nan = float("nan")
    ranked = sorted(((t["scope"][5:], t["kl_mean"], t["kl_mean_ci_low"] or nan,
                      t["kl_mean_ci_high"] or nan) for t in mine), key=lambda r: (-r[1], r[0]))
    return First(ranked, "nat of KL")


def drift_of(run, precision):
    """Drift trial of a precision with the longest context, everything quantized; or None."""
    trials = [t for t in run.of_task("drift") if t["status"] == "ok"
              and t["precision"] == precision and t["scope"] in ("none", "all")]
    return max(trials, key=lambda t: t["context_length"], default=None)
