# SPDX-License-Identifier: Apache-2.0
"""NLL by position in the window or stream, and what each precision adds to it there."""
import math

from ssmq_plots import fidelity, paired, style
from ssmq_plots.results import NoData


def shown_group(trials):
    """The stream, where there is one: its positions reach farthest; else what other figures show."""
    streams = [t for t in trials if t["protocol"] == "stream"]
    return fidelity.group_of(streams or trials)


def buckets(run, trial, name="nll"):
    """(first positions, means, half-widths of 95 % intervals) of a trial's buckets [2^k, 2^(k+1))
    that hold tokens; the width is 0 where one window alone reaches, or the file is older than it."""
    means, sems = (run.series(f"{name}_bucket_{part}", trial) for part in ("mean", "sem"))
    tokens = run.series("nll_bucket_tokens", trial)
    if means is None or tokens is None:
        return [], [], []
    kept = [k for k, n in enumerate(tokens) if n > 0]
    widths = [0.0 if sems is None or not math.isfinite(sems[k]) else paired.Z * float(sems[k])
              for k in kept]
    return [2 ** k for k in kept], [float(means[k]) for k in kept], widths


def added(run, trial, baseline):
    """The same of what a trial adds to the baseline: paired, by the fidelity trial of the same
    windows; where that was not run, the difference of means without widths."""
    for other in run.of_task("fidelity"):
        if other["status"] == "ok" and all(other[name] == trial[name] for name in (
                "protocol", "seq_len", "stride", "seed", "precision", "scope")):
            found = buckets(run, other, "delta_nll")
            if found[0]:
                return found
    known = dict(zip(*buckets(run, baseline)[:2]))
    kept = [(x, y - known[x]) for x, y, _ in zip(*buckets(run, trial)) if x in known]
    return [x for x, _ in kept], [y for _, y in kept], [0.0] * len(kept)


def line_of(axis, places, values, widths, look):
    style.points(axis, places, values, look, [(width, width) for width in widths])


def draw(run):
    trials = run.finished("ppl", "nll_mean")
    in_scope = style.in_scope(run, trials)
    group = shown_group(in_scope)
    shown = [t for t in fidelity.in_group(in_scope, group) if buckets(run, t)[0]]
    if not shown:
        raise NoData("no series nll_bucket_mean")
    baseline = next((t for t in shown if t["precision"] == t["baseline"]), None)
    precisions = style.ordered(run, shown)
    shown.sort(key=lambda t: precisions.index(t["precision"]))
    table = style.looks(run.precisions)
    places, counts = buckets(run, shown[0])[0], run.series("nll_bucket_tokens", shown[0])
    caption = [
        f"{group[0]}, seq_len {group[1]}; each point: mean over the scored tokens at positions from "
        "there to twice as far in their window or stream, the same tokens for every precision; "
        f"{style.span(int(n) for n in counts if n > 0)} tokens a point. Bars: 95 %, windows (of stream: "
        "calls) as units; none where one window alone reaches, and at differences none unless fidelity "
        "was run over the same windows.",
        style.standing(run, "ppl", trials, shown)]
    figure, axes = style.frame(2 if baseline else 1, "NLL by position", style.subtitle(run, shown),
                               caption)
    for trial in shown:
        look = table[trial["precision"]]
        line_of(axes[0], *buckets(run, trial), look)
        if baseline and trial is not baseline:
            line_of(axes[1], *added(run, trial, baseline), look)
    for axis in axes:
        style.length_axis(axis, places, "Position (tokens)")
    axes[0].set_ylabel("Mean NLL (nat a token)")
    if baseline:
        axes[1].axhline(0, color=style.INK, linewidth=0.8)
        axes[1].set_ylabel(f"Added to {baseline['precision']} (nat a token)")
    style.legend(axes, precisions, table)
    return figure


FIGURES = {"position.png": draw}
