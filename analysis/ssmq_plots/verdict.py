# SPDX-License-Identifier: Apache-2.0
"""Where each precision breaks: its perplexity ratio, the longest context that it holds, the first
projection to go, how its state drifts."""
import math

from ssmq_plots import fidelity, paired, results, sensitivity
from ssmq_plots.tables import interval, number

ALPHA = 0.05  # of McNemar's tests of a precision's lengths together


def quantized(run):
    """Precisions that have a trial of everything quantized, or of the state alone, in the order of
    the file."""
    found = {t["precision"] for t in run.trials if t["scope"] == "all" or (
        t["scope"] == "none" and t["state_dtype"] not in ("", "fp32")
        and t["precision"] != t["baseline"])}
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


def passkey_cells(run, template):
    """{precision: {length: Cell}} against the baseline, itself among them; scope all and none, prompts
    of one template.  Raises NoData."""
    trials = [t for t in paired.of_template(run.finished("passkey", "accuracy"), template)
              if t["scope"] in ("none", "all")]
    baseline = trials[0]["baseline"] if trials else ""
    of = {name: paired.outcomes(run, [t for t in trials if t["precision"] == name])
          for name in run.precisions}
    if not of.get(baseline):
        raise results.NoData("no finished passkey trial of the baseline "
                             f"{baseline or '(not named)'}")
    every = {name: paired.cells(of[baseline], found, paired.by_length)
             for name, found in of.items() if found}
    return {name: cells for name, cells in every.items() if cells}


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


def first_to_go(run, precision, measure="nll"):
    """First of a precision by the NLL added or by KL; None without trials of single projections."""
    try:
        found = [g for g in sensitivity.groups(run, measure) if g.precision == precision]
        shown = fidelity.group_of(run.finished(found[0].task, "nll_mean")) if found else None
    except results.NoData:
        return None
    if not found:
        return None
    # The windows of the ratio, where single projections were run over them.
    found.sort(key=lambda g: (g.protocol, g.seq_len, g.seed) != shown)
    return First([(f"{e.layer}.{e.module}", e.delta, e.low, e.high) for e in found[0].only],
                 "nat a token" if measure == "nll" else "nat of KL")


def drift_of(run, precision):
    """Drift trial of a precision with the longest context, everything quantized; or None."""
    trials = [t for t in run.of_task("drift") if t["status"] == "ok"
              and t["precision"] == precision and t["scope"] in ("none", "all")]
    return max(trials, key=lambda t: t["context_length"], default=None)


def ppl_says(run, precision, baseline):
    ratio = ppl_ratio(run, precision)
    if ratio is None:
        return None
    value, low, high, what = ratio
    if low is None or low != low:
        word = "is without an interval"
    elif low > 1:
        word = "rises"
    else:
        word = "falls" if high < 1 else "is not resolved from no change"
    return (f"perplexity {word}, {interval(value, low, high, 5)} times that of {baseline} "
            f"({what})")


def context_says(cells, floor, prompts="passkey prompts"):
    if not cells:
        return None
    held = Held(cells, floor)
    if held.top is None:
        return f"no length of {prompts} could be judged, the baseline being below the floor"
    if held.broke is None:
        return f"{prompts} hold up to {held.length} tokens, all that the baseline holds"
    length, cell, _ = held.broke
    ends = interval(cell.right / cell.prompts, *paired.wilson(cell.right, cell.prompts), 2)
    before = (f"no length of {prompts} is held" if held.length is None else
              f"{prompts} hold up to {held.length} tokens")
    return (f"{before}, broken at {length}, where {ends} are right and {cell.lost} of "
            f"{cell.base_right} are lost")


def layer_says(run, precision):
    """By the NLL added, and where it was run by KL; the two in a word where they agree."""
    firsts = [first for first in (first_to_go(run, precision, measure)
                                  for measure in sensitivity.NAMES) if first is not None]
    parts = []
    for first in firsts:
        apart = ("" if first.is_apart or first.second is None
                 else f", not apart from {first.second}")
        parts.append(f"{first.name} ({interval(first.value, first.low, first.high, 3)} {first.unit}"
                     f"{apart})")
    return "first to go is " + " and by KL ".join(parts) if parts else None


def drift_says(run, precision):
    trial = drift_of(run, precision)
    if trial is None:
        return None
    error = number(trial["drift_error_final"], 3)
    if trial["drift_verdict"] == "not resolved":
        return (f"the state's error after {trial['context_length']} tokens, {error}, is not resolved "
                "from the floor")
    if trial["drift_exponent"] is None:
        return f"the state's error after {trial['context_length']} tokens is {error}, without a fit"
    low, high = trial["drift_exponent_ci_low"], trial["drift_exponent_ci_high"]
    sign = "is not resolved from constant"
    if low is not None and (low > 0 or high < 0):
        sign = "grows" if low > 0 else "shrinks"
    return (f"the state's error {sign}, as tokens to the power of "
            f"{interval(trial['drift_exponent'], low, high, 3)}, to {error} after "
            f"{trial['context_length']} tokens")


def contexts_say(of_templates, floor):
    """Of every template; where there is one its name is left out."""
    many = len(of_templates) > 1
    return "; ".join(filter(None, (
        context_says(cells, floor, f"{template} prompts" if many else "passkey prompts")
        for template, cells in of_templates.items()))) or None


def sentence(run, precision, baseline, cells, floor):
    """Where a precision breaks, in a sentence: perplexity, longest context held, first projection to
    go, drift; and what of these was not run. cells: {template: cells of its prompts by length}."""
    says = {"perplexity": ppl_says(run, precision, baseline or "the baseline"),
            "context": contexts_say(cells, floor),
            "single projections": layer_says(run, precision),
            "drift": drift_says(run, precision)}
    missing = [name for name, text in says.items() if text is None]
    text = "; ".join(part for part in says.values() if part is not None)
    return (f"**{precision}**: " + (text or "nothing was run")
            + (f" (not run: {', '.join(missing)})" if missing else "") + ".")
