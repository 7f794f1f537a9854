# SPDX-License-Identifier: Apache-2.0
"""Scripted faults of the null engine, limits and signals: outcomes, exit codes, resuming."""
import collections
import json
import os
import signal
import subprocess
import unittest

from sweep_support import BIN, ROOT, SweepTest, acknowledged, records, wait_for

NULL = ["--config", "configs/smoke.yaml"]


def script(text):
    return ["--set", f"model.null_script='{text}'"]


def statuses(run):
    return collections.Counter(record["status"] for record in records(run).values())


class Faults(SweepTest):
    def test_without_faults(self):
        run = self.sweep_dir(*NULL, ranks=2)
        self.assertEqual(set(statuses(run)), {"ok"})
        self.assert_readable(run)

    def test_failed_trials_are_records(self):
        for fault, status in [("oom", "oom"), ("nan", "nonfinite"), ("device", "device_error"),
                              ("skip", "skipped")]:
            with self.subTest(fault=fault):
                run = self.sweep_dir(*NULL, *script(f"{fault}@precision=bf16"), ranks=2,
                                     expect=0 if fault == "skip" else 3)
                for record in records(run).values():
                    wanted = status if record["precision"] == "bf16" else "ok"
                    self.assertEqual(record["status"], wanted)
                    if wanted != "ok":
                        self.assertNotEqual(record["status_reason"], "")
                        self.assertIsNone(record["ppl"])

    def test_retry_failed(self):
        run = self.sweep_dir(*NULL, *script("oom@precision=bf16"), expect=3)
        failed = statuses(run)["oom"]
        self.assertGreater(failed, 0)
        again = self.sweep("--resume", run, expect=3)
        self.assertIn(f"{failed} failed", again.stderr)
        self.sweep("--resume", run, "--retry-failed", expect=3)
        self.assertEqual(statuses(run)["oom"], failed)
        self.assertEqual({r["attempt"] for r in records(run).values() if r["status"] == "oom"}, {2})

    def test_lost_device_retires_its_rank(self):
        run = self.sweep_dir(*NULL, *script("poison@reset=2"), ranks=3, expect=1)
        self.assertEqual(statuses(run)["device_lost"], 3)
        self.sweep("--resume", run, ranks=3, expect=1)
        self.assertEqual(statuses(run)["device_lost"], 6)

    def test_timeout(self):
        run = self.sweep_dir(*NULL, *script("delay:400ms@precision=bf16"), "--set",
                             "sweep.max_trial_s=0.2", expect=3)
        self.assertGreater(statuses(run)["timeout"], 0)
        self.assertGreater(statuses(run)["ok"], 0)

    def test_crash_is_left_alone_after_two(self):
        faulty = [*NULL, *script("segv@precision=bf16"), "--run-id", "crash"]
        run = self.out / "crash"
        n_planned = None
        for _ in range(60):
            command = self.command(["--out", self.out, *faulty], 1)
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
            if done.returncode == 3:
                break
            self.assertNotEqual(done.returncode, 0)
        n_planned = len((run / "plan.csv").read_text().splitlines()) - 1
        counts = statuses(run)
        self.assertEqual(counts["ok"] + counts["crashed"], n_planned)
        for record in records(run).values():
            self.assertEqual(record["status"], "crashed" if record["precision"] == "bf16" else "ok")

    def test_fail_fast_and_max_failures(self):
        everything = len(records(self.sweep_dir(*NULL)))
        first = self.sweep_dir(*NULL, *script("oom@context>=1"), "--fail-fast", expect=3)
        self.assertLess(len(records(first)), everything)
        some = self.sweep_dir(*NULL, *script("oom@context>=1"), "--max-failures", 2, expect=3)
        self.assertEqual(len(records(some)), 2)

    def test_time_limit_and_signal_are_resumable(self):
        slow = script("delay:100ms")
        run = self.sweep_dir(*NULL, *slow, "--time-limit", 0.3, expect=4)
        self.sweep("--resume", run, *["--time-limit", 0.3], expect=4)
        whole = self.sweep_dir(*NULL, *slow, ranks=2)
        self.sweep("--resume", run, "--time-limit", 1000, ranks=3)
        self.assert_same_results(run, whole)
        process = self.start(*NULL, *slow, "--run-id", "signalled", ranks=1)
        run = self.out / "signalled"
        self.assertTrue(wait_for(lambda: len(acknowledged(run)) > 0))
        os.killpg(process.pid, signal.SIGUSR1)
        self.assertEqual(process.wait(timeout=60), 4)
        self.sweep(*NULL, *slow, "--run-id", "signalled", ranks=2)
        self.assert_same_results(run, whole)

    def test_only_part_of_the_grid(self):
        run = self.sweep_dir(*NULL, "--only", "task=ppl and precision!=bf16")
        self.assertEqual({r["task"] for r in records(run).values()}, {"ppl"})
        self.assertNotIn("bf16", {r["precision"] for r in records(run).values()})
        self.sweep("--resume", run)
        self.assert_same_results(run, self.sweep_dir(*NULL))

    def test_leftovers_of_a_killed_merge_go(self):
        run = self.sweep_dir(*NULL)
        (run / "results.h5.4711.tmp").write_text("half")
        (run / "notes.txt").write_text("mine")
        self.sweep("--resume", run)
        self.assertFalse((run / "results.h5.4711.tmp").exists())
        self.assertTrue((run / "notes.txt").exists())

    def test_dry_run_writes_nothing(self):
        done = self.sweep(*NULL, "--dry-run", ranks=2)
        self.assertTrue(done.stdout.startswith("trial_idx,trial_id,task"))
        self.assertFalse(self.out.exists())


class Records(SweepTest):
    def test_metrics_have_every_field(self):
        run = self.sweep_dir(*NULL)
        from sweep_support import KINDS
        for line in (run / "metrics.jsonl").read_text().splitlines():
            record = json.loads(line)
            self.assertEqual(list(record), list(KINDS))
            for name in ("run_id", "trial_id", "git_commit", "host", "model_name", "dtype",
                         "device", "quant_backend", "engine_version", "started_utc"):
                self.assertTrue(record[name], name)
        self.assertTrue((BIN / "ssmq").exists())


if __name__ == "__main__":
    unittest.main()
