# SPDX-License-Identifier: Apache-2.0
"""analysis/make_report.py, and the figures fidelity.png and pareto.png, on a small run of the demo:
what they say is compared with metrics.jsonl, which neither reads, and with what is computed here.
Needs the packages of analysis/requirements.txt."""
from analysis_python import ROOT  # before the packages that it finds

import math
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

import h5py
import numpy as np

from sweep_support import SweepTest, records
from ssmq_plots import (causes, fidelity, paired, pareto, position, report, results,
                        sensitivity, style, tables, verdict)

GRID = ["--config", "configs/smoke.yaml", "--set", "model.device=cpu", "--set", "model.threads=1",
        "--set", "sweep.tasks=[ppl, passkey, profile, fidelity]",
        "--set", "sweep.precisions=[bf16, w8a8, w4a4]", "--set",
        'sweep.scopes=[all, "only:0.out_proj", "only:3.out_proj"]', "--set",
        "ppl.protocols=[sliding, stream]", "--set", "ppl.seq_len=[64]", "--set", "ppl.stride=48",
        "--set", "ppl.max_tokens=257", "--set", "passkey.control=true", "--set",
        "passkey.context_length=[96]", "--set", "profile.context_length=[64]"]


def column(text, title, name):
    """Cells of a column of a section's first table, with its first cells as keys."""
    lines = text.split(f"\n## {title}\n")[1].split("\n## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line[:1] == "|"]
    at = rows[0].index(name)
    return [row[at] for row in rows[2:] if len(row) == len(rows[0])]


class Report(SweepTest):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="ssmq-report-")
        cls.addClassCleanup(cls.folder.cleanup)
        sweep = SweepTest("run")
        sweep.out = pathlib.Path(cls.folder.name)
        cls.made = sweep.sweep_dir(*GRID, "--run-id", "made")

    def make(self, run_dir, expect=0):
        done = subprocess.run(
            [sys.executable, "-B", str(ROOT / "analysis/make_report.py"), "--run_dir",
             str(run_dir)], cwd=self.folder.name, text=True, timeout=120,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, expect, done.stdout + done.stderr)
        return done

    def text(self, run_dir=None):
        self.make(run_dir or self.made)
        return ((run_dir or self.made) / "report.md").read_text(encoding="utf-8")

    def whole(self, task):
        return [t for t in records(self.made).values() if t["task"] == task
                and not t["scope"].startswith("only:")]

    def test_tables_are_the_records(self):
        text = self.text()
        for task, title, name, field, digits in [
                ("ppl", "Perplexity", "perplexity (95 %)", "ppl", 6),
                ("ppl", "Perplexity", "tokens", "n_tokens", 6),
                ("fidelity", "Fidelity", "KL mean (95 %)", "kl_mean", 4),
                ("fidelity", "Fidelity", "Δp RMS", "delta_p_rms", 4),
                ("fidelity", "Fidelity", "same top (95 %)", "same_top_share", 4),
                ("passkey", "Passkey", "accuracy (95 %)", "accuracy", 3),
                ("passkey", "Passkey", "digits", "digit_accuracy", 3),
                ("profile", "Profile", "decode tokens/s", "decode_tokens_per_s", 4)]:
            with self.subTest(task=task, field=field):
                expected = sorted(tables.number(t[field], digits) for t in self.whole(task))
                got = sorted(cell.split(" (")[0] for cell in column(text, title, name))
                self.assertEqual(got, expected)
        for trial in self.whole("passkey"):
            self.assertIn(f"{trial['n_correct']} of {trial['n_trials']}",
                          column(text, "Passkey", "right"))

    def test_protocol_and_provenance(self):
        text = self.text()
        protocol = text.split("\n## Protocol\n")[1]
        for trial in records(self.made).values():
            for name in ("text_sha256", "tokenizer_sha256", "model_sha256", "prompt_hash",
                         "prompt_template_hash", "numerics_version"):
                self.assertIn(trial[name], protocol)
            if trial["task"] in ("ppl", "fidelity"):
                stride = f", stride {trial['stride']}" if trial["stride"] else ""
                self.assertIn(f"seq_len {trial['seq_len']}{stride}: {trial['n_tokens']} tokens "
                              f"scored in {trial['n_windows']} windows", protocol)
        self.assertIn("--run-id made", protocol)
        with h5py.File(self.made / "results.h5") as file:
            for name in ("git_commit", "compiler", "mpi", "hdf5", "created_utc"):
                self.assertIn(f"| {name} | `{file['provenance'][name][()].decode()}` |", protocol)
        settings = [line for line in (self.made / "config_resolved.yaml").read_text().splitlines()
                    if not line.lstrip().startswith("#")]
        self.assertIn("\n".join(settings), protocol)

    def test_where_it_breaks(self):
        """The ratio, its interval and the first projection, from the windows themselves."""
        run = results.read(self.made)
        trials = [t for t in run.of_task("ppl") if t["protocol"] == "sliding"]
        base = next(t for t in trials if t["precision"] == "bf16")
        for precision in ("w8a8", "w4a4"):
            mine = {t["scope"]: t for t in trials if t["precision"] == precision}
            ratio, low, high, what = verdict.ppl_ratio(run, precision)
            delta = mine["all"]["nll_mean"] - base["nll_mean"]
            self.assertAlmostEqual(ratio, math.exp(delta), delta=1e-12)
            differences = (run.series("nll_window", mine["all"])
                           - run.series("nll_window", base))
            places = np.random.Generator(np.random.PCG64(sensitivity.SEED)).integers(
                0, len(differences), (sensitivity.DRAWS, len(differences)))
            tokens = run.series("nll_window_tokens", base)
            self.assertGreater(len(set(tokens)), 1)  # the first window scores more than others
            self.assertEqual(tokens.sum(), base["n_tokens"])
            ends = np.percentile([sum(differences[place] * tokens[place]) / sum(tokens[place])
                                  for place in places], [2.5, 97.5])
            np.testing.assert_allclose((low, high), np.exp(ends), rtol=1e-12)
            self.assertEqual(what, "sliding 64")
            singles = {s[5:]: t["nll_mean"] for s, t in mine.items() if s != "all"}
            first = verdict.first_to_go(run, precision)
            self.assertEqual(first.name, max(singles, key=singles.get))
            row = next(line for line in self.text().splitlines()
                       if line.startswith(f"| {precision} |"))
            self.assertIn(f" {tables.interval(ratio, low, high, 5)}; sliding 64 ", row)
            self.assertIn(f" {first.name}, ", row)
        self.assertEqual(verdict.added_nll(run, base, trials), (0.0, 0.0, 0.0))

    def test_sentences(self):
        """One a precision below the table, of the numbers that the table has; then with a drift trial,
        and with outcomes of prompts put in."""
        run = results.read(self.made)
        lines = {line.split("**")[1]: line for line in self.text().splitlines()
                 if line.startswith("- **")}
        self.assertEqual(list(lines), ["w8a8", "w4a4"])
        for name, line in lines.items():
            ratio = verdict.ppl_ratio(run, name)
            ends = [verdict.first_to_go(run, name, m) for m in ("nll", "kl")]
            word = "rises" if ratio[1] > 1 else "is not resolved from no change"
            self.assertIn(f": perplexity {word}, {tables.interval(*ratio[:3], 5)} times that of bf16 "
                          "(sliding 64); ", line)
            self.assertIn(f"; first to go is {ends[0].name} (", line)
            self.assertIn(f" and by KL {ends[1].name} ({tables.number(ends[1].value, 3)} (", line)
            self.assertTrue(line.endswith(" (not run: drift)."), line)
        self.assertIn("perplexity rises", lines["w4a4"])

        def says(cells, **drift):
            trial = dict(run.trials[0], task="drift", status="ok", precision="w4a4", scope="all",
                         context_length=8192, drift_verdict="resolved", drift_error_final=0.25,
                         drift_exponent=0.5, drift_exponent_ci_low=0.25, drift_exponent_ci_high=0.75)
            run.trials = [t for t in run.trials if t["task"] != "drift"] + [dict(trial, **drift)]
            return verdict.sentence(run, "w4a4", "bf16", cells and {"demo-1": cells}, 0.45)

        before = np.ones(20)
        cells = {64: paired.Cell(before, before),
                 128: paired.Cell(before, np.array([1] * 8 + [0] * 12))}
        text = says(cells)
        self.assertIn("; passkey prompts hold up to 64 tokens, broken at 128, where 0.4 (0.22 to "
                      "0.61) are right and 12 of 20 are lost; ", text)
        self.assertTrue(text.endswith("; the state's error grows, as tokens to the power of 0.5 (0.25 "
                                      "to 0.75), to 0.25 after 8192 tokens."), text)
        text = says({64: cells[64]}, drift_exponent_ci_low=-0.25)
        self.assertIn("; passkey prompts hold up to 64 tokens, all that the baseline holds; ", text)
        self.assertIn("; the state's error is not resolved from constant, as tokens ", text)
        self.assertIn("; no length of passkey prompts is held, broken at 128", says({128: cells[128]}))
        self.assertIn("; the state's error after 8192 tokens, 0.25, is not resolved from the floor.",
                      says({}, drift_verdict="not resolved").replace(" (not run: context)", ""))
        low = {64: paired.Cell(before * 0, before * 0)}
        self.assertIn("; no length of passkey prompts could be judged, ", says(low))

    def test_ranking_by_kl(self):
        """Of fidelity trials: the records' own means, and intervals of their own windows."""
        run = results.read(self.made)
        found = sensitivity.groups(run, "kl")
        self.assertEqual({(g.precision, g.protocol) for g in found},
                         {(p, name) for p in ("w8a8", "w4a4") for name in ("sliding", "stream")})
        text = self.text()
        for group in found:
            mine = {t["scope"]: t for t in run.of_task("fidelity")
                    if (t["precision"], t["protocol"]) == (group.precision, group.protocol)}
            ranked = sorted((s for s in mine if s != "all"), key=lambda s: -mine[s]["kl_mean"])
            self.assertEqual([f"only:{e.layer}.{e.module}" for e in group.only], ranked)
            for effect in group.only:
                trial = mine[f"only:{effect.layer}.{effect.module}"]
                self.assertEqual(effect.delta, trial["kl_mean"])
                # The programs' own bootstrap has other draws.
                width = trial["kl_mean_ci_high"] - trial["kl_mean_ci_low"]
                self.assertAlmostEqual(effect.low, trial["kl_mean_ci_low"], delta=0.2 * width)
                self.assertAlmostEqual(effect.high, trial["kl_mean_ci_high"], delta=0.2 * width)
            self.assertEqual(group.whole.delta, mine["all"]["kl_mean"])
            self.assertIn(f"{group.precision}, {group.protocol} 64, seed 0: the worst 2 of 2 "
                          "projections by KL to the baseline (nat a token). Sum of single effects "
                          f"{tables.number(sum(mine[s]['kl_mean'] for s in ranked))}; ", text)
        figure = sensitivity.draw_kl(run)
        drawn = sorted(patch.get_height() for axis in figure.axes for patch in axis.patches)
        style.close(figure)
        self.assertEqual(drawn, sorted(e.delta for g in found for e in g.only))

    def test_same_bytes(self):
        first = self.text()
        copy = pathlib.Path(shutil.copytree(self.made, self.out / "copy"))
        self.assertEqual(self.text(copy), first)

    def test_what_is_missing(self):
        """Sections without data say why; failed trials are listed with their reasons."""
        run_dir = self.sweep_dir("--config", "configs/smoke.yaml", "--set", "sweep.tasks=profile",
                                 "--set", "model.null_script='oom@precision=w8a8'", expect=3)
        text = self.text(run_dir)
        for title, task in (("Perplexity", "ppl"), ("Fidelity", "fidelity"),
                            ("Passkey", "passkey"), ("Drift", "drift")):
            self.assertIn(f"\n## {title}\n\nNothing: no {task} trial in results.h5.\n", text)
        self.assertEqual(column(text, "Trials that are not ok", "reason"),
                         ["null script: out of memory at 0 tokens"] * 2)
        self.assertEqual(column(text, "Where each precision breaks", "drift exponent (95 %)"), ["-"])

    def test_faults(self):
        absent = self.out / "absent"
        self.assertEqual(self.make(absent, expect=2).stderr,
                         f"make_report: {absent}: no such run folder\n")
        copy = pathlib.Path(shutil.copytree(self.made, self.out / "copy"))
        (copy / "report.md").mkdir()
        self.assertRegex(self.make(copy, expect=1).stderr, "^make_report: .*: Is a directory\n$")
        self.assertEqual([p.name for p in copy.iterdir() if p.name.endswith(".tmp")], [])

    def test_drift(self):
        """Rows of drift trials, and what the verdict says of a resolved and of another one."""
        run = results.read(self.made)
        names = ("error_final", "error_final_ci_low", "error_final_ci_high", "injected_error_final",
                 "floor", "exponent", "exponent_ci_low", "exponent_ci_high", "n_resolved",
                 "n_heads", "worst_layer")
        for precision, is_resolved in (("w8a8", False), ("w4a4", True)):
            trial = dict(next(t for t in run.trials if t["precision"] == precision
                              and t["scope"] == "all"))
            trial.update({f"drift_{name}": 0.5 + place for place, name in enumerate(names)})
            trial.update(task="drift", context_length=8192, drift_path="prefill",
                         drift_verdict="resolved" if is_resolved else "not resolved")
            run.trials.append(trial)
        text = report.write(run)
        self.assertEqual(column(text, "Drift", "exponent (95 %)"), ["5.5 (6.5 to 7.5)"] * 2)
        self.assertEqual(column(text, "Where each precision breaks", "drift exponent (95 %)"),
                         ["not resolved", "5.5 (6.5 to 7.5) at 8192"])

    def test_causes(self):
        """Errors of the state add as squares; a part of another setting is none."""
        run = results.read(self.made)
        with self.assertRaises(results.NoData):
            causes.find(run)
        like = dict(next(t for t in run.trials if t["precision"] == "w8a8"
                         and t["scope"] == "all"), task="drift", context_length=8192,
                    drift_path="prefill")
        for name, w_format, a_format, error in (("w8a8", "int8", "int8", 0.6),
                                                ("w4a4", "int8", "float", 0.3),
                                                ("bf16", "float", "int8", 0.4)):
            run.trials.append(dict(like, precision=name, w_format=w_format, a_format=a_format,
                                   group_size=0, drift_error_final=error))
        run.trials.append(dict(run.trials[-3], w_format="int4"))
        found = causes.find(run)
        self.assertEqual([(c.precision, c.weights, c.activations, c.state, c.whole) for c in found],
                         [("w8a8", 0.3, 0.4, None, 0.6)])
        self.assertAlmostEqual(found[0].together, 0.5)
        self.assertAlmostEqual(found[0].interaction, 0.1)
        self.assertEqual(column(report.write(run), "What it comes from", "expected of all"), ["0.5"])
        # With a state of its own, which is a part; one of another rounding is not.
        whole = next(t for t in run.trials if t["task"] == "drift" and t["precision"] == "w8a8")
        stored = dict(whole, precision="w4a4", state_dtype="int8", drift_error_final=1.5)
        alone = dict(stored, precision="bf16", scope="none", w_format="float", a_format="float",
                     group_size=None, drift_error_final=1.2)
        run.trials += [stored, dict(alone, state_rounding="stochastic")]
        self.assertEqual(len(causes.find(run)), 1)
        run.trials.append(alone)
        found = causes.find(run)[1]
        self.assertEqual((found.precision, found.weights, found.activations, found.state, found.whole),
                         ("w4a4", 0.3, 0.4, 1.2, 1.5))
        self.assertAlmostEqual(found.together, 1.3)
        self.assertEqual(column(report.write(run), "What it comes from", "state alone"), ["-", "1.2"])
        for trial in (stored, alone):
            run.trials.remove(trial)
        run.trials.pop()
        run.trials[-2]["context_length"] = 4096
        with self.assertRaises(results.NoData):
            causes.find(run)

    def test_positions(self):
        """Each bucket's mean from the stream's own tokens, and the difference to the baseline's."""
        run = results.read(self.made)
        done = self.ssmq("score", "--model", "configs/demo", "--text", "configs/demo/demo-text.txt",
                         "--max-tokens", 257, "--precision", "bf16", "--seq-len", 64)
        nll = {int(at): float(x) for at, _, x in map(str.split, done.stdout.splitlines())}
        base = next(t for t in run.of_task("ppl") if t["protocol"] == "stream"
                    and t["precision"] == "bf16")
        places, means, widths = position.buckets(run, base)
        self.assertEqual(places, [1, 2, 4, 8, 16, 32, 64, 128, 256])
        # Only positions 128 to 255 lie in two of the calls of 64 tokens.
        self.assertEqual([width > 0 for width in widths], [first == 128 for first in places])
        halves = np.array([[nll[t] for t in range(first, first + 64)] for first in (128, 192)])
        spread = np.abs(np.diff(halves.mean(axis=1)))[0] / 2  # of the mean of two
        self.assertAlmostEqual(widths[7], paired.Z * spread, delta=1e-5)
        for first, mean in zip(places, means):
            mine = [nll[t] for t in range(first, min(2 * first, 257))]
            self.assertAlmostEqual(mean, sum(mine) / len(mine), delta=1e-6)
        figure = position.draw(run)
        drawn = [line for line in figure.axes[1].lines if line.get_marker() in style.SIZES]
        trials = [t for t in run.of_task("ppl") if t["protocol"] == "stream"
                  and t["scope"] == "all"]
        self.assertEqual(len(drawn), len(trials))
        for trial, line in zip(sorted(trials, key=lambda t: t["precision"], reverse=True), drawn):
            expected = np.array(position.buckets(run, trial)[1]) - np.array(means)
            np.testing.assert_allclose(np.array(line.get_ydata(), float), expected, atol=1e-5)
            self.assertGreater(position.added(run, trial, base)[2][7], 0.0)
        style.close(figure)
        run.trials[:] = run.of_task("ppl")
        found = position.added(run, trial, base)
        np.testing.assert_allclose(found[1], expected, atol=1e-12)
        self.assertEqual(set(found[2]), {0.0})

    def test_figures(self):
        run = results.read(self.made)
        figure = fidelity.draw(run)
        drawn = sorted(float(y) for line in figure.axes[0].lines for y in line.get_ydata()
                       if line.get_marker() in style.SIZES and line.get_marker() != "x")
        texts = "\n".join(text.get_text() for text in figure.texts)
        style.close(figure)
        trials = [t for t in self.whole("fidelity") if t["protocol"] == "sliding"]
        self.assertEqual(drawn, sorted(t["kl_mean"] for t in trials if t["kl_max"] > 0))
        self.assertIn("Exactly 0, as it must be: bf16.", texts.replace("\n", " "))
        for trial in run.of_task("fidelity"):
            trial["kl_max"] = 0.0
        with self.assertRaisesRegex(results.NoData, "differs from its baseline bf16"):
            fidelity.draw(run)
        trials = [t for t in run.of_task("ppl") if t["protocol"] == "sliding"]
        found = pareto.points(run, trials)
        self.assertEqual(len(found), len(trials))
        best = pareto.front(found)
        for point in found:
            is_beaten = any(p.bits <= point.bits and p.delta <= point.delta
                            and (p.bits, p.delta) != (point.bits, point.delta) for p in found)
            self.assertEqual(point in best, not is_beaten)
        figure = pareto.draw(run)
        places = {(float(x), float(y)) for line in figure.axes[0].lines
                  for x, y in zip(line.get_xdata(), line.get_ydata())}
        style.close(figure)
        for point in found:
            self.assertIn((point.bits, point.delta), places)


class Verdicts(unittest.TestCase):
    def test_holm(self):
        """By hand: 0.01 * 3, 0.02 * 2, then never smaller than before it."""
        got = verdict.holm({"a": 0.02, "b": 0.01, "c": 0.03})
        self.assertEqual({name: round(p, 12) for name, p in got.items()},
                         {"b": 0.03, "a": 0.04, "c": 0.04})
        self.assertEqual(verdict.holm({}), {})
        self.assertEqual(verdict.holm({"a": 0.6, "b": 0.9}), {"a": 1.0, "b": 1.0})

    def test_held(self):
        def cell(base, right):
            """base of 20 right before, of which `right` stay right."""
            before = np.array([1] * base + [0] * (20 - base))
            after = np.array([1] * right + [0] * (20 - right))
            return paired.Cell(before, after)

        cases = [
            ({64: (20, 20), 128: (20, 19)}, 128, "128 (all that the baseline holds)"),
            # From 17 of 20 on, the interval of the precision itself is the limit (0.64, 0.53).
            ({64: (20, 20), 128: (20, 8), 256: (20, 20)}, 64,
             "64 (at 128: 8 of 20 right, 12 lost, 0 gained, p 0.0015)"),
            ({64: (20, 3)}, None, "none (at 64: 3 of 20 right, 17 lost, 0 gained, p 1.5e-05)"),
            # Where the baseline has nothing to lose, nothing is judged.
            ({64: (20, 20), 128: (5, 0)}, 64, "64 (all that the baseline holds)"),
            ({64: (5, 5)}, None, "not judged: the baseline is below the floor"),
            # A loss that no test can call chance, though the interval reaches the floor.
            ({64: (20, 14)}, None, "none (at 64: 14 of 20 right, 6 lost, 0 gained, p 0.031)"),
        ]
        for counts, length, text in cases:
            with self.subTest(counts=counts):
                cells = {n: cell(*pair) for n, pair in counts.items()}
                held = verdict.Held(cells, 0.45)
                self.assertEqual((held.length, held.text()), (length, text))

    def test_numbers(self):
        self.assertEqual([tables.number(x) for x in (None, math.nan, 3, 0.123456, 123456.7)],
                         ["-", "-", "3", "0.1235", "123457"])
        self.assertEqual(tables.interval(1.5, None, None), "1.5")
        self.assertEqual(tables.interval(1.5, 1.25, 2.0), "1.5 (1.25 to 2)")
        self.assertEqual(tables.table(["a"], [["x|y\nz"]]), "| a |\n|---|\n| x\\|y z |")


if __name__ == "__main__":
    unittest.main()
