# SPDX-License-Identifier: Apache-2.0
"""One call after another goes wrong: every write, fsync, rename, mkdir and open of a sweep fails, is
cut short or is the last thing the process does, and every piece of memory it asks for is refused. No
fault may lose a trial or leave a run that the same command does not finish.

All points of the disk are taken; of memory every MEMORY_STEPth, or with SSMQ_INJECT_ALL=1 each."""
import os
import pathlib
import shutil
import signal
import subprocess
import unittest

from sweep_support import BIN, ROOT, SweepTest, acknowledged, records

LIBRARY = pathlib.Path(os.environ["SSMQ_BUILD"]) / "tests/e2e/libinject.so"
# Two trials of the null engine: every kind of file is written, few points are passed twice.
SMALL = ["--config", "configs/smoke.yaml", "--set", "sweep.tasks=[ppl]",
         "--set", "ppl.seq_len=[256]"]
DOCUMENTED = {0, 1, 2, 3, 4}
MEMORY_STEP = 1 if os.environ.get("SSMQ_INJECT_ALL") == "1" else 7


class Inject(SweepTest):
    def setUp(self):
        super().setUp()
        self.out.mkdir(parents=True)
        self.mark = self.out.parent / "mark"
        self.whole = self.sweep_dir(*SMALL, "--run-id", "whole", ranks=0)
        self.run = self.out / "run"

    def run_with(self, fault, at):
        """Exit code of a fresh run with the fault at that point; None if it ended before."""
        shutil.rmtree(self.run, ignore_errors=True)
        self.mark.unlink(missing_ok=True)
        environment = dict(os.environ, LD_PRELOAD=str(LIBRARY), SSMQ_INJECT=fault,
                           SSMQ_INJECT_AT=str(at), SSMQ_INJECT_DIR=str(self.run),
                           SSMQ_INJECT_MARK=str(self.mark))
        command = [str(BIN / "ssmq-sweep"), "--out", str(self.out), *SMALL, "--run-id", "run"]
        self.done = subprocess.run(command, cwd=ROOT, env=environment, text=True, timeout=120,
                                   capture_output=True)
        return self.done.returncode if self.mark.exists() else None

    def check_left(self, what):
        """What the run left is whole, and the same command ends like an undisturbed run."""
        before = acknowledged(self.run)
        if (self.run / "results.h5").exists():
            self.assert_readable(self.run)
        self.sweep(*SMALL, "--run-id", "run", "--retry-failed", ranks=0)
        self.assertLessEqual(before, acknowledged(self.run), what)
        self.assert_readable(self.run)
        self.assert_same_results(self.run, self.whole)
        self.assertEqual({r["status"] for r in records(self.run).values()}, {"ok"}, what)
        left = [p.name for p in self.run.iterdir() if p.name.endswith(".tmp")]
        self.assertEqual(left, [], what)

    def every_point(self, fault, step=1):
        """Each point until the run is over before it; returns how many there were."""
        at = 1
        while True:
            code = self.run_with(fault, at)
            if code is None:
                self.assertEqual(self.done.returncode, 0, self.done.stderr)
                return at - 1
            what = f"{fault} at point {at}: exit {code}\n{self.done.stderr}"
            if fault == "kill":
                self.assertEqual(code, -signal.SIGKILL, what)
            else:
                self.assertIn(code, DOCUMENTED, what)
                self.assertTrue(code == 0 or self.done.stderr.strip(), what)
            self.check_left(what)
            at += step

    def test_input_output_errors(self):
        self.assertGreater(self.every_point("eio"), 30)

    def test_full_disk(self):
        self.assertGreater(self.every_point("enospc"), 30)

    def test_short_writes(self):
        self.assertGreater(self.every_point("short"), 8)

    def test_killed_at_every_point(self):
        self.assertGreater(self.every_point("kill"), 30)

    def test_no_memory(self):
        self.assertGreater(self.every_point("nomem", MEMORY_STEP), 50)


if __name__ == "__main__":
    unittest.main()
