#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the report of one run from its results.h5 alone: RUN/report.md.

usage: make_report.py --run_dir runs/RUN_ID

A table a task, where each precision breaks, the protocol text that a paper's appendix needs, and the
provenance. The same results.h5 gives the same bytes. Exit codes: 0 written, 1 cannot write, 2 bad
usage or a run that cannot be read.
"""
import argparse
import os
import pathlib
import sys


def options(argv):
    parser = argparse.ArgumentParser(prog="make_report.py", description="Report of one ssmq run.")
    parser.add_argument("--run_dir", "--run-dir", required=True, metavar="DIR",
                        help="run folder with a results.h5; the report goes to DIR/report.md")
    return parser.parse_args(argv)


def main(argv):
    args = options(argv)
    try:
        from ssmq_plots import report, results
    except ImportError as missing:
        print(f"make_report: {missing}; pip install -r analysis/requirements.txt", file=sys.stderr)
        return 1
    try:
        run = results.read(pathlib.Path(args.run_dir))
    except results.BadRun as fault:
        print(f"make_report: {fault}", file=sys.stderr)
        return 2
    path = pathlib.Path(args.run_dir) / "report.md"
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(report.write(run), encoding="utf-8")
        os.replace(temporary, path)
    except OSError as fault:
        print(f"make_report: {fault.filename or path}: {fault.strerror}", file=sys.stderr)
        return 1
    finally:
        temporary.unlink(missing_ok=True)
    print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
