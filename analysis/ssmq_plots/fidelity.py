# SPDX-License-Identifier: Apache-2.0
"""How far next-token distributions are from the baseline's: KL by percentiles, and top-1 agreement.
"""
from ssmq_plots import ppl, style
from ssmq_plots.results import NoData

# Ends of the thin and of the thick line of a precision.
THIN, THICK = ("kl_p01", "kl_p999"), ("kl_p10", "kl_p90")


def group_of(trials):
    """Protocol, window and seed that a figure of one group shows: the first protocol, its longest
    window, the lowest seed."""
    protocol = min((t["protocol"] for t in trials), key=list(ppl.PROTOCOLS).index)
    seq_len = max(t["seq_len"] for t in trials if t["protocol"] == protocol)
    mine = [t for t in trials if t["protocol"] == protocol and t["seq_len"] == seq_len]
    return protocol, seq_len, min(t["seed"] for t in mine)


def in_group(trials, group):
    return [t for t in trials if (t["protocol"], t["seq_len"], t["seed"]) == group]


def vertical(axis, x, ends, colour, width):
    low, high = ends
    if high > 0:  # nothing of an exact 0 can stand on a logarithmic axis
        axis.plot([x, x], [low if low > 0 else axis.least, high], color=colour, linewidth=width,
                  solid_capstyle="butt", zorder=2)


def kl_panel(axis, trials, table):
    axis.set_yscale("log")
    positive = [t[name] for t in trials for name in (*THIN, *THICK, "kl_p50") if t[name] > 0]
    axis.least = min(positive, default=1e-9)
    for x, trial in enumerate(trials):
        look = table[trial["precision"]]
        vertical(axis, x, [trial[name] for name in THIN], look[0], 1.0)
        vertical(axis, x, [trial[name] for name in THICK], look[0], 4.5)
        for name, marker, size in (("kl_p50", "_", 13), ("kl_max", "x", 4),
                                   ("kl_worst5_mean", "1", 8)):
            axis.plot([x], [trial[name]], marker, color=style.INK, markersize=size, zorder=3)
        low, high = trial["kl_mean_ci_low"], trial["kl_mean_ci_high"]
        mean = trial["kl_mean"]
        ends = None if low is None else [(max(mean - low, 0.0), max(high - mean, 0.0))]
        style.points(axis, [x + 0.18], [mean], look, ends=ends, joined=False)
    axis.set_ylabel("KL(baseline || precision) (nat)")
    axis.set_title("distance of the distributions", loc="left")


def top_panel(axis, trials, table):
    for x, trial in enumerate(trials):
        low, high = trial["same_top_ci_low"], trial["same_top_ci_high"]
        share = trial["same_top_share"]
        ends = None if low is None else [(max(share - low, 0.0), max(high - share, 0.0))]
        style.points(axis, [x], [share], table[trial["precision"]], ends=ends, joined=False)
    axis.set_ylabel("Same likeliest token (share of tokens)")
    axis.set_title("top-1 agreement", loc="left")


def draw(run):
    trials = run.finished("fidelity", "kl_mean")
    in_scope = style.in_scope(run, trials)
    group = group_of(in_scope)
    found = in_group(in_scope, group)
    # The baseline beside itself is exactly 0, which no logarithm shows.
    shown = [t for t in found if t["kl_max"] > 0]
    if not shown:
        raise NoData(f"no precision of this run differs from its baseline {found[0]['baseline']}")
    precisions = style.ordered(run, shown)
    shown.sort(key=lambda t: precisions.index(t["precision"]))
    table = style.looks(run.precisions)
    protocol, seq_len, _ = group
    zeros = [t["precision"] for t in found if t["kl_max"] == 0]
    caption = [
        f"Baseline {shown[0]['baseline']}; {protocol}, seq_len {seq_len}; scored tokens: "
        f"{style.span(t['n_tokens'] for t in shown)} in {style.span(t['n_windows'] for t in shown)} "
        f"windows. Points: mean, 95 % block-bootstrap interval over windows. Thick line: 10th to "
        "90th percentile of tokens, thin: 1st to 99.9th, dash: median, x: largest, fork: mean of "
        "the worst 5 %."
        + (f" Exactly 0, as it must be: {', '.join(zeros)}." if zeros else ""),
        style.standing(run, "fidelity", trials, shown)]
    figure, axes = style.frame(2, "Fidelity to the baseline, token by token",
                               style.subtitle(run, shown), caption)
    kl_panel(axes[0], shown, table)
    top_panel(axes[1], shown, table)
    for axis in axes:
        axis.set_xticks(range(len(shown)), [t["precision"] for t in shown],
                        rotation=30 if len(shown) > 4 else 0)
        axis.set_xlim(-0.6, len(shown) - 0.4)
        axis.grid(axis="x", visible=False)
    style.legend(axes, precisions, table, joined=False)
    return figure


FIGURES = {"fidelity.png": draw}
