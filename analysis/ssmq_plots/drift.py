# SPDX-License-Identifier: Apache-2.0
"""Error of the recurrent state: against tokens, by layer, and by the half-life of heads."""
import numpy as np

from ssmq_plots import style


def positive(values):
    """For logarithmic axes: an error of 0 is not drawn."""
    return np.where(np.asarray(values) > 0, values, np.nan)


def growth(axis, shown, table, run):
    """Accumulated error as points on a line, injected error as a dotted one, the floor shaded."""
    least = np.inf
    for place, trial in enumerate(shown):
        colour, marker, line = table[trial["precision"]]
        drift = run.drift(trial)
        steps = drift["step"] * 2 ** style.dodge(place, len(shown), 0.36)
        error, floor = positive(drift["drift_error_rms"]), positive(drift["drift_floor_rms"])
        style.points(axis, steps, error, (colour, marker, line))
        axis.plot(steps, positive(drift["drift_injected_error_rms"]), color=colour,
                  linestyle=":", zorder=2.4)
        axis.plot(drift["step"], floor, color=colour, linewidth=0.7, alpha=0.7, zorder=2)
        least = np.nanmin([least, *error, *floor])
    axis.set_yscale("log")
    bottom = least / 2 if np.isfinite(least) else 1e-8
    for trial in shown:
        drift = run.drift(trial)
        axis.fill_between(drift["step"], bottom, np.fmax(drift["drift_floor_rms"], bottom),
                          color=table[trial["precision"]][0], alpha=0.07, linewidth=0)
    axis.set_ylim(bottom=bottom)
    style.length_axis(axis, [int(t) for t in drift["step"]], "Tokens")
    axis.set_ylabel("Relative error of the state")
    axis.set_title("all heads: accumulated, injected (dotted)", loc="left")


def layers(axis, shown, table, run):
    for place, trial in enumerate(shown):
        drift = run.drift(trial)
        xs = np.arange(drift["drift_layer_error"].shape[1])
        offset = style.dodge(place, len(shown), 0.5)
        style.points(axis, xs + offset, positive(drift["drift_layer_error"][-1]),
                     table[trial["precision"]])
        axis.plot(xs + offset, positive(drift["drift_layer_floor"][-1]), linewidth=0.7, alpha=0.7,
                  color=table[trial["precision"]][0], zorder=2)
    axis.set_yscale("log")
    axis.set_xlabel("Layer")
    axis.set_ylabel("Relative error of the state")
    axis.set_title("layers at the last step", loc="left")


def half_lives(axis, shown, table, run):
    for place, trial in enumerate(shown):
        drift = run.drift(trial)
        bins = drift["bin"] * 2 ** style.dodge(place, len(shown), 0.36)
        style.points(axis, bins, positive(drift["drift_bin_error"][-1]),
                     table[trial["precision"]])
        axis.plot(bins, positive(drift["drift_bin_floor"][-1]), linewidth=0.7, alpha=0.7,
                  color=table[trial["precision"]][0], zorder=2)
    axis.set_yscale("log")
    style.length_axis(axis, [int(t) for t in drift["bin"]], "Half-life of the head (tokens)")
    axis.set_ylabel("Relative error of the state")
    axis.set_title("heads by half-life, last step", loc="left")


def responses(axis, shown, table, run):
    """What is left of an impulse, root mean square over heads and sequences."""
    for place, trial in enumerate(shown):
        drift = run.drift(trial)
        steps = drift["impulse_step"] * 2 ** style.dodge(place, len(shown), 0.36)
        left = np.sqrt(np.mean(np.square(drift["drift_impulse_response"]), axis=(1, 2, 3)))
        style.points(axis, steps, positive(left), table[trial["precision"]])
    axis.axhline(1, color=style.INK, linewidth=0.8)
    axis.set_yscale("log")
    style.length_axis(axis, [int(t) for t in drift["impulse_step"]], "Tokens after the impulse")
    axis.set_ylabel("Left of the impulse")
    axis.set_title("an error put in once", loc="left")


def exponent_of(trial):
    """'w8a8 0.12 (0.05 to 0.19)', or why there is none."""
    name = trial["precision"]
    if trial["drift_verdict"] == "not resolved":
        return f"{name} not resolved"
    if trial["drift_exponent"] is None:
        return f"{name} none"
    low, high = trial["drift_exponent_ci_low"], trial["drift_exponent_ci_high"]
    ends = "" if low is None else f" ({low:.3f} to {high:.3f})"
    return f"{name} {trial['drift_exponent']:.3f}{ends}"


def draw(run):
    trials = run.finished("drift", "drift_error_final")
    longest = max(trial["context_length"] for trial in trials)
    shown = [t for t in style.in_scope(run, trials) if t["context_length"] == longest]
    seed = shown[0]["seed"]
    shown = [trial for trial in shown if trial["seed"] == seed]
    precisions = style.ordered(run, shown)
    shown.sort(key=lambda trial: precisions.index(trial["precision"]))
    table = style.looks(run.precisions)
    caption = [
        f"Baseline {shown[0]['baseline']}, {shown[0]['drift_path']} path, "
        f"{shown[0]['batch_size']} sequences; root mean square of ||S_q - S_b|| / ||S_b|| over "
        "heads and sequences. Dotted: started from the baseline's state one step before. Thin "
        "lines and shades, the floor: the precision's own prefill against its own decode path (the "
        "baseline's where the state is stored in less than fp32); what lies below is not "
        f"resolved. An error of 0 is not drawn. {style.MOVED}",
        "Growth exponent, 95 % interval: " + "; ".join(map(exponent_of, shown)) + ".",
        style.standing(run, "drift", trials, shown)]
    # Files of earlier versions lack the field.
    hit = [trial for trial in shown if trial.get("drift_impulse") is not None]
    if hit:
        caption.insert(1, f"Impulse: every entry of the state times 1 +- {hit[0]['drift_impulse']:g}, "
                       "once; its difference to the same model without it, as a share of it.")
    figure, axes = style.frame(4 if hit else 3, "Drift of the recurrent state",
                               style.subtitle(run, shown), caption)
    growth(axes[0], shown, table, run)
    layers(axes[1], shown, table, run)
    half_lives(axes[2], shown, table, run)
    if hit:
        responses(axes[3], hit, table, run)
    style.legend(axes, precisions, table)
    return figure


FIGURES = {"drift.png": draw}
