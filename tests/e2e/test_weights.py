# SPDX-License-Identifier: Apache-2.0
"""How a checkpoint reaches the ranks of one host.

    test_weights.py [cuda]

With cuda, which needs a GPU: by NCCL between ranks of several GPUs, from host memory for ranks that
share one. Several hosts: test_hosts.py."""
import json
import os
import subprocess
import sys
import unittest

from sweep_support import BIN, ROOT, SweepTest

SKIPPED = 77  # exit status where there is no GPU
# All that the cuda engine keeps of the checkpoint is there in these tasks too.
ARGUMENTS = ["--config", str(ROOT / "configs/smoke.yaml"), "--set", "sweep.tasks=ppl"]


def last_weights(run_dir):
    return json.loads((run_dir / "provenance.json").read_text())["sessions"][-1]["weights"]


class Cpu(SweepTest):
    def test_ranks_of_one_host_map_the_files(self):
        for ranks in (1, 2):
            weights = last_weights(self.sweep_dir(*ARGUMENTS, ranks=ranks))
            nothing = {"reason": "", "bytes": 0, "seconds": 0, "gb_per_s": 0}
            self.assertEqual(weights["hosts"], {"way": "files", **nothing})
            self.assertEqual(weights["gpus"], {"way": "none", **nothing})

    def test_missing_model_ends_all_ranks(self):
        done = self.sweep(*ARGUMENTS, "--set", "model.path=/no/such/model", ranks=2, expect=2)
        self.assertIn("/no/such/model", done.stderr)


class Cuda(SweepTest):
    def gpus(self):
        info = subprocess.run([str(BIN / "ssmq"), "info"], text=True, stdout=subprocess.PIPE,
                              check=True).stdout
        return int(next(line.split()[2] for line in info.splitlines()
                        if line.startswith("cuda devices")))

    def cuda_run(self, ranks, *more):
        run_dir = self.sweep_dir(*ARGUMENTS, "--device", "cuda", *more, ranks=ranks)
        lines = (run_dir / "metrics.jsonl").read_text().splitlines()
        sums = {row["trial_key"]: row["nll_sum"] for row in map(json.loads, lines)}
        return last_weights(run_dir)["gpus"], sums

    def test_gpus(self):
        n_gpus = self.gpus()
        if n_gpus == 0:
            self.assertNotIn("SSMQ_REQUIRE_GPU", os.environ)
            self.skipTest("no GPU")
        alone, expected = self.cuda_run(1)
        self.assertEqual(alone["way"], "none")
        small, sums = self.cuda_run(n_gpus + 1)
        self.assertEqual(sums, expected)
        self.assertIn("are fewer than sweep.nccl_least_mb", small["reason"])
        always = ["--set", "sweep.nccl_least_mb=0"]
        shared, sums = self.cuda_run(n_gpus + 1, *always)
        print(shared, file=sys.stderr)
        self.assertEqual(sums, expected)
        self.assertEqual(shared["way"], "host memory")
        if shared["reason"] == "this build has no NCCL":
            return
        self.assertIn("are on one GPU", shared["reason"])
        if n_gpus > 1:
            sent, sums = self.cuda_run(n_gpus, *always)
            print(sent, file=sys.stderr)
            self.assertEqual(sums, expected)
            self.assertTrue(sent["way"].startswith("nccl "), sent)
            self.assertGreater(sent["bytes"], 0)
        nothing_kept, sums = self.cuda_run(2, *always, "--set", "sweep.reuse_mb=0")
        self.assertEqual(sums, expected)
        self.assertIn("sweep.reuse_mb is 0", nothing_kept["reason"])


if __name__ == "__main__":
    wanted = Cuda if sys.argv[1:] == ["cuda"] else Cpu
    suite = unittest.defaultTestLoader.loadTestsFromTestCase(wanted)
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    if not result.wasSuccessful():
        sys.exit(1)
    sys.exit(SKIPPED if result.skipped else 0)
