# SPDX-License-Identifier: Apache-2.0
"""Sweeps of hosts whose clocks jump, whose file systems show files late, or on which a sweep died:
they end like an undisturbed one."""
import os
import pathlib
import signal
import subprocess
import unittest

from sweep_support import (BIN, MPIRUN, ROOT, SweepTest, children_of, fixed_part, kill, records,
                           wait_for)

LIBRARY = pathlib.Path(os.environ["SSMQ_BUILD"]) / "tests/e2e/libodd_host.so"
SMALL = ["--config", "configs/smoke.yaml", "--set", "model.device=null"]


class OddHosts(SweepTest):
    def setUp(self):
        super().setUp()
        self.whole = self.sweep_dir(*SMALL, "--run-id", "whole", ranks=0)

    def two_ranks(self, run_id, *odd, expect=0, delay="0"):
        """odd: {variable: value} of rank 0 and of rank 1."""
        command = list(MPIRUN)
        for rank, variables in enumerate(odd):
            command += [":"] * (rank > 0) + ["-np", "1", "env", f"LD_PRELOAD={LIBRARY.resolve()}"]
            command += [f"{name}={value}" for name, value in variables.items()]
            command += [str(BIN / "ssmq-sweep"), *SMALL, "--out", str(self.out), "--run-id", run_id,
                        "--set", f"model.null_script=delay:{delay}ms"]
        done = subprocess.run(command, cwd=ROOT, text=True, timeout=120, capture_output=True)
        self.assertEqual(done.returncode, expect, done.stdout + done.stderr)
        return self.out / run_id, done.stderr

    def assert_undisturbed(self, run_dir):
        self.assert_readable(run_dir)
        mine, whole = fixed_part(run_dir), fixed_part(self.whole)
        self.assertEqual(sorted(mine), sorted(whole))

    def test_clock_jumps(self):
        for jump_s in (86400, -3600, -10**9):
            run_dir, _ = self.two_ranks(f"jump{jump_s}", {"SSMQ_CLOCK_JUMP_S": jump_s},
                                        {"SSMQ_CLOCK_JUMP_S": -jump_s}, delay="10")
            self.assert_undisturbed(run_dir)
            self.assertEqual({r["status"] for r in records(run_dir).values()}, {"ok"})
        self.assertIn("199", {r["started_utc"][:3] for r in records(run_dir).values()})

    def test_journal_shows_late(self):
        """The root does not see the other rank's journal before the sweep is over."""
        run_dir, said = self.two_ranks("late", {"SSMQ_HIDDEN": "journal.1.jsonl",
                                                "SSMQ_HIDDEN_MS": 4000}, {}, delay="50")
        self.assertIn("journals show", said)
        self.assert_undisturbed(run_dir)
        self.assertEqual({r["rank"] for r in records(run_dir).values()}, {0, 1})

    def test_stale_lock(self):
        """What a killed sweep left; and a lock that somebody still holds."""
        slow = [*SMALL, "--run-id", "locked", "--set", "model.null_script=delay:200ms"]
        holder = self.start(*slow, ranks=0)
        run_dir = self.out / "locked"
        self.assertTrue(wait_for(lambda: list(run_dir.glob("journal.0.jsonl"))))
        done = self.sweep(*slow, ranks=0, expect=1)
        self.assertIn("another sweep is working on this run folder", done.stderr)
        for pid in [*children_of(holder.pid), holder.pid]:
            kill(pid)
        holder.wait()
        self.assertEqual(holder.returncode, -signal.SIGKILL)
        self.assertTrue((run_dir / "lock").read_text())
        self.sweep(*slow, ranks=0)
        self.assert_undisturbed(run_dir)


if __name__ == "__main__":
    unittest.main(verbosity=2)
