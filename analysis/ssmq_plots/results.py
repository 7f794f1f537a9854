# SPDX-License-Identifier: Apache-2.0
"""Reads results.h5 of one run; its layout stands at the head of src/store/store.c."""
import math
import pathlib

import h5py
import numpy as np

SCHEMA_VERSION = 1


class BadRun(Exception):
    """A run that cannot be read; the text is one line for the user."""


class NoData(Exception):
    """A figure that this run has no data for; the text says what is missing."""


class Run:
    """One run: `trials` is a list of dicts, one a row of /table/trials, with None for null;
    `precisions` their names in the order of the file."""

    def __init__(self, path, attributes, trials, precisions, series, drifts):
        self.path = path
        self.attributes = attributes
        self.trials = trials
        self.precisions = precisions
        self._series = series
        self._drifts = drifts
        self.provenance = {}  # texts of /provenance by name

    def of_task(self, task):
        return [trial for trial in self.trials if trial["task"] == task]

    def finished(self, task, field):
        """Finished trials of a task that have a field.  Raises NoData."""
        found = [trial for trial in self.of_task(task) if trial["status"] == "ok"
                 and trial[field] is not None]
        if not found:
            planned = len(self.of_task(task))
            raise NoData(f"none of {planned} {task} trials in {self.path.name} finished with a "
                         f"{field}" if planned else f"no {task} trial in {self.path.name}")
        return found

    def failures(self, task):
        """Number of trials of a task that ended neither ok nor skipped."""
        return sum(trial["status"] not in ("ok", "skipped") for trial in self.of_task(task))

    def series(self, name, trial):
        """Raw series of a trial, or None."""
        return self._series.get(name, {}).get(trial["row"])

    def drift(self, trial):
        """Arrays and coordinates of a drift trial by name."""
        return self._drifts[trial["row"]]

    def drawn_scope(self, trials):
        """The quantized scope that a figure shows: all, else the first; None without any."""
        scopes = list(dict.fromkeys(t["scope"] for t in trials if t["scope"] != "none"))
        return "all" if "all" in scopes else next(iter(scopes), None)


def read(run_dir):
    """Run of a folder.  Raises BadRun."""
    run_dir = pathlib.Path(run_dir)
    path = run_dir / "results.h5"
    if not run_dir.is_dir():
        raise BadRun(f"{run_dir}: no such run folder")
    if not path.is_file():
        raise BadRun(f"{path}: no such file; 'ssmq merge {run_dir}' makes it from the journals")
    try:
        with h5py.File(path, "r") as file:
            run = _read_file(path, file)
            run.provenance = {name: _value(text[()])
                              for name, text in file.get("provenance", {}).items()}
            return run
    except (OSError, KeyError, ValueError) as fault:
        first = " ".join(str(fault).split())
        raise BadRun(f"{path}: not a whole results file of ssmq ({first})") from fault


def _read_file(path, file):
    version = file.attrs.get("schema_version")
    if version is None:
        raise BadRun(f"{path}: not a results file of ssmq: no attribute schema_version")
    if int(version) != SCHEMA_VERSION:
        raise BadRun(f"{path}: schema version {int(version)}; this program reads {SCHEMA_VERSION}")
    table = file["table/trials"][:]
    trials = [{name: _value(row[name]) for name in table.dtype.names} for row in table]
    for number, trial in enumerate(trials):
        trial["row"] = number
    attributes = {name: _value(file.attrs[name]) for name in
                  ("run_id", "source", "created", "complete", "n_trials_planned")}
    precisions = [_value(name) for name in file["precision"][:]]
    # Rows that name no place on an axis are in the table alone.
    precisions += [t["precision"] for t in trials]
    precisions = list(dict.fromkeys(precisions))
    wanted = ("passkey_depth", "passkey_key", "passkey_correct", "nll_window",
              "nll_window_tokens", "nll_bucket_mean", "nll_bucket_sem", "nll_bucket_tokens",
              "delta_nll_bucket_mean", "delta_nll_bucket_sem", "delta_nll_window", "kl_window")
    series = {name: _read_series(file["samples"][name]) for name in wanted
              if "samples" in file and name in file["samples"]}
    drifts = {int(row): {name: group[name][:] for name in group}
              for row, group in file.get("drift", {}).items()}
    return Run(path, attributes, trials, precisions, series, drifts)


def _read_series(group):
    ends = np.cumsum(group["row_size"][:])
    parts = np.split(group["values"][:], ends[:-1])
    return dict(zip((int(row) for row in group["trial"][:]), parts))


def _value(cell):
    """A cell as Python sees it; None for the nulls of the table."""
    if isinstance(cell, bytes):
        return cell.decode("utf-8")
    if isinstance(cell, np.integer):
        return None if cell == -1 else int(cell)
    if isinstance(cell, np.floating):
        return None if math.isnan(cell) else float(cell)
    return cell
