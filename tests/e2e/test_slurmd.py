# SPDX-License-Identifier: Apache-2.0
"""slurm/week1.sh as a job of a real Slurm (slurm_cluster.py), on the null engine."""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

import slurm_cluster
from sweep_support import ROOT, fixed_part, kill, records, wait_for

SKIPPED = 77
SMOKE = ["--config", "configs/smoke.yaml"]
SLOW = [*SMOKE, "--set", "model.null_script=delay:300ms"]
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
JOB_S = 120.0


class SlurmdTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory(prefix="ssmq-slurmd-")
        (pathlib.Path(cls.folder.name) / "cluster").mkdir()
        cls.cluster = slurm_cluster.Cluster(pathlib.Path(cls.folder.name) / "cluster")

    @classmethod
    def tearDownClass(cls):
        cls.cluster.stop()
        cls.folder.cleanup()

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="ssmq-slurmd-job-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.out = self.folder / "runs"

    def submit(self, arguments, *options, script="week1.sh", **environment):
        """Number of the job."""
        env = {**os.environ, **self.cluster.environment, **environment}
        done = subprocess.run(
            ["sbatch", "--parsable", "--ntasks-per-node=2", "--gpus-per-node=1",
             "--cpus-per-task=1", f"--output={self.folder}/%A_%a.out", *options,
             f"slurm/{script}", *arguments, "--out", str(self.out)],
            cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 0, done.stderr)
        return int(done.stdout)

    def output(self):
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.out")))

    def wait_for_state(self, job_id, *states):
        def is_there():
            found = set(self.cluster.state(job_id).split())
            return found and found <= set(states)

        self.assertTrue(wait_for(is_there, timeout_s=JOB_S),
                        f"{self.cluster.state(job_id)}: {self.output()}")

    def wait_until_halfway(self):
        self.assertTrue(wait_for(lambda: self.n_finished() >= 2, timeout_s=JOB_S), self.output())

    def n_finished(self):
        return sum(path.read_bytes().count(b'"finished"')
                   for path in self.out.glob("*/journal.*.jsonl"))

    def assert_complete(self, run_dir):
        planned = len((run_dir / "plan.csv").read_text().splitlines()) - 1
        self.assertEqual(len(records(run_dir)), planned)
        self.assertEqual({record["status"] for record in records(run_dir).values()}, {"ok"})
        self.assertTrue((run_dir / "report.md").is_file())
        finished = [json.loads(line)["trial_id"] for path in run_dir.glob("journal.*.jsonl")
                    for line in path.read_text().splitlines() if '"event":"finished"' in line]
        self.assertEqual(sorted(finished), sorted(records(run_dir)))

    def test_mpirun_and_srun_launch_the_same_sweep(self):
        parts = []
        for launcher in ("mpirun", "srun"):
            job = self.submit(SMOKE, "--wait", SSMQ_LAUNCHER=launcher)
            run_dir = self.out / f"week1-job{job}"
            self.assertEqual(self.cluster.state(job), "COMPLETED", self.output())
            self.assert_complete(run_dir)
            self.assertEqual({record["rank"] for record in records(run_dir).values()}, {0, 1})
            parts.append(fixed_part(run_dir))
        self.assertEqual(parts[0], parts[1])

    def test_signal_before_the_limit_requeues_and_resumes(self):
        job = self.submit(SLOW)
        self.wait_until_halfway()
        self.cluster.ask("scancel", "--signal=USR1", "--batch", str(job))
        self.assertTrue(wait_for(lambda: self.cluster.facts(job).get("Restarts") == "1",
                                 timeout_s=JOB_S), self.output())
        run_dir = self.out / f"week1-job{job}"
        before = records(run_dir)
        self.wait_for_state(job, *ENDED)
        self.assertEqual(self.cluster.state(job), "COMPLETED", self.output())
        self.assert_complete(run_dir)
        self.assertTrue(before)
        for trial_id, record in before.items():
            self.assertEqual(records(run_dir)[trial_id], record)
        alone = self.submit(SLOW, "--wait")
        self.assertEqual(fixed_part(run_dir), fixed_part(self.out / f"week1-job{alone}"))

    def test_cancelled_job_stays_cancelled(self):
        job = self.submit(SLOW)
        self.wait_until_halfway()
        self.cluster.ask("scancel", str(job))
        self.wait_for_state(job, *ENDED)
        self.assertEqual(self.cluster.state(job), "CANCELLED", self.output())
        run_dir = self.out / f"week1-job{job}"
        hint = f"this goes on: bash slurm/week1.sh --resume {run_dir}"
        self.assertTrue(wait_for(lambda: hint in self.output()), self.output())
        self.assertEqual(self.cluster.facts(job)["Restarts"], "0")
        self.assertNotIn("start 2", self.output())
        done = self.submit([*SLOW, "--resume", str(run_dir)])
        self.wait_for_state(done, *ENDED)
        self.assert_complete(run_dir)

    def test_dead_rank(self):
        """The job starts its sweep again, and ends complete."""
        job = self.submit(SLOW)
        self.wait_until_halfway()
        found = subprocess.run(["pgrep", "-f", f"ssmq-sweep.*{self.out}"], text=True,
                               stdout=subprocess.PIPE).stdout.split()
        ranks = [pid for pid in map(int, found)
                 if pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "ssmq-sweep"]
        self.assertEqual(len(ranks), 2)
        kill(ranks[-1])
        self.wait_for_state(job, *ENDED)
        self.assertEqual(self.cluster.state(job), "COMPLETED", self.output())
        self.assertRegex(self.output(), r"ended with code \d+ after [1-9]\d* trials; start 2")
        self.assert_complete(self.out / f"week1-job{job}")

    def test_array_of_shards(self):
        job = self.submit(SMOKE, "--array=0-1")
        self.wait_for_state(job, *ENDED)
        self.assertEqual(set(self.cluster.state(job).split()), {"COMPLETED"}, self.output())
        command = re.search(r"(build/run/bin/ssmq merge --into \S+ \S+)", self.output())[1]
        subprocess.run(command, shell=True, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        parts = [records(self.out / f"week1-job{job}-shard{i}") for i in (0, 1)]
        whole = records(self.out / f"week1-job{job}")
        self.assertEqual(sorted(whole), sorted([*parts[0], *parts[1]]))

    def test_unknown_launcher(self):
        job = self.submit(SMOKE, SSMQ_LAUNCHER="prun")
        self.wait_for_state(job, *ENDED)
        self.assertEqual(self.cluster.state(job), "FAILED")
        self.assertIn("SSMQ_LAUNCHER: 'prun'; allowed are mpirun and srun", self.output())


if __name__ == "__main__":
    reason = slurm_cluster.reason_against()
    if reason:
        print(reason, file=sys.stderr)
        # tests/run.sh installs what is missing, for root: there it must be here.
        sys.exit(1 if "SSMQ_REQUIRE_CLUSTER" in os.environ else SKIPPED)
    unittest.main(verbosity=2)
