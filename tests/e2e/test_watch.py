# SPDX-License-Identifier: Apache-2.0
"""ssmq show --watch beside a sweep of the null engine."""
import re
import unittest

from sweep_support import SweepTest, acknowledged, records, wait_for

NULL = ["--config", "configs/smoke.yaml"]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class Watch(SweepTest):
    def test_watch(self):
        """Every second until the end: what each rank is at, and for how long."""
        sweep = self.start(*NULL, "--set", "model.null_script='delay:400ms,oom@precision=w8a8'",
                           "--run-id", "watched", ranks=2)
        run = self.out / "watched"
        self.assertTrue(wait_for(lambda: acknowledged(run)))
        blocks = self.ssmq("show", run, "--watch", "1").stdout
        self.assertEqual(sweep.wait(timeout=120), 3)
        found = records(run)
        keys = {record["trial_key"] for record in found.values()}
        *seen, last = re.split(r"^(?=\d{4}-\d\d-\d\dT)", blocks, flags=re.M)[1:]
        n_oom = sum(record["status"] == "oom" for record in found.values())
        self.assertRegex(last, rf"Z complete: {len(found)}/{len(found)} trials, "
                               rf"{len(found) - n_oom} ok, {n_oom} oom\n$")
        self.assertGreater(len(seen), 1, blocks)
        done = []
        for block in seen:
            head, *ranks = block.splitlines()
            state = re.search(r" running: (\d+)/(\d+) trials(?:, \d+ ok)?(?:, \d+ oom)?, (\d) of 2 "
                              r"ranks at work, about (\?|\d\S*) left$", head)
            self.assertTrue(state, block)
            done.append(int(state[1]))
            self.assertEqual(int(state[2]), len(found))
            self.assertEqual(int(state[3]), len(ranks), block)
            for line in ranks:
                rank = re.fullmatch(r"  rank ([01]) +(\d+)s  (.*)", line)
                self.assertTrue(rank, block)
                self.assertLess(int(rank[2]), 60)
                self.assertIn(rank[3], keys)
        self.assertEqual(done, sorted(done))
        self.assertLess(done[0], len(found))
        before = contents(run)
        self.assertRegex(self.ssmq("show", run, "--watch", "60").stdout, "Z complete: ")
        self.assertEqual(contents(run), before)
        # What a killed sweep was at is in flight no more.
        part = self.sweep_dir(*NULL, "--only", "task=ppl", "--run-id", "part")
        self.assertRegex(self.ssmq("show", part, "--watch", "1").stdout,
                         f"Z stopped early: .* ok; ssmq-sweep --resume {part} goes on\n$")


if __name__ == "__main__":
    unittest.main()
