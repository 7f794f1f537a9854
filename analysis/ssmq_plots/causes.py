# SPDX-License-Identifier: Apache-2.0
"""What a precision's damage comes from: weights alone, activations alone, and both at once."""
import math

from ssmq_plots import results, verdict

# What two trials must share to differ in nothing but what is quantized.
SETTING = ("task", "protocol", "seq_len", "stride", "context_length", "seed", "scope", "dtype",
           "state_dtype", "state_rounding", "baseline", "drift_path")
FLOAT = "float"


def parts_of(both, trials):
    """(weights alone, activations alone) of a trial that quantizes both; None where not run."""
    mine = [t for t in trials if all(t[name] == both[name] for name in SETTING)]
    weights = next((t for t in mine if t["a_format"] == FLOAT and all(
        t[name] == both[name] for name in ("w_format", "group_size"))), None)
    activations = next((t for t in mine if t["w_format"] == FLOAT
                        and t["a_format"] == both["a_format"]), None)
    return weights, activations


class Cause:
    """One figure of a trial and of its two parts, and what the parts would give if neither changed
    what the other does: independent errors add as squares, small changes of NLL as they are."""

    def __init__(self, name, setting, precision, weights, activations, both, is_error):
        self.name, self.setting, self.precision = name, setting, precision
        self.weights, self.activations, self.both = weights, activations, both
        self.together = math.hypot(weights, activations) if is_error else weights + activations
        self.interaction = both - self.together


def added(run, trial, trials):
    found = verdict.added_nll(run, trial, trials)
    return None if found is None else found[0]


def find(run):
    """Every precision with both of its parts, by drift of the state and by NLL added (ppl).
    Raises NoData."""
    found = []
    for task, field, name, is_error in (
            ("drift", "drift_error_final", "state error", True),
            ("ppl", "nll_mean", "added NLL, nat a token", False)):
        try:
            trials = [t for t in run.finished(task, field) if t["scope"] in ("none", "all")]
        except results.NoData:
            continue
        for both in trials:
            if FLOAT in (both["w_format"], both["a_format"]):
                continue
            parts = parts_of(both, trials)
            if None in parts:
                continue
            values = [t[field] if is_error else added(run, t, trials) for t in (*parts, both)]
            if None in values:
                continue
            setting = (f"{both['context_length']} tokens" if is_error
                       else f"{both['protocol']} {both['seq_len']}")
            found.append(Cause(name, setting, both["precision"], *values, is_error))
    if not found:
        raise results.NoData("no precision beside its weights alone and its activations alone")
    return found
