# SPDX-License-Identifier: Apache-2.0
"""Bits against loss: what each precision and scope stores, and the NLL that it adds."""
import math

from ssmq_plots import fidelity, results, sensitivity, style


class Point:
    """A trial of ppl against the baseline over the same windows: stored bits a weight, over all
    linear layers; added NLL in nats a token, with its 95 % interval."""

    def __init__(self, trial, baseline, differences, tokens):
        self.trial = trial
        self.bits = trial["storage_bits"]
        self.delta = trial["nll_mean"] - baseline["nll_mean"]
        self.low, self.high = sensitivity.interval(differences, tokens)
        self.is_whole = trial["scope"] in ("none", "all")


def points(run, trials):
    """Points of trials of one group, the baseline's own among them.  Raises NoData."""
    name = trials[0]["baseline"]
    baseline = next((t for t in trials if t["precision"] == name and t["scope"] in ("none", "all")),
                    None)
    if baseline is None:
        raise results.NoData(f"no finished ppl trial of the baseline {name or '(not named)'}")
    base = run.series("nll_window", baseline)
    found = []
    for trial in trials:
        windows = run.series("nll_window", trial)
        if windows is not None and base is not None and len(windows) == len(base):
            found.append(Point(trial, baseline, windows - base,
                               run.series("nll_window_tokens", trial)))
    if len(found) < 2:
        raise results.NoData(f"no ppl trial over the same windows as the baseline {name}")
    return found


def front(found):
    """Points that no other beats, from few bits to many: more bits always cost less."""
    best = []
    for point in sorted(found, key=lambda p: (p.bits, p.delta)):
        if not best or point.delta < best[-1].delta:
            best.append(point)
    return best


def draw(run):
    trials = run.finished("ppl", "nll_mean")
    group = fidelity.group_of(trials)
    mine = fidelity.in_group(trials, group)
    found = points(run, mine)
    table = style.looks(run.precisions)
    shown = [point.trial for point in found]
    best = front(found)
    caption = [
        f"{group[0]}, seq_len {group[1]}: NLL a token less that of the baseline "
        f"{shown[0]['baseline']}; lines: 95 % of bootstrap means of the windows' differences. Bits: "
        "stored, scales counted, averaged over the weights of all linear layers. Large points: "
        "everything quantized; small: other scopes. Dashed: no other point has fewer bits and less "
        "loss.",
        f"Windows: {style.span(t['n_windows'] for t in shown)}. {style.origin(run, shown)}"]
    figure, axes = style.frame(1, "Bits against loss", style.subtitle(run, shown), caption)
    axis = axes[0]
    for point in found:
        colour, marker, _ = table[point.trial["precision"]]
        size = style.SIZES[marker] * (1 if point.is_whole else 0.5)
        if point.is_whole and not math.isnan(point.low):
            axis.vlines([point.bits], [point.low], [point.high], color=colour, linewidth=1.0,
                        zorder=2.5)
        axis.plot([point.bits], [point.delta], marker, color=colour, markersize=size,
                  alpha=1.0 if point.is_whole else 0.55, markeredgecolor="white",
                  markeredgewidth=0.4, zorder=4 if point.is_whole else 3)
    axis.step([p.bits for p in best], [p.delta for p in best], where="post", color=style.INK,
              linestyle="--", linewidth=0.8, zorder=2)
    # Long labels of tiny numbers would push the axis' name off the figure.
    axis.ticklabel_format(axis="y", scilimits=(-2, 4))
    sizes = sorted(abs(p.delta) for p in found if p.delta != 0)
    if sizes and sizes[-1] > 30 * sizes[0]:
        axis.set_yscale("symlog", linthresh=10.0 ** math.floor(math.log10(sizes[len(sizes) // 2])))
    axis.axhline(0, color=style.INK, linewidth=0.6, zorder=1)
    axis.set_xlabel("Stored bits a weight")
    axis.set_ylabel("Added NLL (nat a token)")
    style.legend(axes, style.ordered(run, shown), table, joined=False)
    return figure


FIGURES = {"pareto.png": draw}
