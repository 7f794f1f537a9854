# SPDX-License-Identifier: Apache-2.0
"""Peak memory of prefill and of decoding, against length, a panel a batch size."""
from ssmq_plots import style
from ssmq_plots.throughput import figure_of


def caption(shown):
    sources = ", ".join(style.distinct(t["memory_source"] or "not named" for t in shown))
    return [f"Memory counted by: {sources}; the peak is reset before each phase. "
            f"1 MB = 10\N{SUPERSCRIPT SIX} bytes. {style.MOVED}"]


def draw_prefill(run):
    return figure_of(run, "prefill_peak_mem_mb", "Peak memory of prefill against length",
                     "Prefill length (tokens)", "Peak memory (MB)", caption, None)


def draw_decode(run):
    return figure_of(run, "decode_peak_mem_mb", "Peak memory of decoding against context length",
                     "Context before decoding (tokens)", "Peak memory (MB)", caption, None)


FIGURES = {"prefill_memory.png": draw_prefill, "decode_memory.png": draw_decode}
