# SPDX-License-Identifier: Apache-2.0
"""The ranking of projections and the plan of bits: against numbers computed here from the records,
against a plan that is run, and on twenty checkpoints whose weak spot is known because it was put
there. Needs the packages of analysis/requirements.txt."""
from analysis_python import ROOT  # before the packages that it finds

import concurrent.futures
import json
import random
import shutil
import struct
import subprocess
import sys
import unittest

import h5py
import numpy as np

from sweep_support import SweepTest, records
from ssmq_plots import results, sensitivity

SMALL = ["--config", "configs/sensitivity.yaml", "--set", "model.device=cpu", "--set",
         "sweep.precisions=[bf16, w4a4]", "--set", "ppl.seq_len=[256]", "--set",
         "ppl.stride=128"]
SCOPES = ["--set", 'sweep.scopes=[all, "only:each.out_proj", "except:each.out_proj"]']
N_SEEDS = 20


def plant(folder, seed):
    """A copy of the demo in which a column of one projection is 2^8 as large and the norm before it
    takes that back: the same model to the last bit, but a scale for each row is now too coarse for
    the other weights. Returns (layer, module)."""
    draw = random.Random(seed)
    shutil.copytree(ROOT / "configs/demo", folder)
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    size = struct.unpack("<Q", data[:8])[0]
    entries = json.loads(data[8:8 + size])
    layer, module, norm = (draw.randrange(8), *draw.choice([("in_proj", "norm"),
                                                            ("out_proj", "mixer.norm")]))
    prefix, column = f"backbone.layers.{layer}.", None
    for name, factor in ((f"mixer.{module}", 256.0), (norm, 1 / 256.0)):
        entry = entries[f"{prefix}{name}.weight"]
        begin, end = (8 + size + at for at in entry["data_offsets"])
        bits = np.frombuffer(data[begin:end], dtype="<u2").astype(np.uint32) << 16
        weights = bits.view(np.float32).reshape(entry["shape"]).copy()
        column = draw.randrange(weights.shape[-1]) if column is None else column
        weights[..., column] *= factor
        data[begin:end] = (weights.view(np.uint32) >> 16).astype("<u2").tobytes()
    path.write_bytes(data)
    return layer, module


class Effects(SweepTest):
    def plan(self, *arguments, expect=0):
        done = subprocess.run([sys.executable, "-B", str(ROOT / "analysis/plan_bits.py"),
                               *map(str, arguments)], cwd=ROOT, text=True, capture_output=True,
                              timeout=120)
        self.assertEqual(done.returncode, expect, done.stdout + done.stderr)
        return done

    def test_ranking_and_plan(self):
        run_dir = self.sweep_dir(*SMALL, *SCOPES, "--set", "ppl.max_tokens=2048")
        group, = sensitivity.groups(results.read(run_dir))
        by_scope = {t["scope"]: t for t in records(run_dir).values()}
        base = by_scope["none"]
        expected = sorted(((by_scope[f"only:{i}.out_proj"]["nll_mean"] - base["nll_mean"], i)
                           for i in range(8)), reverse=True)
        self.assertEqual([(e.delta, e.layer) for e in group.only], expected)
        gains = {i: by_scope["all"]["nll_mean"] - by_scope[f"except:{i}.out_proj"]["nll_mean"]
                 for i in range(8)}
        for effect in group.spared:
            self.assertAlmostEqual(effect.delta, gains[effect.layer], delta=1e-12)
        self.check_intervals(run_dir, group)
        self.check_plan(run_dir, base, expected)

    def check_intervals(self, run_dir, group):
        """Each end by a loop over the draws; and the null: a trial against itself is exactly 0."""
        with h5py.File(run_dir / "results.h5") as file:
            scopes = [s.decode() for s in file["table/trials"]["scope"]]
            series = file["samples/nll_window"]
            ends = np.cumsum(series["row_size"][:])
            rows = {scopes[row]: part for row, part in
                    zip(series["trial"][:], np.split(series["values"][:], ends[:-1]))}
        for effect in group.only[:2]:
            differences = rows[f"only:{effect.layer}.out_proj"] - rows["none"]
            generator = np.random.Generator(np.random.PCG64(sensitivity.SEED))
            places = generator.integers(0, len(differences),
                                        (sensitivity.DRAWS, len(differences)))
            means = sorted(sum(differences[i] for i in draw) / len(differences) for draw in places)
            for end, tail in ((effect.low, 0.025), (effect.high, 0.975)):
                at = tail * (len(means) - 1)
                below = int(at)
                wanted = means[below] + (at - below) * (means[below + 1] - means[below])
                self.assertAlmostEqual(end, wanted, delta=1e-12)
        self.assertEqual(sensitivity.interval(rows["all"] - rows["all"]), (0.0, 0.0))

    def check_plan(self, run_dir, base, expected):
        """The four least harmful out_proj, which the sweep of the written file runs."""
        out = self.out / "plan.yaml"
        spared = 16 - records(run_dir)[base["trial_id"]]["storage_bits"]
        self.assertEqual(spared, 0)
        step = 16 - next(t["storage_bits"] for t in records(run_dir).values()
                         if t["scope"] == "only:0.out_proj")
        done = self.plan("--run_dir", run_dir, "--precision", "w4a4", "--bits",
                         f"{16 - 3.5 * step:.6f}", "--out", out)
        self.assertIn(f"| 1 | {expected[0][1]}.out_proj |", done.stdout)
        planned = self.sweep_dir(*SMALL, "--config", out, "--set", "ppl.max_tokens=2048")
        trials = {t["scope"]: t for t in records(planned).values()}
        chosen = [t for scope, t in trials.items() if scope.startswith("only:")]
        self.assertEqual(len(chosen), 1)
        self.assertAlmostEqual(chosen[0]["storage_bits"], 16 - 4 * step, delta=1e-9)
        single = sum(delta for delta, _ in expected[4:])
        self.assertLess(abs(chosen[0]["nll_mean"] - base["nll_mean"] - single), 0.5 * single)
        self.assertIn("even with all of w4a4", self.plan(
            "--run_dir", run_dir, "--precision", "w4a4", "--bits", 2, expect=2).stderr)
        self.assertIn("no single modules of w8a8", self.plan(
            "--run_dir", run_dir, "--precision", "w8a8", expect=2).stderr)

    def planted_run(self, seed):
        """(layer, module), and the run of a planted checkpoint."""
        folder = self.out.parent / f"planted-{seed}"
        planted = plant(folder, seed)
        run_dir = self.sweep_dir(
            *SMALL, "--set", f"model.path={folder}", "--set", "model.threads=1", "--set",
            "sweep.tasks=fidelity", "--set", "sweep.precisions=[bf16, w8a8]", "--set",
            'sweep.scopes=["only:each.in_proj", "only:each.out_proj"]', "--set",
            "ppl.seq_len=[32]", "--set", "ppl.stride=0", "--set", "ppl.max_tokens=96", ranks=0)
        shutil.rmtree(folder)
        return planted, results.read(run_dir)

    def test_planted_faults_are_first(self):
        """In 20 of 20, among both projections of every layer, by the NLL added and by KL; by KL apart
        from the second. Unquantized all twenty are the demo."""
        totals = set()
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for seed, (planted, run) in enumerate(pool.map(self.planted_run, range(N_SEEDS))):
                totals |= {t["nll_sum"] for t in run.trials if t["scope"] == "none"}
                for measure in sensitivity.NAMES:
                    with self.subTest(seed=seed, measure=measure):
                        group, = sensitivity.groups(run, measure)
                        first, second = group.only[:2]
                        self.assertEqual(len(group.only), 16)
                        self.assertEqual((first.layer, first.module), planted)
                        self.assertGreater(first.delta, 2 * second.delta)
                        if measure == "kl":
                            self.assertGreater(first.low, 10 * second.high)
        self.assertEqual(len(totals), 1)


if __name__ == "__main__":
    unittest.main()
