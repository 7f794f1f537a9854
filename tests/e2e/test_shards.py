# SPDX-License-Identifier: Apache-2.0
"""A grid in shards, each a sweep and a run folder of its own, and the folders as one."""
import csv
import json
import re
import shutil
import unittest

from sweep_support import SweepTest, crc32c, fixed_part, records

# Classes of like weights, and trials of unlike cost.
GRID = ["--config", "configs/smoke.yaml", "--set", "model.device=null", "--set",
        "sweep.precisions=[fp16, bf16, w8a8, w4a8]", "--set", "ppl.stride=64", "--set", "sweep.tasks=[ppl, passkey]",
        "--set", "ppl.seq_len=[64, 128, 256, 512]"]


class ShardsTest(SweepTest):
    def shard(self, text, *more, expect=0, run_id=None):
        run_id = run_id or "shard" + text.replace("/", "of")
        self.sweep(*GRID, "--shard", text, "--run-id", run_id, *more, ranks=0, expect=expect)
        return self.out / run_id

    def merge(self, into, *runs, expect=0):
        return self.ssmq("merge", "--into", into, *runs, expect=expect)

    def test_shards_share_the_grid_out(self):
        whole = self.sweep_dir(*GRID, "--run-id", "whole", ranks=0)
        with (whole / "plan.csv").open() as file:
            cost = {row["trial_id"]: float(row["cost_s"]) for row in csv.DictReader(file)}
        for n in (1, 2, 3):
            runs = [self.shard(f"{i}/{n}") for i in range(n)]
            ids = [set(records(run)) for run in runs]
            self.assertEqual(sum(map(len, ids)), len(cost))
            self.assertEqual(set.union(*ids), set(cost))
            # Of like duration, but for the longest trial.
            sums = [sum(cost[trial_id] for trial_id in part) for part in ids]
            self.assertLess(max(sums) - min(sums), 1.01 * max(cost.values()))
            into = self.out / f"all{n}"
            self.merge(into, *runs)
            self.assertEqual(fixed_part(into), fixed_part(whole))
            self.assert_readable(into)

    def test_missing_shard_is_resumed_from_the_merged_folder(self):
        first, last = self.shard("0/3"), self.shard("2/3")
        into = self.out / "all"
        done = self.merge(into, first, last)
        n_done = len(records(first)) + len(records(last))
        self.assertIn(f"{n_done} of ", done.stdout)
        self.sweep("--resume", into, ranks=2)
        whole = self.sweep_dir(*GRID, "--run-id", "whole", ranks=0)
        self.assertEqual(fixed_part(into), fixed_part(whole))
        provenance = json.loads((into / "provenance.json").read_text())
        self.assertEqual(provenance["facts"]["run_id"], "all")
        shards = [session["argv"][session["argv"].index("--shard") + 1]
                  for session in provenance["sessions"] if "--shard" in session["argv"]]
        self.assertEqual(shards, ["0/3", "2/3"])
        self.assertEqual(len(provenance["sessions"]), 3)
        # Once more, with what has come since: the same trials, in order.
        self.merge(into, first, last, self.shard("1/3"))
        self.assertEqual(fixed_part(into), fixed_part(whole))
        again = json.loads((into / "provenance.json").read_text())
        self.assertEqual(again["sessions"][:3], provenance["sessions"])
        self.assertEqual(len(again["sessions"]), 4)

    def test_interrupted_merge_goes_on(self):
        runs = [self.shard("0/2"), self.shard("1/2")]
        into = self.out / "all"
        into.mkdir()
        shutil.copy(runs[0] / "plan.csv", into)
        done = self.ssmq("show", into, expect=0)
        self.assertIn("0 of ", done.stdout)
        self.merge(into, *runs)
        self.assertEqual(len(records(into)), len(records(runs[0])) + len(records(runs[1])))

    def test_refuses(self):
        first = self.shard("0/2")
        for text in ("2/2", "-1/2", "0/0", "0/65537", "1", "1/2/3", "a/b", "00/2", " 0/2"):
            done = self.sweep(*GRID, "--shard", text, ranks=0, expect=2)
            self.assertIn(f"--shard: '{text}' is no shard", done.stderr)
        into = self.out / "all"
        self.assertIn("what goes into", self.merge(into, expect=2).stderr)
        self.assertIn("no such run folder", self.merge(into, self.out / "none", expect=2).stderr)
        other = self.out / "other"
        self.sweep(*GRID, "--shard", "1/2", "--run-id", "other", "--set", "ppl.max_tokens=600",
                   ranks=0)
        done = self.merge(into, first, other, expect=2)
        self.assertIn("another configuration", done.stderr)
        self.assertIn("ppl.max_tokens", done.stderr)
        self.assertFalse(into.exists())
        text = self.out / "text"
        text.write_text("A text. " * 3000)
        again = [*GRID, "--shard", "0/2", "--set", f"ppl.text={text}"]
        for run_id in ("before", "after"):
            self.sweep(*again, "--run-id", run_id, ranks=0)
            text.write_text("Another text. " * 3000)
        done = self.merge(into, self.out / "before", self.out / "after", expect=2)
        self.assertRegex(done.stderr, r"after: text_sha256 is \w{64}, in \S+before it is \w{64}")
        (into / "mine").mkdir(parents=True)
        self.assertIn("neither empty nor a run", self.merge(into, first, expect=2).stderr)

    def test_conflict_is_found(self):
        """The same trial, with another result in the second folder."""
        first = self.shard("0/2")
        other = self.out / "other"
        shutil.copytree(first, other)
        journal = other / "journal.0.jsonl"
        lines = journal.read_text().splitlines(keepends=True)
        at = next(i for i, line in enumerate(lines) if '"nll_sum": ' in line and
                  '"nll_sum": null' not in line)
        changed = re.sub(r'("nll_sum": )[^,]*', r"\g<1>1.5", lines[at])
        body = changed[:changed.rindex(',"crc":')]
        lines[at] = f'{body},"crc":"{crc32c(body.encode()):08x}"}}\n'
        journal.write_text("".join(lines))
        done = self.merge(self.out / "all", first, other, expect=2)
        self.assertRegex(done.stderr, r"different results of ppl/.*: nll_sum is \S+ and 1.5")
        self.assertFalse((self.out / "all").exists())


if __name__ == "__main__":
    unittest.main(verbosity=2)
