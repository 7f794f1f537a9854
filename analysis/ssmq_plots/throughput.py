# SPDX-License-Identifier: Apache-2.0
"""Tokens a second of prefill and of decoding, against length, a panel a batch size."""
from ssmq_plots import style


def panels(run, shown):
    """(batch size, its lines) of a figure; a line is (precision, trials by length)."""
    for batch in sorted({t["batch_size"] for t in shown}):
        every = []
        for name in style.ordered(run, shown):
            mine = [t for t in shown if t["precision"] == name and t["batch_size"] == batch]
            for seed in sorted({t["seed"] for t in mine}):
                line = [t for t in mine if t["seed"] == seed]
                every.append((name, sorted(line, key=lambda t: t["context_length"])))
        yield batch, every


def figure_of(run, field, title, length_label, value_label, caption, bars):
    """Figure of one field of profile trials. bars(trial) gives the lengths of its whiskers."""
    trials = run.finished("profile", field)
    shown = style.in_scope(run, trials)
    table = style.looks(run.precisions)
    batches = list(panels(run, shown))
    figure, axes = style.frame(len(batches), title, style.subtitle(run, shown),
                               [*caption(shown), style.standing(run, "profile", trials, shown)])
    for axis, (batch, every) in zip(axes, batches):
        values = []
        for place, (name, mine) in enumerate(every):
            shift = 2 ** style.dodge(place, len(every), 0.36)
            ys = [t[field] for t in mine]
            ends = [bars(t) for t in mine] if bars else None
            style.points(axis, [t["context_length"] * shift for t in mine], ys,
                         [end[0] for end in ends] if ends else None,
                         [end[1] for end in ends] if ends else None, table[name])
            values += [y + (ends[i][1] if ends else 0) for i, y in enumerate(ys)]
            values += [y - (ends[i][0] if ends else 0) for i, y in enumerate(ys)]
        style.length_axis(axis, [t["context_length"] for t in shown], length_label)
        style.from_zero(axis, values)
        axis.set_ylabel(value_label)
        axis.set_title(f"batch size {batch}", loc="left")
    style.legend(figure, axes, style.ordered(run, shown), table)
    return figure


def whiskers(phase):
    """Lengths from the median's rate to those of the 90th and the 10th percentile of time."""
    def ends(trial):
        median = trial[f"{phase}_ms"]
        rate = trial[f"{phase}_tokens_per_s"]
        fast, slow = trial[f"{phase}_ms_p10"], trial[f"{phase}_ms_p90"]
        if not fast or not slow or median is None:
            return 0.0, 0.0
        return max(rate - rate * median / slow, 0.0), max(rate * median / fast - rate, 0.0)
    return ends


def caption_of(samples):
    def caption(shown):
        timers = ", ".join(style.distinct(t["timer"] or "not named" for t in shown))
        return [f"Timer: {timers}. Median of {samples(shown)} after "
                f"{style.span(t['n_warmup'] for t in shown)} warm-up repeats; whiskers: 10th to "
                "90th percentile. Points of one length are moved apart sideways."]
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
