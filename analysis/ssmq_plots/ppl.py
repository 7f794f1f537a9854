# SPDX-License-Identifier: Apache-2.0
"""Perplexity by precision, a panel a protocol."""
from ssmq_plots import style

PROTOCOLS = {
    "disjoint": "disjoint windows, tail dropped",
    "sliding": "sliding windows, each token scored once",
    "stream": "stream, state carried over the whole text",
    "rolling": "rolling windows (lm-eval), each token scored once",
    "half_window": "half windows (llama.cpp), second half scored",
}
LABELS = 24  # points a panel up to which their values are printed


def error_of(trial):
    """Standard error of exp(nll_mean) by the delta method; 0 draws no bar."""
    return trial["ppl"] * (trial["nll_sem"] or 0.0)


def panel(axis, run, trials, precisions, table):
    lengths = sorted({trial["seq_len"] for trial in trials})
    label_them = len(trials) <= LABELS
    tops = []
    for place, name in enumerate(precisions):
        mine = [trial for trial in trials if trial["precision"] == name]
        offset = style.dodge(place, len(precisions), 0.7)
        xs = [lengths.index(trial["seq_len"]) + offset for trial in mine]
        ys = [trial["ppl"] for trial in mine]
        errors = [error_of(trial) for trial in mine]
        style.points(axis, xs, ys, table[name], ends=list(zip(errors, errors)), joined=False)
        for x, y, error in zip(xs, ys, errors):
            tops.append((x, y + error, y, y - error))
    least, most = min(top[3] for top in tops), max(top[1] for top in tops)
    if least > 0 and most / least > 3:
        axis.set_yscale("log")
        axis.set_ylim(least / 1.15, most * (most / least) ** 0.3)
    else:
        room = most - least or most * 0.01
        axis.set_ylim(least - 0.1 * room, most + (0.42 if label_them else 0.1) * room)
    axis.yaxis.set_minor_formatter(style.FuncFormatter(lambda y, _: f"{y:,.4g}"))
    style.thousands(axis)
    if label_them:
        for x, top, value, _ in tops:
            axis.annotate(f"{value:.4g}" if value >= 1000 else f"{value:.2f}", (x, top),
                          (0, 4), textcoords="offset points", rotation=90, ha="center",
                          va="bottom", fontsize=7.5)
    strides = {trial["seq_len"]: trial["stride"] for trial in trials}
    sliding = trials[0]["protocol"] == "sliding"
    axis.set_xticks(range(len(lengths)),
                    [f"{n}, stride {strides[n]}" if sliding else f"{n}" for n in lengths])
    axis.set_xlim(-0.6, len(lengths) - 0.4)
    axis.grid(axis="x", visible=False)
    axis.set_xlabel("Tokens a call" if trials[0]["protocol"] == "stream" else "Window (tokens)")
    axis.set_ylabel("Perplexity")


def draw(run):
    trials = run.finished("ppl", "ppl")
    shown = style.in_scope(run, trials)
    protocols = [name for name in PROTOCOLS if any(t["protocol"] == name for t in shown)]
    precisions = style.ordered(run, shown)
    table = style.looks(run.precisions)
    without = sum(trial["nll_sem"] is None for trial in shown)
    caption = [
        f"Scored tokens: {style.span(t['n_tokens'] for t in shown)}; windows: "
        f"{style.span(t['n_windows'] for t in shown)}. Text SHA-256 "
        f"{', '.join(style.distinct(t['text_sha256'][:12] for t in shown))}.",
        "Bars: one standard error of the mean over windows (of stream: over calls), by the delta "
        f"method{f' ({without} trials have none)' if without else ''}. All precisions score the "
        "same tokens, so their differences are surer than the bars.",
        style.standing(run, "ppl", trials, shown)]
    figure, axes = style.frame(len(protocols), "Perplexity by precision",
                               style.subtitle(run, shown), caption)
    for axis, protocol in zip(axes, protocols):
        panel(axis, run, [t for t in shown if t["protocol"] == protocol], precisions, table)
        axis.set_title(PROTOCOLS[protocol], loc="left")
    style.legend(axes, precisions, table, joined=False)
    return figure


FIGURES = {"ppl.png": draw}
