# SPDX-License-Identifier: Apache-2.0
"""Passkey retrieval against prompt length, and by place of the key."""
import numpy as np
from matplotlib.patches import Rectangle

from ssmq_plots import paired, style
from ssmq_plots.results import NoData


def caption_of(run, trials, shown):
    templates = style.distinct(t["prompt_template_version"] for t in shown)
    parts = (f"n = {style.span(t['n_trials'] for t in shown)} prompts a point, the same for every "
             f"precision; greedy decoding, exact match; template {', '.join(templates)}.")
    controls = [t["control_accuracy"] for t in shown if t["control_accuracy"] is not None]
    if controls:
        parts += f" Without the key in the prompt: at most {max(controls):.2f}."
    planted = [t["wrong_key_accuracy"] for t in shown if t["wrong_key_accuracy"] is not None]
    if planted:
        parts += (f" With another key planted, which is then the right answer: "
                  f"at least {min(planted):.2f}.")
    return parts, style.standing(run, "passkey", trials, shown)


def interval(trial):
    """Lengths from the accuracy to the ends of its interval."""
    return (max(trial["accuracy"] - trial["accuracy_ci_low"], 0.0),
            max(trial["accuracy_ci_high"] - trial["accuracy"], 0.0))


def draw_lengths(run):
    trials = run.finished("passkey", "accuracy")
    shown = style.in_scope(run, trials)
    table = style.looks(run.precisions)
    what, standing = caption_of(run, trials, shown)
    templates = paired.templates(shown)
    figure, axes = style.frame(len(templates), "Passkey accuracy against prompt length",
                               style.subtitle(run, shown),
                               [what, f"Bars: 95 % Wilson interval. {style.MOVED}", standing])
    for axis, template in zip(axes, templates):
        mine = paired.of_template(shown, template)
        style.lines(axis, list(style.by_line(run, mine)), "accuracy", table, ends=interval)
        style.length_axis(axis, [t["context_length"] for t in mine], "Prompt length (tokens)")
        axis.set_ylim(-0.04, 1.04)
        axis.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
        axis.set_ylabel("Accuracy (share of prompts)")
        if len(templates) > 1:
            axis.set_title(template, loc="left")
    style.legend(axes, style.ordered(run, shown), table)
    return figure


def by_depth(run, trials):
    """{(context, depth): (right, prompts)} of the trials."""
    cells = {}
    for trial in trials:
        depths, right = run.series("passkey_depth", trial), run.series("passkey_correct", trial)
        if depths is None or right is None:
            continue
        for depth in np.unique(depths):
            key = (trial["context_length"], float(depth))
            hit = right[depths == depth]
            before = cells.get(key, (0, 0))
            cells[key] = (before[0] + int(hit.sum()), before[1] + len(hit))
    return cells


def heat_map(axis, cells, lengths, depths, masked):
    """Cells in `masked` are crossed out: the baseline itself finds too little there."""
    shares = np.full((len(depths), len(lengths)), np.nan)
    for (length, depth), (right, prompts) in cells.items():
        row, column = depths.index(depth), lengths.index(length)
        shares[row, column] = right / prompts
        if (length, depth) in masked:
            axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, hatch="////",
                                     edgecolor="#999999", linewidth=0))
    image = axis.imshow(shares, vmin=0, vmax=1, cmap="cividis", aspect="auto", origin="upper")
    for (length, depth), (right, prompts) in cells.items():
        row, column = depths.index(depth), lengths.index(length)
        ink = "white" if shares[row, column] < 0.5 else "black"
        low, high = paired.wilson(right, prompts)
        axis.text(column, row, f"{right}/{prompts}\n{low:.2f} to {high:.2f}", ha="center",
                  va="center", fontsize=6.5 if len(lengths) < 5 else 4.8, color=ink)
    axis.set_xticks(range(len(lengths)), [f"{n}" for n in lengths])
    axis.set_yticks(range(len(depths)), [f"{depth:g}" for depth in depths])
    axis.set_xticks(np.arange(len(lengths) + 1) - 0.5, minor=True)
    axis.set_yticks(np.arange(len(depths) + 1) - 0.5, minor=True)
    axis.grid(visible=False)
    axis.grid(which="minor", color="white", linewidth=1.2)
    axis.tick_params(which="both", length=0)
    for side in axis.spines.values():
        side.set_visible(False)
    axis.set_xlabel("Prompt length (tokens)")
    axis.set_ylabel("Place of the key (0 start, 1 end)")
    return image


def draw_depths(run):
    trials = run.finished("passkey", "accuracy")
    shown = style.in_scope(run, trials)
    precisions = style.ordered(run, shown)
    templates = paired.templates(shown)
    cells = {(template, name): by_depth(run, [t for t in paired.of_template(shown, template)
                                              if t["precision"] == name])
             for template in templates for name in precisions}
    lengths = sorted({key[0] for part in cells.values() for key in part})
    depths = sorted({key[1] for part in cells.values() for key in part})
    if len(depths) < 2:
        raise NoData("the prompts of this run have their key at one depth only" if depths
                     else "no series passkey_depth and passkey_correct")
    floor = shown[0]["accuracy_floor"] or 0.0
    masked = {template: {place for place, (right, prompts) in cells.get(
        (template, shown[0]["baseline"]), {}).items() if paired.wilson(right, prompts)[0] < floor}
        for template in templates}
    what, standing = caption_of(run, trials, shown)
    figure, axes = style.frame(
        len(cells), "Passkey accuracy by prompt length and place of the key",
        style.subtitle(run, shown),
        [what.replace("prompts a point", "prompts a column"),
         "Numbers in a cell: right answers / prompts, 95 % Wilson interval. Hatched: the lower end of "
         "the baseline's "
         f"95 % interval is below the floor of {floor:g}.", standing])
    for axis, ((template, name), part) in zip(axes, cells.items()):
        image = heat_map(axis, part, lengths, depths, masked[template])
        axis.set_title(name if len(templates) == 1 else f"{name}, {template}", loc="left")
    columns = axes[0].get_subplotspec().get_gridspec().ncols
    box = axes[columns - 1].get_position()
    width = figure.get_figwidth()
    bar = figure.add_axes([box.x1 + 0.25 / width, box.y0, 0.16 / width, box.height])
    figure.colorbar(image, cax=bar).set_label("Accuracy (share of prompts)")
    bar.grid(visible=False)
    return figure


def paired_cells(run, shown, precisions):
    """Baseline's name and {row: {length: Cell}} of every other precision, a row for each template."""
    baseline = shown[0]["baseline"]
    if baseline not in precisions:
        raise NoData(f"no finished passkey trial of the baseline {baseline or '(not named)'}")
    table, templates = {}, paired.templates(shown)
    for template in templates:
        mine = paired.of_template(shown, template)
        of = {name: paired.outcomes(run, [t for t in mine if t["precision"] == name])
              for name in precisions}
        for name in precisions:
            cells = paired.cells(of[baseline], of[name], paired.by_length)
            if name != baseline and cells:
                table[name if len(templates) == 1 else f"{name}, {template}"] = cells
    if not table:
        raise NoData(f"no precision answered the same passkey prompts as the baseline {baseline}")
    return baseline, table


def draw_paired(run):
    trials = run.finished("passkey", "accuracy")
    shown = style.in_scope(run, trials)
    baseline, table = paired_cells(run, shown, style.ordered(run, shown))
    names, lengths = list(table), sorted({n for cells in table.values() for n in cells})
    floor = shown[0]["accuracy_floor"] or 0.0
    what, standing = caption_of(run, trials, shown)
    figure, axes = style.frame(
        1, f"Passkey accuracy against the baseline {baseline}, prompt by prompt",
        style.subtitle(run, shown),
        [what, "In a cell: change of accuracy; prompts lost and gained against the baseline; "
               "two-sided p of McNemar's exact test, not corrected for the number of cells. Grey: "
               "the lower end of the baseline's 95 % interval is below the floor of "
               f"{floor:g}, so there is too little to lose.", standing])
    changes = np.full((len(names), len(lengths)), np.nan)
    for row, name in enumerate(names):
        for length, cell in table[name].items():
            column = lengths.index(length)
            masked = cell.is_masked(floor)
            if not masked:
                changes[row, column] = cell.change
            text = "masked" if masked else (f"{cell.change:+.2f}\n{cell.lost} lost, "
                                            f"{cell.gained} gained\np {cell.p:.2g}")
            ink = "white" if not masked and abs(cell.change) > 0.6 else "black"
            axes[0].text(column, row, text, ha="center", va="center", fontsize=7, color=ink)
    axes[0].set_facecolor("#CCCCCC")
    image = axes[0].imshow(changes, vmin=-1, vmax=1, cmap="RdBu", aspect="auto")
    axes[0].set_xticks(range(len(lengths)), [f"{n}" for n in lengths])
    axes[0].set_yticks(range(len(names)), names)
    axes[0].grid(visible=False)
    axes[0].set_xlabel("Prompt length (tokens)")
    box, width = axes[0].get_position(), figure.get_figwidth()
    bar = figure.add_axes([box.x1 + 0.25 / width, box.y0, 0.16 / width, box.height])
    figure.colorbar(image, cax=bar).set_label("Change of accuracy")
    bar.grid(visible=False)
    return figure


FIGURES = {"passkey.png": draw_lengths, "passkey_depth.png": draw_depths,
           "passkey_paired.png": draw_paired}
