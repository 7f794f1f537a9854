# SPDX-License-Identifier: Apache-2.0
"""ssmq plan --simulate: the schedule of a whole study, without ranks and without weights."""
import csv
import io
import re
import unittest

from sweep_support import SweepTest

PHASE1 = ["plan", "--config", "configs/phase1.yaml", "--set", "model.path=random:mamba2-2.7b",
          "--device", "cuda"]
N_CLASSES = 1544  # precisions and scopes
N_TRIALS = 12 * N_CLASSES + 8  # drift of the 8 precisions alone


class Simulate(SweepTest):
    def simulated(self, *arguments):
        """Rows of the ranks, and the numbers of the summary."""
        done = self.ssmq(*PHASE1, "--simulate", *arguments)
        rows = [{name: float(value) for name, value in row.items()}
                for row in csv.DictReader(io.StringIO(done.stdout))]
        number = r"([-\d.e+]+)"
        says = re.search(rf"makespan +{number} s, {number} % over the lower bound of {number} s",
                         done.stderr)
        us = re.search(rf"scheduler +{number} us a trial", done.stderr)
        return rows, [float(text) for text in says.groups()], float(us[1])

    def test_near_the_bound(self):
        for n_ranks in (1, 8, 64, 1024):
            with self.subTest(ranks=n_ranks):
                rows, (makespan_s, over, bound_s), us = self.simulated("--ranks", n_ranks)
                self.assertEqual([row["rank"] for row in rows], list(range(n_ranks)))
                self.assertEqual(sum(row["trials"] for row in rows), N_TRIALS)
                self.assertGreaterEqual(sum(row["loads"] for row in rows), N_CLASSES)
                ends = [row["trial_s"] + row["load_s"] for row in rows]
                self.assertAlmostEqual(max(ends) / makespan_s, 1.0, places=4)
                for row, end in zip(rows, ends):
                    self.assertAlmostEqual(row["idle_s"], makespan_s - end, delta=makespan_s * 1e-4)
                    self.assertAlmostEqual(row["idle_share"], 1 - end / makespan_s, places=3)
                self.assertGreaterEqual(makespan_s, bound_s * (1 - 1e-5))
                self.assertAlmostEqual(over, 100 * (makespan_s / bound_s - 1), delta=0.01)
                self.assertLess(over, 3.0)
                self.assertLess(us, 50.0)

    def test_wrong_estimates(self):
        """Durations that no estimate knows cost little, and are the same for the same seed."""
        first = self.simulated("--ranks", 64, "--error", 3)[:2]
        self.assertEqual(self.simulated("--ranks", 64, "--error", 3, "--seed", 0)[:2], first)
        other = self.simulated("--ranks", 64, "--error", 3, "--seed", 1)[:2]
        self.assertNotEqual(other, first)
        for _, (_, over, _) in (first, other):
            self.assertLess(over, 3.0)

    def test_refusals(self):
        for arguments, says in [
                (["--error", "2"], "--error goes with --simulate"),
                (["--simulate", "--seed", "2"], "--seed goes with --error"),
                (["--simulate", "--error", "0.5"], "--error"),
                (["--simulate", "--ranks", "0"], "--ranks")]:
            done = self.ssmq(*PHASE1, *arguments, expect=2)
            self.assertEqual(done.stdout, "")
            self.assertIn(says, done.stderr)
            self.assertEqual(len(done.stderr.splitlines()), 1)


if __name__ == "__main__":
    unittest.main()
