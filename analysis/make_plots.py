#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws the figures of one run from its results.h5 alone: RUN/plots/*.png.

usage: make_plots.py --run_dir runs/RUN_ID [--dpi 220]

The same results.h5 gives the same bytes. A figure without data is left out with a line that says
what is missing. Exit codes: 0 drawn, 1 cannot write, 2 bad usage or a run that cannot be read.
"""
import argparse
import os
import pathlib
import sys


def options(argv):
    parser = argparse.ArgumentParser(prog="make_plots.py", description="Figures of one ssmq run.")
    parser.add_argument("--run_dir", "--run-dir", required=True, metavar="DIR",
                        help="run folder with a results.h5; figures go to DIR/plots")
    parser.add_argument("--dpi", type=int, default=220, metavar="N",
                        help="dots an inch, 50 to 1200 (default 220)")
    args = parser.parse_args(argv)
    if not 50 <= args.dpi <= 1200:
        parser.error("--dpi: allowed are 50 to 1200")
    return args


def save(figure, path, dpi):
    """Writes beside and renames, so that a reader never sees half a picture. Without metadata the
    bytes depend on the drawing alone."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        figure.savefig(temporary, format="png", dpi=dpi, metadata={"Software": None})
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def main(argv):
    args = options(argv)
    try:
        from ssmq_plots import (drift, fidelity, memory, pareto, passkey, position, ppl,
                                results, sensitivity, style, throughput)
    except ImportError as missing:
        print(f"make_plots: {missing}; pip install -r analysis/requirements.txt", file=sys.stderr)
        return 1
    try:
        run = results.read(pathlib.Path(args.run_dir))
    except results.BadRun as fault:
        print(f"make_plots: {fault}", file=sys.stderr)
        return 2
    style.apply()
    folder = pathlib.Path(args.run_dir) / "plots"
    figures = {**ppl.FIGURES, **position.FIGURES, **fidelity.FIGURES, **sensitivity.FIGURES,
               **pareto.FIGURES, **passkey.FIGURES, **throughput.FIGURES, **memory.FIGURES,
               **drift.FIGURES}
    try:
        folder.mkdir(exist_ok=True)
        for name, draw in figures.items():
            path = folder / name
            try:
                figure = draw(run)
            except results.NoData as reason:
                path.unlink(missing_ok=True)  # what an earlier state of the run left
                print(f"left out {path}: {reason}")
                continue
            save(figure, path, args.dpi)
            style.close(figure)
            print(f"wrote {path}")
    except OSError as fault:
        print(f"make_plots: {fault.filename or folder}: {fault.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
