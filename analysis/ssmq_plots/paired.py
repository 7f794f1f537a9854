# SPDX-License-Identifier: Apache-2.0
"""Passkey answers of two precisions to the same prompts, paired: McNemar's exact test, and the
cells where the baseline itself finds too little to lose."""
import math

import numpy as np

Z = 1.959963984540054  # 97.5 % point of the normal distribution


def wilson(right, prompts):
    """95 % Wilson score interval (JASA 22, 1927), as the fields accuracy_ci_low and _high."""
    if prompts < 1:
        return math.nan, math.nan
    share, scale = right / prompts, 1 + Z * Z / prompts
    center = (share + Z * Z / (2 * prompts)) / scale
    half = Z * math.sqrt(share * (1 - share) / prompts + Z * Z / (4 * prompts * prompts)) / scale
    return (0.0 if right == 0 else center - half, 1.0 if right == prompts else center + half)


def mcnemar(lost, gained):
    """Two-sided exact p of McNemar's test (Psychometrika 12, 1947): of the prompts whose outcome
    differs, lost ones are binomial with probability 1/2 if nothing changed; 1 without any."""
    n = lost + gained
    tail = sum(math.comb(n, k) for k in range(min(lost, gained) + 1))
    return min(1.0, 2 * tail / 2 ** n)


class Cell:
    """Outcomes of a precision and of the baseline on the same prompts."""

    def __init__(self, base, other):
        self.prompts = len(base)
        self.base_right, self.right = int(base.sum()), int(other.sum())
        self.lost = int(((base > 0) & (other == 0)).sum())
        self.gained = int(((base == 0) & (other > 0)).sum())

    @property
    def change(self):
        return (self.gained - self.lost) / self.prompts

    @property
    def p(self):
        return mcnemar(self.lost, self.gained)

    def is_masked(self, floor):
        """Whether the baseline is not surely above the floor."""
        return wilson(self.base_right, self.prompts)[0] < floor


def templates(trials):
    """Prompt templates in the order of the file."""
    return list(dict.fromkeys(t["prompt_template_version"] for t in trials))


def of_template(trials, template):
    return [t for t in trials if t["prompt_template_version"] == template]


def outcomes(run, trials):
    """{(context, seed, depth, number): (key, right)} of one precision's trials of one template."""
    found = {}
    for trial in trials:
        series = [run.series(f"passkey_{name}", trial) for name in ("depth", "key", "correct")]
        if any(part is None for part in series):
            continue
        for number, (depth, key, right) in enumerate(zip(*series)):
            found[trial["context_length"], trial["seed"], float(depth), number] = (key, right)
    return found


def cells(base, other, group):
    """{group(place): Cell} over the prompts that both answered; a place whose keys differ was not
    the same prompt and is left out."""
    pairs = {}
    for place, (key, right) in other.items():
        if place in base and base[place][0] == key:
            pairs.setdefault(group(place), []).append((base[place][1], right))
    return {name: Cell(*np.array(found).T) for name, found in pairs.items()}


def by_length(place):
    return place[0]


def by_length_and_depth(place):
    return place[0], place[2]
