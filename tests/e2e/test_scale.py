# SPDX-License-Identifier: Apache-2.0
"""Runs with many finished trials: merge, resume and show take time and memory in proportion to them,
and lose none. Journals come from fill_run, which writes what a sweep would have written.

The numbers of a long run, on a machine without other work:
    SSMQ_SCALE_TRIALS=100000 python3 tests/e2e/test_scale.py -v Scale.test_long_run
merges 100,000 trials in less than 2 s and is ready to resume in less than 3 s."""
import json
import os
import pathlib
import resource
import subprocess
import time
import unittest

from sweep_support import BIN, ROOT, SweepTest, crc32c

BUILD = pathlib.Path(os.environ.get("SSMQ_BUILD", BIN.parent))
# 50 scopes and precisions at 40 windows: trials for each seed.
TRIALS_A_SEED = 2000
GRID = ["--config", "configs/smoke.yaml", "--device", "null", "--set", "sweep.tasks=ppl",
        "--set", "ppl.protocols=disjoint", "--set", f"ppl.seq_len={list(range(512, 552))}",
        "--set", "ppl.max_tokens=4096",
        "--set", "sweep.precisions=[w8a8, w4a8, w4a4, w8a16, w4a16]",
        "--set", "sweep.scopes=[all, 'only:each.in_proj', 'except:0']",
        "--only", "seed=0 and context_length=512 and precision=w8a8 and scope=all"]


class Scale(SweepTest):
    def measured(self, *command):
        """Output, seconds of processor, seconds, and MB of the largest process."""
        begin = time.monotonic()
        process = subprocess.Popen([str(part) for part in command], cwd=ROOT, text=True,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = process.communicate(timeout=300)
        seconds = time.monotonic() - begin
        self.assertEqual(process.returncode, 0, out + err)
        return out + err, seconds

    def cost(self, *command):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        text, seconds = self.measured(*command)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return text, cpu, seconds

    def peak_mb(self, *command):
        """Alone in a child, whose largest child it then is."""
        script = ("import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, "
                  "stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL); "
                  "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)")
        text, _ = self.measured("python3", "-c", script, *command)
        return float(text)

    def filled(self, n_seeds, n_files=8):
        """A run folder whose trials are all finished."""
        run = self.sweep_dir(*GRID, "--set", f"sweep.seed={list(range(n_seeds))}", "--run-id",
                             f"run{n_seeds}", ranks=0)
        self.measured(BUILD / "tests/e2e/fill_run", run, n_files)
        return run

    def check_run(self, run, n_trials):
        merged, cpu, seconds = self.cost(BIN / "ssmq", "merge", run)
        self.assertIn(f"{n_trials} of {n_trials} trials finished, 0 failed", merged)
        plan = [line.split(",", 2)[1] for line in (run / "plan.csv").read_text().splitlines()[1:]]
        self.assertEqual(len(plan), n_trials)
        with open(run / "metrics.jsonl", encoding="utf-8") as file:
            self.assertEqual([json.loads(line)["trial_id"] for line in file], plan)
        return cpu, seconds

    def test_costs_are_linear(self):
        small, large = self.filled(1), self.filled(5)
        start = self.cost(BIN / "ssmq", "--version")[1]
        costs = [self.check_run(run, n)[0] - start
                 for run, n in [(small, TRIALS_A_SEED), (large, 5 * TRIALS_A_SEED)]]
        # Five times the trials; what grows with their square would cost 25 times as much.
        self.assertLess(costs[1], 12 * max(costs[0], 0.02), costs)
        before = (large / "metrics.jsonl").read_bytes(), (large / "results.h5").read_bytes()
        self.check_run(large, 5 * TRIALS_A_SEED)
        after = (large / "metrics.jsonl").read_bytes(), (large / "results.h5").read_bytes()
        self.assertEqual(before, after)
        said = self.sweep("--resume", large, ranks=0).stderr
        self.assertIn(f"0 trials to do, {5 * TRIALS_A_SEED} done before", said)
        # An entry of the journals and a line of the plan a trial; no record of it.
        peaks = [self.peak_mb(BIN / "ssmq", "merge", run) for run in (small, large)]
        # Libraries take some, and under a sanitizer most memory is its own.
        if peaks[0] - self.peak_mb(BIN / "ssmq", "--version") < 100:
            self.assertLess(peaks[1] - peaks[0], 20, peaks)
            grids = [self.peak_mb(BIN / "ssmq-sweep", *GRID[:-2], "--set",
                                  f"sweep.seed={list(range(n))}", "--dry-run") for n in (1, 50)]
            self.assertLess(grids[1] - grids[0], 40, grids)

    def test_foreign_lines(self):
        """Records in another form of JSON go the slow way to the same results."""
        run = self.filled(1, n_files=1)
        self.check_run(run, TRIALS_A_SEED)
        expected = (run / "metrics.jsonl").read_bytes()
        results = (run / "results.h5").read_bytes()
        path = run / "journal.1.jsonl"
        lines = path.read_bytes().splitlines(keepends=True)
        n_changed = 0
        for i, line in enumerate(lines[:400]):
            body = line.rsplit(b',"crc"', 1)[0]
            other = body.replace(b'"run_id": ', b'"run_id":  ', 1)
            n_changed += other != body
            lines[i] = other + b',"crc":"%08x"}\n' % crc32c(other)
        self.assertEqual(n_changed, 200)
        path.write_bytes(b"".join(lines))
        self.check_run(run, TRIALS_A_SEED)
        self.assertEqual((run / "metrics.jsonl").read_bytes(), expected)
        self.assertEqual((run / "results.h5").read_bytes(), results)

    @unittest.skipUnless("SSMQ_SCALE_TRIALS" in os.environ, "SSMQ_SCALE_TRIALS is not set")
    def test_long_run(self):
        n_seeds = int(os.environ["SSMQ_SCALE_TRIALS"]) // TRIALS_A_SEED
        n_trials = n_seeds * TRIALS_A_SEED
        run = self.filled(n_seeds)
        merges = [self.check_run(run, n_trials)[1] for _ in range(3)]
        begin = time.monotonic()
        sweep = subprocess.Popen([str(BIN / "ssmq-sweep"), "--resume", str(run)], cwd=ROOT,
                                 text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for line in sweep.stderr:
            if "trials to do" in line:
                break
        resume = time.monotonic() - begin
        sweep.communicate(timeout=300)
        peak_mb = self.peak_mb(BIN / "ssmq", "merge", run)
        sweep_mb = self.peak_mb(BIN / "ssmq-sweep", "--resume", run)
        print(f"\n{n_trials} trials: merge {min(merges):.2f} s (of {len(merges)}), ready to resume "
              f"after {resume:.2f} s; at most {peak_mb:.0f} MB merging, {sweep_mb:.0f} MB resuming")
        if n_trials <= 100000:
            self.assertLess(min(merges), 2.0)
            self.assertLess(resume, 3.0)


if __name__ == "__main__":
    unittest.main()
