# SPDX-License-Identifier: Apache-2.0
"""Numbers and tables as Markdown, for the report."""


def number(value, digits=4):
    """A number with so many significant digits; '-' for null."""
    if value is None or value != value:
        return "-"
    if isinstance(value, int):
        return f"{value}"
    return f"{value:.{digits}g}" if abs(value) < 10 ** digits else f"{value:.0f}"


def interval(value, low, high, digits=4):
    """'1.02 (1.01 to 1.03)'; without the ends where there are none."""
    if low is None or low != low:
        return number(value, digits)
    return f"{number(value, digits)} ({number(low, digits)} to {number(high, digits)})"


def p_value(p):
    return f"{p:.1e}" if p < 0.001 else f"{p:.3f}"


def cell(text):
    """Text that cannot end a cell or a row."""
    return " ".join(str(text).split()).replace("|", "\\|")


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows]
    return "\n".join(lines)
