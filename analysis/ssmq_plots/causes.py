# SPDX-License-Identifier: Apache-2.0
"""What a precision's damage comes from: weights alone, activations alone, the stored state alone, and
all of them at once."""
import math

from ssmq_plots import results, verdict

# What two trials must share to differ in nothing but what is quantized.
SETTING = ("task", "protocol", "seq_len", "stride", "context_length", "seed", "scope", "dtype",
           "baseline", "drift_path")
STATE = ("state_dtype", "state_rounding")
FLOAT, PLAIN_STATE = "float", "fp32"


def is_same(a, b, names):
    return all(a[name] == b[name] for name in names)


def parts_of(whole, trials):
    """[weights alone, activations alone, state alone] of a trial that quantizes weights and
    activations. The last is None where the parts have the state of the whole; the list is None where
    a part was not run."""
    # A part that quantizes no projection has the scope none.
    alike = [t for t in trials if is_same(t, whole, [n for n in SETTING if n != "scope"])
             and t["scope"] in (whole["scope"], "none")]

    def part(is_weights, is_activations, has_state):
        return next((t for t in alike
                     if t["w_format"] == (whole["w_format"] if is_weights else FLOAT)
                     and t["a_format"] == (whole["a_format"] if is_activations else FLOAT)
                     and (not is_weights or t["group_size"] == whole["group_size"])
                     and (is_same(t, whole, STATE) if has_state
                          else t["state_dtype"] == PLAIN_STATE)), None)

    same = [part(True, False, True), part(False, True, True)]
    if None not in same:
        return [*same, None]
    apart = [part(True, False, False), part(False, True, False), part(False, False, True)]
    return None if whole["state_dtype"] == PLAIN_STATE or None in apart else apart


class Cause:
    """One figure of a trial and of its parts (state: None if the parts have the whole's), and what the
    parts would give if none changed what another does: independent errors add as squares, small
    changes of NLL as they are."""

    def __init__(self, name, setting, precision, parts, whole, is_error):
        self.name, self.setting, self.precision = name, setting, precision
        self.weights, self.activations, self.state = parts
        self.whole = whole
        found = [value for value in parts if value is not None]
        self.together = math.hypot(*found) if is_error else sum(found)
        self.interaction = whole - self.together


def added(run, trial, trials):
    found = verdict.added_nll(run, trial, trials)
    return None if found is None else found[0]


def find(run):
    """Every precision with all of its parts, by drift of the state and by NLL added (ppl).
    Raises NoData."""
    found = []
    for task, field, name, is_error in (
            ("drift", "drift_error_final", "state error", True),
            ("ppl", "nll_mean", "added NLL, nat a token", False)):
        try:
            trials = [t for t in run.finished(task, field) if t["scope"] in ("none", "all")]
        except results.NoData:
            continue
        for whole in trials:
            if FLOAT in (whole["w_format"], whole["a_format"]):
                continue
            parts = parts_of(whole, trials)
            if parts is None:
                continue
            values = [None if t is None else t[field] if is_error else added(run, t, trials)
                      for t in (*parts, whole)]
            if any(value is None and t is not None for value, t in zip(values, (*parts, whole))):
                continue
            setting = (f"{whole['context_length']} tokens, {whole['drift_path']}" if is_error
                       else f"{whole['protocol']} {whole['seq_len']}")
            found.append(Cause(name, setting, whole["precision"], values[:3], values[3], is_error))
    if not found:
        raise results.NoData("no precision beside its weights alone and its activations alone")
    return found
