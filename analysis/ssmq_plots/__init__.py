# SPDX-License-Identifier: Apache-2.0
"""Figures of ssmq runs: results.py reads, style.py decides how things look, and each other file
draws one family of figures. make_plots.py is the entry."""
