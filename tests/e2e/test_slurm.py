# SPDX-License-Identifier: Apache-2.0
"""slurm/week1.sh as sbatch and as bash run it, on the null engine: signals, requeue, exit codes."""
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import unittest

from sweep_support import ROOT, children_of, kill, records, wait_for

SMOKE = ["--config", "configs/smoke.yaml"]
# Slow enough to be stopped halfway.
SLOW = [*SMOKE, "--set", "model.null_script=delay:50ms"]


def is_sweep(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().strip() == "ssmq-sweep"
    except OSError:
        return False


class SlurmTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="ssmq-slurm-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.out = self.folder / "runs"
        self.requeued = self.folder / "requeued"
        scontrol = self.folder / "bin/scontrol"
        scontrol.parent.mkdir()
        scontrol.write_text(f'#!/bin/sh\necho "$@" >>{self.requeued}\n')
        scontrol.chmod(0o755)

    def environment(self, **more):
        """This one without the traces of a real job, with the scontrol above."""
        kept = {name: value for name, value in os.environ.items()
                if not name.startswith("SLURM_")}
        return {**kept, "PATH": f"{self.folder}/bin:{os.environ['PATH']}", **more}

    def job(self, **more):
        """Environment of a batch job. Open MPI is told not to look for Slurm's allocation."""
        usual = {"SLURM_JOB_ID": "4242", "SLURM_SUBMIT_DIR": str(ROOT), "SLURM_NTASKS": "2",
                 "OMPI_MCA_ras": "^slurm", "OMPI_MCA_plm": "^slurm", "OMPI_MCA_ess": "^slurm"}
        return self.environment(**{**usual, **more})

    def start(self, arguments, env, is_batch, script="week1.sh"):
        script = ROOT / "slurm" / script
        if is_batch:
            script = pathlib.Path(shutil.copy(script, self.folder / "slurm_script"))
        return subprocess.Popen(["bash", str(script), *arguments, "--out", str(self.out)],
                                cwd=self.folder if is_batch else ROOT, env=env, text=True,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def finish(self, process, expect):
        out, err = process.communicate(timeout=300)
        self.assertEqual(process.returncode, expect, out + err)
        return out, err

    def run_script(self, arguments, env, is_batch=False, expect=0, script="week1.sh"):
        return self.finish(self.start(arguments, env, is_batch, script), expect)

    def finished_lines(self):
        journals = self.out.glob("*/journal.*.jsonl")
        return sum(path.read_bytes().count(b'"finished"') for path in journals)

    def wait_until_halfway(self):
        self.assertTrue(wait_for(lambda: self.finished_lines() >= 2, timeout_s=120))

    def stop_halfway(self, process, signal_number):
        self.wait_until_halfway()
        process.send_signal(signal_number)

    @staticmethod
    def planned(run_dir):
        return len((run_dir / "plan.csv").read_text().splitlines()) - 1

    def test_time_limit_requeues_and_resumes(self):
        process = self.start(SLOW, self.job(), is_batch=True)
        self.stop_halfway(process, signal.SIGUSR1)
        self.finish(process, expect=4)
        self.assertEqual(self.requeued.read_text(), "requeue 4242\n")
        run_dir = self.out / "week1-job4242"
        before = records(run_dir)
        self.assertLess(len(before), self.planned(run_dir))

        out, _ = self.run_script(SLOW, self.job(SLURM_RESTART_COUNT="1"), is_batch=True)
        self.assertEqual(out.splitlines()[-1], str(run_dir))
        after = records(run_dir)
        self.assertEqual(len(after), self.planned(run_dir))
        for key, record in before.items():
            self.assertEqual(after[key], record)
        self.assertTrue((run_dir / "plots/ppl.png").is_file())
        self.assertTrue((run_dir / "report.md").is_file())

    def test_array_tasks_are_shards(self):
        for task in ("3", "4"):
            job = self.job(SLURM_JOB_ID=f"50{task}", SLURM_ARRAY_JOB_ID="500",
                           SLURM_ARRAY_TASK_ID=task, SLURM_ARRAY_TASK_MIN="3",
                           SLURM_ARRAY_TASK_COUNT="2")
            _, err = self.run_script(SMOKE, job, is_batch=True)
        into = self.out / "week1-job500"
        command = f"build/run/bin/ssmq merge --into {into} {into}-shard*"
        self.assertIn(command, err)
        subprocess.run(command, shell=True, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        first, second = (records(f"{into}-shard{i}") for i in (0, 1))
        self.assertEqual(set(records(into)), set(first) | set(second))
        self.assertEqual(set(first) & set(second), set())
        self.assertEqual(len(records(into)), self.planned(into))

    def test_requeues_have_a_bound(self):
        process = self.start(SLOW, self.job(SLURM_RESTART_COUNT="20"), is_batch=True)
        self.stop_halfway(process, signal.SIGUSR1)
        _, err = self.finish(process, expect=4)
        self.assertFalse(self.requeued.exists())
        self.assertIn(f"--resume {self.out}/week1-job4242", err)

    def test_dead_rank_is_started_again(self):
        """mpirun ends the job of a rank that was killed; what was done is not done again."""
        process = self.start(SLOW, self.job(), is_batch=True)
        self.wait_until_halfway()
        ranks = [pid for pid in children_of(process.pid) if is_sweep(pid)]
        kill(ranks[-1])
        _, err = self.finish(process, expect=0)
        self.assertRegex(err, r"the sweep ended with code \d+ after [1-9]\d* trials; start 2 goes")
        run_dir = self.out / "week1-job4242"
        self.assertEqual(len(records(run_dir)), self.planned(run_dir))

    def test_death_without_progress_is_final(self):
        process = self.start([*SMOKE, "--set", "model.null_script=delay:20s"], self.job(),
                             is_batch=True)
        self.assertTrue(wait_for(lambda: list(self.out.glob("*/journal.1.jsonl")), timeout_s=120))
        for pid in children_of(process.pid):
            if is_sweep(pid):
                kill(pid)
        out, err = process.communicate(timeout=120)
        self.assertNotIn(process.returncode, (0, 2, 3, 4), out + err)
        self.assertNotIn("goes on", err)

    def test_finds_a_python(self):
        """With .venv there nobody asks; job.sh must not stand in the way of env.sh."""
        text = "set -eu; ssmq_job=week1 ssmq_is_batch=0; . slurm/job.sh; ssmq_env_python"
        done = subprocess.run(["bash", "-c", text], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertRegex(done.stdout, "^python3")

    def test_phase1_takes_its_own_configuration(self):
        out, _ = self.run_script(["--dry-run", "--only", "scope=all and task=passkey"],
                                 self.environment(), script="phase1.sh")
        self.assertIn('"w4a4"', out)
        self.assertNotIn('"w8a8-fp8"', out)  # the demo's part
        out, _ = self.run_script(["--config", "configs/phase1.yaml", "--dry-run", "--only",
                                  "scope=all and task=passkey"], self.environment(),
                                 script="phase1.sh")
        self.assertIn('"w8a8-fp8"', out)

    def test_interrupt_ends_in_good_order(self):
        process = self.start(SLOW, self.environment(), is_batch=False)
        self.stop_halfway(process, signal.SIGINT)
        out, err = self.finish(process, expect=4)
        run_dir = out.splitlines()[-1]
        self.assertIn(f"bash slurm/week1.sh --resume {run_dir}", err)
        self.run_script(["--resume", run_dir], self.environment())

    def test_closed_terminal_ends_in_good_order(self):
        process = self.start(SLOW, self.environment(), is_batch=False)
        self.wait_until_halfway()
        process.stdout.close()
        process.stderr.close()
        process.send_signal(signal.SIGHUP)
        self.assertEqual(process.wait(timeout=60), 4)
        (run_dir,) = self.out.iterdir()
        self.assertTrue((run_dir / "results.h5").is_file())

    def test_failed_trials_are_exit_code_3(self):
        out, _ = self.run_script([*SMOKE, "--set", "model.null_script=oom@precision=w8a8"],
                                 self.environment(), expect=3)
        self.assertTrue((pathlib.Path(out.splitlines()[-1]) / "plots/ppl.png").is_file())

    def test_bad_option_is_exit_code_2(self):
        _, err = self.run_script(["--no-such-option"], self.environment(), expect=2)
        self.assertIn("no-such-option", err)
        self.assertFalse(self.out.exists())

    def test_wrong_folder(self):
        env = {**self.job(), "SLURM_SUBMIT_DIR": str(self.folder)}
        script = shutil.copy(ROOT / "slurm/week1.sh", self.folder / "slurm_script")
        done = subprocess.run(["bash", script], env=env, text=True, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 1)
        self.assertIn("submit from the folder of the clone", done.stderr)


if __name__ == "__main__":
    unittest.main()
