# SPDX-License-Identifier: Apache-2.0
"""Real sweeps of the embedded model on the CPU engine: the same bits whatever ranks and order."""
import csv
import io
import shutil
import unittest
from collections import Counter

from sweep_support import ROOT, SweepTest, fixed_part, records

SMALL = ["--config", "configs/quickstart.yaml",
         "--set", "sweep.precisions=[fp32, bf16, w8a8]",
         "--set", "ppl.seq_len=[256]", "--set", "ppl.max_tokens=1300",
         "--set", "passkey.context_length=[128, 256]", "--set", "passkey.depth=[0.2, 0.8]",
         "--set", "passkey.n_trials=2",
         "--set", "profile.context_length=[64]", "--set", "profile.gen_len=4",
         "--set", "profile.n_warmup=1", "--set", "profile.n_measure=2",
         "--set", "model.device=cpu"]


class SameResults(SweepTest):
    def test_ranks_order_and_threads(self):
        one = self.sweep_dir(*SMALL, ranks=1)
        self.assertGreater(len(fixed_part(one)), 8)
        self.assertEqual({r["status"] for r in records(one).values()}, {"ok"})
        self.assert_readable(one)
        for ranks, extra in [(2, []), (3, []), (2, ["--set", "sweep.order=shuffled"]),
                             (0, ["--set", "model.threads=1"])]:
            with self.subTest(ranks=ranks, extra=extra):
                run = self.sweep_dir(*SMALL, *extra, ranks=ranks)
                self.assert_same_but_for_sweep(one, run)
                self.assertRegex((run / "sweep.log").read_text(),
                                 rf"{max(ranks, 1)} ranks worked [\d.]+ s in all and waited [\d.]+ s "
                                 r"for trials, \d+\.\d\d %; rank \d most")

    def assert_same_but_for_sweep(self, run_a, run_b):
        self.assert_same_results(run_a, run_b)

    def test_batch_size_changes_nothing(self):
        only = ["--only", "task=ppl,passkey and precision=bf16"]
        one = self.sweep_dir(*SMALL, *only, "--set", "ppl.batch_size=1",
                             "--set", "passkey.batch_size=1")
        many = self.sweep_dir(*SMALL, *only, "--set", "ppl.batch_size=4",
                              "--set", "passkey.batch_size=4")
        a, b = fixed_part(one), fixed_part(many)
        self.assertEqual(sorted(a), sorted(b))
        for key in a:
            a[key].pop("batch_size")
            b[key].pop("batch_size")
            self.assertEqual(a[key], b[key])

    def test_merge_is_reproducible(self):
        run = self.sweep_dir(*SMALL, "--only", "task=ppl")
        first = {name: (run / name).read_bytes() for name in ("results.h5", "metrics.jsonl")}
        self.ssmq("merge", run)
        for name, content in first.items():
            self.assertEqual((run / name).read_bytes(), content, name)

    def test_resolved_configuration_reproduces_the_run(self):
        run = self.sweep_dir(*SMALL, "--only", "task=ppl")
        again = self.sweep_dir("--config", run / "config_resolved.yaml", "--only", "task=ppl")
        self.assertNotEqual(run, again)
        self.assert_same_results(run, again)


QUANTIZED = ["w8a8", "w4a8", "w4a4", "w8a8-fp8", "w8a16", "w4a16"]
LAYERS = 8  # of the embedded model
SCOPES = {"all", *(f"{kind}:{layer}.{projection}" for kind in ("only", "except")
                   for layer in range(LAYERS) for projection in ("in_proj", "out_proj"))}


class Layers(SweepTest):
    """The sweeps over layers: what they hold, and that shared layers are computed once."""

    def plan(self, *arguments):
        text = self.ssmq("plan", "--device", "cpu", *arguments).stdout
        return list(csv.DictReader(io.StringIO(text)))

    def assert_phase1(self, rows):
        points = Counter((row["task"], row["precision"], row["scope"]) for row in rows)
        expected = {(task, precision, scope): n
                    for task, n in (("ppl", 3), ("fidelity", 3), ("passkey", 6), ("drift", 1))
                    for precision, scope in [("fp16", "none"), ("bf16", "none"),
                                             *((q, scope) for q in QUANTIZED for scope in SCOPES)]
                    if task != "drift" or scope in ("all", "none")}
        self.assertEqual(points, expected)
        self.assertEqual({row["skip"] for row in rows}, {""})

    def test_phase1(self):
        self.assert_phase1(self.plan("--config", "configs/phase1.yaml"))
        other = self.out / "model"
        shutil.copytree(ROOT / "configs/demo", other)
        rows = self.plan("--config", "configs/phase1.yaml", "--set", f"model.path={other}")
        self.assert_phase1(rows)
        passkey = [row["trial_key"] for row in rows if row["task"] == "passkey"]
        self.assertIn("/template=landmark-1/", passkey[-1])

    def test_phase1_of_the_demo(self):
        rows = self.plan("--config", "configs/phase1_demo.yaml")
        self.assertEqual({row["skip"] for row in rows}, {""})
        lengths = {row["context_length"] for row in rows if row["task"] == "passkey"}
        self.assertEqual(len(lengths), 7)
        whole = Counter((row["task"], row["precision"]) for row in rows
                        if row["scope"] in ("all", "none"))
        self.assertEqual(whole, {(task, precision): n for task, n in
                                 (("ppl", 3), ("fidelity", 1), ("passkey", 7), ("drift", 1))
                                 for precision in ("fp16", "bf16", "w8a8", "w4a8", "w4a4")})
        single = Counter((row["task"], row["precision"]) for row in rows
                         if row["scope"] not in ("all", "none"))
        self.assertEqual(single, {("ppl", q): len(SCOPES) - 1 for q in ("w8a8", "w4a8", "w4a4")})

    def test_sensitivity(self):
        run = self.sweep_dir("--config", "configs/sensitivity.yaml", "--set", "model.device=cpu",
                             "--set", "ppl.seq_len=[256]", "--set", "ppl.stride=0",
                             "--set", "ppl.max_tokens=512")
        found = list(records(run).values())
        self.assertEqual({record["status"] for record in found}, {"ok"})
        self.assertEqual(Counter((r["precision"], r["scope"]) for r in found),
                         Counter([("bf16", "none"), *((q, scope) for q in ("w8a8", "w4a4")
                                                      for scope in SCOPES)]))
        share = sum(record["reused_share"] for record in found) / len(found)
        self.assertGreater(share, 0.40)


if __name__ == "__main__":
    unittest.main()
