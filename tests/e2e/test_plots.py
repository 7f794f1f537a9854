# SPDX-License-Identifier: Apache-2.0
"""analysis/make_plots.py on a run of the null engine, and the readers that results.h5 is made for.
What is drawn is compared with metrics.jsonl, which no plot reads. Needs the packages of
analysis/requirements.txt: the Python of .venv, where there is one; skipped without them."""
from analysis_python import ROOT  # before the packages that it finds

import contextlib
import io
import math
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

import h5py
import numpy as np
import pandas as pd
import xarray as xr

from sweep_support import SweepTest, records
from ssmq_plots import (memory, pareto, paired, passkey, position, ppl, report, results, style,
                        throughput, verdict)

FIGURES = {**ppl.FIGURES, **position.FIGURES, **pareto.FIGURES, **passkey.FIGURES,
           **throughput.FIGURES, **memory.FIGURES}
NAMES = ["ppl.png", "position.png", "pareto.png", "passkey.png", "passkey_depth.png",
         "passkey_paired.png", "prefill_throughput.png", "decode_throughput.png",
         "prefill_memory.png", "decode_memory.png"]
TASK_OF = {"ppl.png": "ppl", "passkey.png": "passkey", "passkey_depth.png": "passkey"}
VALUES = {"ppl.png": "ppl", "passkey.png": "accuracy",
          "prefill_throughput.png": "prefill_tokens_per_s",
          "decode_throughput.png": "decode_tokens_per_s",
          "prefill_memory.png": "prefill_peak_mem_mb", "decode_memory.png": "decode_peak_mem_mb"}


class MadeRun(SweepTest):
    @classmethod
    def setUpClass(cls):
        """One run for all tests, which work on copies."""
        cls.folder = tempfile.TemporaryDirectory(prefix="ssmq-plots-")
        cls.addClassCleanup(cls.folder.cleanup)
        sweep = SweepTest("run")
        sweep.out = pathlib.Path(cls.folder.name)
        cls.made = sweep.sweep_dir("--config", "configs/smoke.yaml", "--run-id", "made", "--set",
                                   "passkey.depth=[0.1, 0.9]", "--set", "passkey.control=true", "--set", "passkey.wrong_key=true")


class Plots(MadeRun):
    def copy(self, name="copy"):
        self.out.mkdir(exist_ok=True)
        return pathlib.Path(shutil.copytree(self.made, self.out / name))

    def plot(self, run_dir, expect=0, dpi=60, **environment):
        done = subprocess.run(
            [sys.executable, "-B", str(ROOT / "analysis/make_plots.py"), "--run_dir", str(run_dir),
             "--dpi", str(dpi)], cwd=self.folder.name, text=True, timeout=120,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, **environment})
        self.assertEqual(done.returncode, expect, done.stdout + done.stderr)
        return done

    def refused(self, run_dir, message):
        self.assertEqual(self.plot(run_dir, expect=2).stderr, f"make_plots: {message}\n")

    def test_every_figure(self):
        run_dir = self.copy()
        done = self.plot(run_dir)
        plots = f"{run_dir}/plots"
        lines = [f"wrote {plots}/{name}" for name in NAMES]
        lines.insert(2, f"left out {plots}/fidelity.png: no fidelity trial in results.h5")
        lines.insert(3, f"left out {plots}/sensitivity.png: no perplexity trial of a single module "
                     "beside an unquantized one in results.h5")
        lines.insert(4, f"left out {plots}/sensitivity_kl.png: no fidelity trial in "
                     "results.h5")
        lines.append(f"left out {plots}/drift.png: no drift trial in results.h5")
        self.assertEqual(done.stdout.splitlines(), lines)
        self.assertEqual(sorted(path.name for path in (run_dir / "plots").iterdir()),
                         sorted(NAMES))
        for name in NAMES:
            head = (run_dir / "plots" / name).read_bytes()[:24]
            self.assertEqual(head[:8], b"\x89PNG\r\n\x1a\n")
            width, height = struct.unpack(">II", head[16:])
            self.assertGreater(min(width, height), 200)

    def test_same_bytes(self):
        """Another folder, another time and another matplotlibrc give the same pictures."""
        first, second = self.copy("first"), self.copy("second")
        rc = self.out / "matplotlibrc"
        rc.write_text("font.size: 25\nlines.linewidth: 9\naxes.grid: False\n")
        self.plot(first)
        self.plot(second, MATPLOTLIBRC=str(rc), SOURCE_DATE_EPOCH="1")
        for name in NAMES:
            self.assertEqual((first / "plots" / name).read_bytes(),
                             (second / "plots" / name).read_bytes(), name)

    def test_what_is_drawn(self):
        """Every number of the records is a point, in the colour of its precision."""
        run = results.read(self.made)
        trials = records(self.made).values()
        for name, field in VALUES.items():
            figure = FIGURES[name](run)
            drawn = sorted((line.get_color(), float(y)) for axis in figure.axes
                           for line in axis.lines if line.get_marker() in style.SIZES
                           for y in line.get_ydata())
            expected = sorted((style.LADDER[t["precision"]][0], t[field]) for t in trials
                              if t["task"] == TASK_OF.get(name, "profile"))
            style.close(figure)
            self.assertEqual(drawn, expected, name)

    def test_error_bars(self):
        """Ends of the bars: the Wilson interval, ppl (1 -+ nll_sem), and p10 and p90 as rates."""
        run = results.read(self.made)

        def ends(name):
            figure = FIGURES[name](run)
            bars = [segment[:, 1] for axis in figure.axes for bar in axis.collections
                    for segment in bar.get_segments()]
            style.close(figure)
            return np.array(sorted((float(low), float(high)) for low, high in bars))

        def expected(task, low, high):
            return np.array(sorted((low(t), high(t)) for t in records(self.made).values()
                                   if t["task"] == task))

        np.testing.assert_allclose(
            ends("passkey.png"), expected("passkey", lambda t: t["accuracy_ci_low"],
                                          lambda t: t["accuracy_ci_high"]), atol=1e-12)
        np.testing.assert_allclose(
            ends("ppl.png"), expected("ppl", lambda t: t["ppl"] * (1 - t["nll_sem"]),
                                      lambda t: t["ppl"] * (1 + t["nll_sem"])), rtol=1e-12)
        np.testing.assert_allclose(
            ends("prefill_throughput.png"),
            expected("profile", lambda t: t["context_length"] * 1000 / t["prefill_ms_p90"],
                     lambda t: t["context_length"] * 1000 / t["prefill_ms_p10"]), rtol=1e-9)

    def test_depths(self):
        figure = FIGURES["passkey_depth.png"](results.read(self.made))
        cells = [text.get_text().split("\n") for axis in figure.axes for text in axis.texts]
        style.close(figure)
        texts = [counts for counts, _ in cells]
        for counts, interval in cells:
            ends = paired.wilson(*map(int, counts.split("/")))
            self.assertEqual(interval, "{:.2f} to {:.2f}".format(*ends))
        right = sum(int(text.split("/")[0]) for text in texts)
        prompts = sum(int(text.split("/")[1]) for text in texts)
        passkeys = [t for t in records(self.made).values() if t["task"] == "passkey"]
        self.assertEqual(len(texts), 2 * len(passkeys))
        self.assertEqual(right, sum(t["n_correct"] for t in passkeys))
        self.assertEqual(prompts, sum(t["n_trials"] for t in passkeys))

    def test_missing_data(self):
        """Figures without data are left out, and what an earlier state left is removed."""
        run_dir = self.sweep_dir("--config", "configs/smoke.yaml", "--set", "sweep.tasks=passkey")
        (run_dir / "plots").mkdir()
        (run_dir / "plots/ppl.png").write_bytes(b"old")
        lines = self.plot(run_dir).stdout.splitlines()
        plots = f"{run_dir}/plots"
        self.assertEqual(lines[:8], [
            f"left out {plots}/ppl.png: no ppl trial in results.h5",
            f"left out {plots}/position.png: no ppl trial in results.h5",
            f"left out {plots}/fidelity.png: no fidelity trial in results.h5",
            f"left out {plots}/sensitivity.png: no ppl trial in results.h5",
            f"left out {plots}/sensitivity_kl.png: no fidelity trial in results.h5",
            f"left out {plots}/pareto.png: no ppl trial in results.h5",
            f"wrote {plots}/passkey.png",
            f"left out {plots}/passkey_depth.png: the prompts of this run have their key at one "
            "depth only"])
        self.assertEqual(lines[8], f"wrote {plots}/passkey_paired.png")
        self.assertEqual(lines[9:], [f"left out {plots}/{name}: no profile trial in results.h5"
                                     for name in NAMES[6:]] +
                         [f"left out {plots}/drift.png: no drift trial in results.h5"])
        self.assertEqual([path.name for path in sorted((run_dir / "plots").iterdir())],
                         ["passkey.png", "passkey_paired.png"])

    def test_failed_trials(self):
        some = self.sweep_dir("--config", "configs/smoke.yaml", "--set",
                              "model.null_script='oom@precision=bf16'", expect=3)
        figure = FIGURES["ppl.png"](results.read(some))
        texts = "\n".join(text.get_text() for text in figure.texts)
        style.close(figure)
        self.assertIn("1 ppl trial failed and is not drawn.", texts)
        every = self.sweep_dir("--config", "configs/smoke.yaml", "--set", "sweep.tasks=profile",
                               "--set", "model.null_script='oom@context>=1'", expect=3)
        self.assertIn("decode_memory.png: none of 4 profile trials in results.h5 finished with a "
                      "decode_peak_mem_mb\n", self.plot(every).stdout)

    def test_bad_input(self):
        absent = self.out / "absent"
        self.refused(absent, f"{absent}: no such run folder")
        run_dir = self.copy()
        path = run_dir / "results.h5"
        with h5py.File(path, "r+") as file:
            file.attrs["schema_version"] = np.int32(7)
        self.refused(run_dir, f"{path}: schema version 7; this program reads 1")
        with h5py.File(path, "r+") as file:
            del file.attrs["schema_version"]
        self.refused(run_dir, f"{path}: not a results file of ssmq: no attribute schema_version")
        path.write_bytes((self.made / "results.h5").read_bytes()[:5000])
        done = self.plot(run_dir, expect=2)
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertTrue(done.stderr.startswith(
            f"make_plots: {path}: not a whole results file of ssmq ("), done.stderr)
        path.unlink()
        self.refused(run_dir, f"{path}: no such file; 'ssmq merge {run_dir}' makes it from the "
                     "journals")
        self.assertFalse((run_dir / "plots").exists())

    def test_plots_folder_that_cannot_be_made(self):
        run_dir = self.copy()
        (run_dir / "plots").write_text("in the way")
        self.assertEqual(self.plot(run_dir, expect=1).stderr,
                         f"make_plots: {run_dir}/plots: File exists\n")


class Paired(MadeRun):
    def test_mcnemar(self):
        """By hand, against the sum over all outcomes as likely or less, and its symmetry."""
        for lost, gained, p in [(0, 0, 1), (1, 0, 1), (5, 0, 2 / 32), (0, 6, 2 / 64),
                                (8, 2, 2 * (1 + 10 + 45) / 1024), (3, 3, 1), (4, 3, 1)]:
            self.assertAlmostEqual(paired.mcnemar(lost, gained), p, places=15)
        for n in range(1, 40):
            counts = [math.factorial(n) // math.factorial(k) // math.factorial(n - k)
                      for k in range(n + 1)]
            for k in range(n + 1):
                expected = sum(count for count in counts if count <= counts[k]) / 2 ** n
                self.assertAlmostEqual(paired.mcnemar(k, n - k), expected, places=12)

    def test_wilson(self):
        """The interval solves its equation, and equals what the records hold."""
        for right, prompts in [(10, 10), (50, 50), (0, 4), (15, 20), (1, 3)]:
            for end in paired.wilson(right, prompts):
                residual = (right / prompts - end) ** 2 - paired.Z ** 2 * end * (1 - end) / prompts
                self.assertAlmostEqual(residual, 0, places=14)
        self.assertAlmostEqual(paired.wilson(10, 10)[0], 0.7225, places=4)
        for trial in records(self.made).values():
            if trial["task"] == "passkey":
                np.testing.assert_allclose(paired.wilson(trial["n_correct"], trial["n_trials"]),
                                           (trial["accuracy_ci_low"], trial["accuracy_ci_high"]),
                                           rtol=1e-13)

    def test_cells(self):
        """Pairs by place and key; lost and gained prompts counted apart."""
        base = {(64, 0, 0.5, i): (10.0 + i, right) for i, right in enumerate([1, 1, 1, 0, 0, 1])}
        other = {(64, 0, 0.5, i): (10.0 + i, right) for i, right in enumerate([1, 0, 0, 1, 0])}
        other[64, 0, 0.5, 5] = (99.0, 0)  # another prompt
        other[128, 0, 0.5, 0] = (10.0, 0)  # no partner
        found = paired.cells(base, other, paired.by_length)
        self.assertEqual(list(found), [64])
        cell = found[64]
        self.assertEqual((cell.prompts, cell.base_right, cell.right, cell.lost, cell.gained),
                         (5, 3, 2, 2, 1))
        self.assertAlmostEqual(cell.change, -0.2)
        self.assertEqual(cell.p, 1)
        self.assertTrue(cell.is_masked(0.5))
        self.assertFalse(cell.is_masked(0.2))  # 3 of 5: from 0.231
        same = paired.cells(base, base, paired.by_length_and_depth)[64, 0.5]
        self.assertEqual((same.lost, same.gained, same.change, same.p), (0, 0, 0, 1))

    def test_figure(self):
        """Every length of every other precision is a cell, masked or with what was counted."""
        run = results.read(self.made)
        trials = {(t["precision"], t["context_length"]): t for t in records(self.made).values()
                  if t["task"] == "passkey"}
        lengths = sorted({length for _, length in trials})
        texts = []
        for floor in (0.0, 1.0):
            for trial in run.trials:
                trial["accuracy_floor"] = floor
            figure = FIGURES["passkey_paired.png"](run)
            texts.append([text.get_text() for text in figure.axes[0].texts])
            style.close(figure)
        change = [(trials["w8a8", n]["n_correct"] - trials["bf16", n]["n_correct"])
                  / trials["bf16", n]["n_trials"] for n in lengths]
        self.assertEqual([float(text.split("\n")[0]) for text in texts[0]],
                         [round(value, 2) for value in change])
        self.assertEqual(texts[1], ["masked"] * len(lengths))
        for trial in run.trials:
            trial["baseline"] = "fp16"
        with self.assertRaisesRegex(results.NoData, "no finished passkey trial of the baseline fp16"):
            FIGURES["passkey_paired.png"](run)


class Templates(SweepTest):
    """Prompts of two templates in one run: never pooled, anywhere."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="ssmq-templates-")
        cls.addClassCleanup(cls.folder.cleanup)
        sweep = SweepTest("run")
        sweep.out = pathlib.Path(cls.folder.name)
        cls.made = sweep.sweep_dir(
            "--config", "configs/smoke.yaml", "--set", "model.device=cpu", "--set",
            "sweep.tasks=passkey", "--set", "passkey.prompt_template=[demo-1, ruler-niah-1]",
            "--set", "passkey.context_length=[160]", "--set", "passkey.depth=[0.1, 0.9]")
        cls.of = {(t["prompt_template_version"], t["precision"]): t
                  for t in records(cls.made).values()}

    def test_records(self):
        self.assertEqual(sorted(self.of), [(t, p) for t in ("demo-1", "ruler-niah-1")
                                           for p in ("bf16", "w8a8")])
        for precision in ("bf16", "w8a8"):
            # The demo knows the wording of its training and no other.
            demo, ruler = (self.of[t, precision] for t in ("demo-1", "ruler-niah-1"))
            self.assertEqual((demo["n_correct"], ruler["n_correct"]), (4, 0))
            for name in ("trial_id", "prompt_hash", "prompt_template_hash"):
                self.assertNotEqual(demo[name], ruler[name])
        text = self.ssmq("export", self.made, "--format", "md").stdout
        self.assertIn("| ruler-niah-1 | 160 | w8a8 | all | 0.000 |", text)
        plan = (self.made / "plan.csv").read_text().splitlines()
        self.assertEqual([line.split(",")[4] for line in plan],
                         ["prompt_template", *["demo-1"] * 2, *["ruler-niah-1"] * 2])

    def test_cube(self):
        for engine in ("h5netcdf", "netcdf4"):
            with xr.open_dataset(self.made / "results.h5", engine=engine) as data:
                for (template, precision), trial in self.of.items():
                    cell = data["accuracy"].sel(prompt_template=template, precision=precision,
                                                scope=trial["scope"], context=160, seed=0)
                    self.assertEqual(float(cell), trial["accuracy"])

    def test_figures_and_tables(self):
        run = results.read(self.made)
        figure = FIGURES["passkey.png"](run)
        self.assertEqual([axis.get_title("left") for axis in figure.axes],
                         ["demo-1", "ruler-niah-1"])
        for axis, expected in zip(figure.axes, (1.0, 0.0)):
            drawn = [float(y) for line in axis.lines if line.get_marker() in style.SIZES
                     for y in line.get_ydata()]
            self.assertEqual(drawn, [expected] * 2)
        style.close(figure)
        figure = FIGURES["passkey_depth.png"](run)
        found = {axis.get_title("left"): [text.get_text() for text in axis.texts]
                 for axis in figure.axes[:4]}
        style.close(figure)
        all_right, none = ["2/2\n0.34 to 1.00"] * 2, ["0/2\n0.00 to 0.66"] * 2
        self.assertEqual(found, {"bf16, demo-1": all_right, "w8a8, demo-1": all_right,
                                 "bf16, ruler-niah-1": none, "w8a8, ruler-niah-1": none})
        for template, right in (("demo-1", 4), ("ruler-niah-1", 0)):
            cell = verdict.passkey_cells(run, template)["w8a8"][160]
            self.assertEqual((cell.prompts, cell.base_right, cell.right), (4, right, right))
        text = report.write(run)
        self.assertIn("| ruler-niah-1 | 160 | w8a8 | all | 0 of 4 |", text)
        # 4 of 4 right: from 0.51.
        self.assertIn("| demo-1: 160 (all that the baseline holds); ruler-niah-1: not judged", text)
        self.assertIn("demo-1 prompts hold up to 160 tokens, all that the baseline holds; no length of "
                      "ruler-niah-1 prompts could be judged, ", text)


class Readers(MadeRun):
    """results.h5 in the tools that the README names."""

    def test_xarray(self):
        for engine in ("h5netcdf", "netcdf4"):
            with xr.open_dataset(self.made / "results.h5", engine=engine) as data:
                self.assertEqual(data["ppl"].dims,
                                 ("protocol", "precision", "scope", "context", "seed"))
                self.assertEqual(data["prefill_ms"].attrs["units"], "ms")
                for trial in records(self.made).values():
                    if trial["task"] != "ppl":
                        continue
                    cell = data["ppl"].sel(protocol=trial["protocol"], scope=trial["scope"],
                                           precision=trial["precision"], seed=trial["seed"],
                                           context=trial["seq_len"])
                    self.assertEqual(float(cell), trial["ppl"])

    def test_readme(self):
        """The README's example does what it says."""
        text = (ROOT / "README.md").read_text(encoding="utf-8")
        blocks = [part.split("```")[0] for part in text.split("```python\n")[1:]]
        code = [block for block in blocks if "xr.open_dataset" in block]
        self.assertEqual(len(code), 1)
        names, printed = {}, io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code[0].replace("runs/RUN_ID", str(self.made)), names)
        names["cube"].close()
        by_id = records(self.made)
        for trial in by_id.values():
            if trial["task"] == "ppl":
                self.assertIn(f"{trial['ppl']:.4f}"[:6], printed.getvalue())
        self.assertEqual(len(names["trials"]), len(by_id))
        profiles = [t for t in by_id.values() if t["task"] == "profile"]
        self.assertEqual(sorted(float(np.median(steps)) for steps in names["steps"]),
                         sorted(t["decode_ms"] for t in profiles))
        self.assertEqual(names["config"], (self.made / "config_resolved.yaml").read_text())

    def test_pandas(self):
        with h5py.File(self.made / "results.h5") as file:
            frame = pd.DataFrame(file["table/trials"][:])
        by_id = records(self.made)
        self.assertEqual(sorted(frame["trial_id"].str.decode("utf-8")), sorted(by_id))
        for _, row in frame.iterrows():
            trial = by_id[row["trial_id"].decode()]
            self.assertEqual(row["status"].decode(), trial["status"])
            if trial["accuracy"] is not None:
                self.assertEqual(row["accuracy"], trial["accuracy"])


if __name__ == "__main__":
    unittest.main()
