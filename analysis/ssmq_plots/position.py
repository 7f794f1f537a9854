# SPDX-License-Identifier: Apache-2.0
"""NLL by position in the window or stream, and what each precision adds to it there."""
from ssmq_plots import fidelity, style
from ssmq_plots.results import NoData


def shown_group(trials):
    """The stream, where there is one: its positions reach farthest; else what other figures show."""
    streams = [t for t in trials if t["protocol"] == "stream"]
    return fidelity.group_of(streams or trials)


def buckets(run, trial):
    """(first positions, mean NLL) of the buckets [2^k, 2^(k+1)) that hold tokens."""
    means, tokens = (run.series(f"nll_bucket_{name}", trial) for name in ("mean", "tokens"))
    if means is None or tokens is None:
        return [], []
    kept = [k for k, n in enumerate(tokens) if n > 0]
    return [2 ** k for k in kept], [float(means[k]) for k in kept]


def added(places, values, base):
    """Values less those of the baseline at the same places."""
    known = dict(zip(*base))
    kept = [(x, y - known[x]) for x, y in zip(places, values) if x in known]
    return [x for x, _ in kept], [y for _, y in kept]


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
        f"{style.span(int(n) for n in counts if n > 0)} tokens a point. No interval: neighbours "
        "depend on one another, and the first points hold few tokens.",
        style.standing(run, "ppl", trials, shown)]
    figure, axes = style.frame(2 if baseline else 1, "NLL by position", style.subtitle(run, shown),
                               caption)
    for trial in shown:
        look, line = table[trial["precision"]], buckets(run, trial)
        style.points(axes[0], *line, look)
        if baseline and trial is not baseline:
            style.points(axes[1], *added(*line, buckets(run, baseline)), look)
    for axis in axes:
        style.length_axis(axis, places, "Position (tokens)")
    axes[0].set_ylabel("Mean NLL (nat a token)")
    if baseline:
        axes[1].axhline(0, color=style.INK, linewidth=0.8)
        axes[1].set_ylabel(f"Added to {baseline['precision']} (nat a token)")
    style.legend(axes, precisions, table)
    return figure


FIGURES = {"position.png": draw}
