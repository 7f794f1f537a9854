# SPDX-License-Identifier: Apache-2.0
"""How every figure looks: one colour and one marker a precision, sizes in inches, the frame of
title, legend and caption."""
import textwrap

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt  # noqa: E402 - the backend comes first
from matplotlib.lines import Line2D  # noqa: E402
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator  # noqa: E402

# Okabe and Ito's palette without its yellow, and three of Tol's "muted": told apart by people with
# any colour vision; the markers tell them apart in grey.
LADDER = {
    "fp32": ("#000000", "X"),
    "fp16": ("#0072B2", "o"),
    "bf16": ("#E69F00", "s"),
    "w8a8": ("#009E73", "^"),
    "w8a8-fp8": ("#56B4E9", "v"),
    "w4a8": ("#CC79A7", "D"),
    "w4a4": ("#D55E00", "P"),
    "w8a16": ("#882255", "<"),
    "w4a16": ("#999933", ">"),
}
# For precisions that are no name of the ladder, in the order of the file; their lines are dashed.
OTHERS = [("#332288", "o"), ("#AA4499", "s"), ("#44AA99", "^"), ("#DDAA33", "D"),
          ("#666666", "v"), ("#117733", "P"), ("#AA3377", "<"), ("#004488", ">")]

# Sizes in points that look alike.
SIZES = {"o": 6, "s": 5.5, "^": 7, "v": 7, "<": 7, ">": 7, "D": 5.3, "P": 7.5, "X": 7.5}

PANEL_W, PANEL_H = 4.2, 3.1
LEFT, RIGHT, TOP, GAP = 0.85, 1.45, 0.85, 0.75
BOTTOM, CAPTION_LINE = 0.66, 0.155
INK, FAINT = "#222222", "#D9D9D9"


def apply():
    """The same picture whatever matplotlibrc says."""
    matplotlib.rcdefaults()
    matplotlib.rcParams.update({
        "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 9.5,
        "axes.labelsize": 9.5, "xtick.labelsize": 8.5, "ytick.labelsize": 8.5,
        "legend.fontsize": 9, "axes.edgecolor": INK, "axes.labelcolor": INK, "text.color": INK,
        "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.8,
        "axes.grid": True, "axes.axisbelow": True, "grid.color": FAINT, "grid.linewidth": 0.6,
        "lines.linewidth": 1.4, "errorbar.capsize": 2.5,
        "figure.facecolor": "white", "savefig.facecolor": "white",
    })


def looks(precisions):
    """{precision: (colour, marker, line style)} of a run."""
    others = [name for name in precisions if name not in LADDER]
    table = {name: (*LADDER[name], "-") for name in precisions if name in LADDER}
    for place, name in enumerate(others):
        table[name] = (*OTHERS[place % len(OTHERS)], "--")
    return table


def ordered(run, trials):
    """Precisions of the trials in the order of the ladder, others after them as in the file."""
    present = {trial["precision"] for trial in trials}
    ladder = [name for name in LADDER if name in present]
    return ladder + [name for name in run.precisions if name in present and name not in LADDER]


def dodge(place, count, span):
    """Offset of the place-th of count things that would lie on one another."""
    step = min(span / max(count - 1, 1), span / 4)
    return (place - (count - 1) / 2) * step


def frame(n_panels, title, subtitle, caption):
    """Figure with panels and its texts; returns figure and a flat list of axes."""
    columns = 2 if n_panels == 4 else min(n_panels, 3)
    rows = -(-n_panels // columns)
    width = LEFT + columns * PANEL_W + (columns - 1) * GAP + RIGHT
    characters = int((width - 0.4) * 17.2)
    lines = [line for part in caption for line in textwrap.wrap(part, characters)]
    bottom = BOTTOM + CAPTION_LINE * len(lines)
    panel_gap = 0.85
    height = TOP + rows * PANEL_H + (rows - 1) * panel_gap + bottom
    figure = plt.figure(figsize=(width, height))
    grid = figure.add_gridspec(
        rows, columns, left=LEFT / width, right=1 - RIGHT / width, top=1 - TOP / height,
        bottom=bottom / height, wspace=GAP / PANEL_W, hspace=panel_gap / PANEL_H)
    axes = [figure.add_subplot(grid[i // columns, i % columns]) for i in range(n_panels)]
    figure.text(0.2 / width, 1 - 0.14 / height, title, va="top", fontsize=12, weight="bold")
    short = textwrap.shorten(subtitle, int((width - 0.4) * 12.5), placeholder=" ...")
    figure.text(0.2 / width, 1 - 0.40 / height, short, va="top", fontsize=9, color="#555555")
    figure.text(0.2 / width, 0.10 / height, "\n".join(lines), va="bottom", fontsize=7.5,
                color="#444444", linespacing=1.3)
    return figure, axes


def legend(axes, precisions, table, joined=True):
    """Legend to the right of the first row of panels."""
    handles = []
    for name in precisions:
        colour, marker, line = table[name]
        handles.append(Line2D([], [], color=colour, marker=marker, markersize=SIZES[marker] + 1,
                              linestyle=line if joined else "none", markeredgecolor="white",
                              markeredgewidth=0.4,
                              label=textwrap.shorten(name, 18, placeholder="...")))
    columns = axes[0].get_subplotspec().get_gridspec().ncols
    axes[columns - 1].legend(handles=handles, title="Precision", loc="upper left",
                             bbox_to_anchor=(1.03, 1.02), frameon=False, borderaxespad=0,
                             alignment="left", handlelength=1.9)


def points(axis, xs, ys, look, ends=None, joined=True):
    """Points with error bars (`ends`: a pair of lengths below and above each) and, if joined, a
    line."""
    colour, marker, line = look
    bars = None if ends is None else [[end[0] for end in ends], [end[1] for end in ends]]
    if joined:  # below the points of every other line
        axis.plot(xs, ys, color=colour, linestyle=line, zorder=2.5)
    axis.errorbar(xs, ys, yerr=bars, color=colour, marker=marker, markersize=SIZES[marker],
                  linestyle="none", markeredgecolor="white", markeredgewidth=0.4, elinewidth=1.0,
                  zorder=3)


def by_line(run, trials):
    """(precision, trials by context length) of each precision and seed."""
    for name in ordered(run, trials):
        for seed in sorted({t["seed"] for t in trials if t["precision"] == name}):
            mine = [t for t in trials if t["precision"] == name and t["seed"] == seed]
            yield name, sorted(mine, key=lambda t: t["context_length"])


def lines(axis, every, field, table, ends=None):
    """A line through `field` of each (precision, trials by context length), the points of one
    length side by side, so that equal ones stay visible."""
    for place, (name, trials) in enumerate(every):
        shift = 2 ** dodge(place, len(every), 0.36)
        points(axis, [t["context_length"] * shift for t in trials], [t[field] for t in trials],
               table[name], ends=[ends(t) for t in trials] if ends else None)


MOVED = "Points of one length stand side by side, so that equal ones stay visible."


def length_axis(axis, lengths, label):
    """Logarithmic axis of token counts with the lengths themselves as ticks."""
    lengths = sorted(set(lengths))
    axis.set_xscale("log", base=2)
    kept = lengths
    while len(kept) > 8:
        kept = kept[::2]
    axis.xaxis.set_major_locator(FixedLocator(kept))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{round(x):d}"))
    axis.set_xlim(lengths[0] / 2 ** 0.4, lengths[-1] * 2 ** 0.4)
    axis.set_xlabel(label)


def from_zero(axis, values):
    """Amounts start at zero, unless they differ so much that only a logarithm shows them."""
    least, most = min(values), max(values)
    if least > 0 and most / least > 30:
        axis.set_yscale("log")
    else:
        axis.set_ylim(0, most * 1.12 if most > 0 else 1)
    thousands(axis)


def thousands(axis):
    def text(value, _):
        for least, name in ((1e6, "M"), (1e5, "k")):
            if axis.get_ylim()[1] >= least:
                unit = 1e6 if name == "M" else 1e3
                return f"{value / unit:,.6g} {name}" if value else "0"
        return f"{value:,.6g}"
    axis.yaxis.set_major_formatter(FuncFormatter(text))


def device(trials):
    """Device of the trials in words."""
    names = []
    for trial in trials:
        threads = trial["n_threads"]
        if trial["device"] == "null":
            name = "null engine: scripted numbers, no model was run"
        elif trial["gpu_name"]:
            name = trial["gpu_name"]
        else:
            name = f"{trial['cpu_name'] or 'CPU'}, {threads} host thread{'s' * (threads != 1)}"
        names.append(name)
    return " + ".join(distinct(names))


def subtitle(run, trials):
    models = distinct(f"{t['model_name']} ({t['model_revision']})" if t["model_revision"]
                      else t["model_name"] for t in trials)
    return f"{' + '.join(models)}  |  {device(trials)}  |  run {run.attributes['run_id']}"


def distinct(texts, most=4):
    found = list(dict.fromkeys(texts))
    return found if len(found) <= most else found[:most] + [f"{len(found) - most} more"]


def span(values):
    """'5' or '5 to 8' of the values that are not null; '' without any."""
    values = sorted({value for value in values if value is not None})
    if not values:
        return ""
    low, high = values[0], values[-1]
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def standing(run, task, trials, shown):
    """Caption lines that every figure ends with: scope, failures, origin."""
    parts = []
    scope = run.drawn_scope(trials)
    left_out = len(trials) - len(shown)
    if scope is not None:
        what = "every mixer projection" if scope == "all" else scope
        rest = f"; {left_out} trials of other scopes are not drawn" if left_out else ""
        parts.append(f"Quantized modules: {scope} ({what}){rest}." if scope == "all"
                     else f"Quantized modules: {what}{rest}.")
    failed = run.failures(task)
    if failed:
        parts.append(f"{failed} {task} trial{'s' * (failed != 1)} failed and "
                     f"{'are' if failed != 1 else 'is'} not drawn.")
    return " ".join([*parts, origin(run, shown)])


def origin(run, shown):
    """Caption line of what a figure was made by."""
    commit = shown[0]["git_commit"]
    dirty = "-dirty" if commit.endswith("-dirty") else ""
    state = "" if run.attributes["complete"] else "The run is not complete. "
    return f"{state}{run.attributes['source']}, commit {commit[:12]}{dirty}."


def in_scope(run, trials):
    scope = run.drawn_scope(trials)
    return [trial for trial in trials if trial["scope"] in ("none", scope)]


def close(figure):
    plt.close(figure)
