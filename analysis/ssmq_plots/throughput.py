# SPDX-License-Identifier: Apache-2.0
"""Tokens a second of prefill and of decoding, against length, a panel a batch size."""
from ssmq_plots import style


def figure_of(run, field, title, length_label, value_label, caption, ends):
    """Figure of one field of profile trials. ends(trial) gives the lengths of its whiskers."""
    trials = run.finished("profile", field)
    shown = style.in_scope(run, trials)
    table = style.looks(run.precisions)
    batches = sorted({t["batch_size"] for t in shown})
    figure, axes = style.frame(len(batches), title, style.subtitle(run, shown),
                               [*caption(shown), style.standing(run, "profile", trials, shown)])
    for axis, batch in zip(axes, batches):
        mine = [t for t in shown if t["batch_size"] == batch]
        style.lines(axis, list(style.by_line(run, mine)), field, table, ends=ends)
        style.length_axis(axis, [t["context_length"] for t in shown], length_label)
        reach = [(t[field], ends(t) if ends else (0.0, 0.0)) for t in mine]
        style.from_zero(axis, [y - below for y, (below, _) in reach]
                        + [y + above for y, (_, above) in reach])
        axis.set_ylabel(value_label)
        axis.set_title(f"batch size {batch}", loc="left")
    style.legend(axes, style.ordered(run, shown), table)
    return figure


def whiskers(phase):
    """Lengths from the median's rate to those of the 90th and the 10th percentile of time."""
    def lengths(trial):
        median = trial[f"{phase}_ms"]
        rate = trial[f"{phase}_tokens_per_s"]
        fast, slow = trial[f"{phase}_ms_p10"], trial[f"{phase}_ms_p90"]
        if not fast or not slow or median is None:
            return 0.0, 0.0
        return max(rate - rate * median / slow, 0.0), max(rate * median / fast - rate, 0.0)
    return lengths


def caption_of(samples):
    def caption(shown):
        timers = ", ".join(style.distinct(t["timer"] or "not named" for t in shown))
        return [f"Timer: {timers}. Median of {samples(shown)} (warm-up before: "
                f"{style.span(t['n_warmup'] for t in shown)}); whiskers: 10th to 90th percentile. "
                f"{style.MOVED}"]
    return caption


def prefill_samples(shown):
    return f"n = {style.span(t['n_measure'] for t in shown)} prefills"


def decode_samples(shown):
    return (f"the steps of n = {style.span(t['n_measure'] for t in shown)} repeats of "
            f"{style.span(t['gen_len'] for t in shown)} decode steps")


def draw_prefill(run):
    return figure_of(run, "prefill_tokens_per_s", "Prefill throughput against length",
                     "Prefill length (tokens)", "Prefill throughput (tokens/s)",
                     caption_of(prefill_samples), whiskers("prefill"))


def draw_decode(run):
    return figure_of(run, "decode_tokens_per_s", "Decode throughput against context length",
                     "Context before decoding (tokens)", "Decode throughput (tokens/s)",
                     caption_of(decode_samples), whiskers("decode"))


FIGURES = {"prefill_throughput.png": draw_prefill, "decode_throughput.png": draw_decode}
