# SPDX-License-Identifier: Apache-2.0
"""SIGKILL at random moments: nothing acknowledged is lost, results.h5 is always readable, and the
resumed run ends like an undisturbed one. SSMQ_KILL_RUNS=40 kills 40 runs 25 times each."""
import os
import random
import signal
import unittest

from sweep_support import SweepTest, acknowledged, children_of, kill, records

# Far more work than all the killed runs together get done.
NULL = ["--config", "configs/smoke.yaml", "--set", "model.null_script='delay:40ms'",
        "--set", f"sweep.seed={list(range(12))}"]
CPU = ["--config", "configs/quickstart.yaml", "--set", "sweep.tasks=[ppl, passkey]",
       "--set", "ppl.seq_len=[128, 256]", "--set", "ppl.stride=64", "--set", "ppl.max_tokens=1024",
       "--set", "passkey.context_length=[128]", "--set", "passkey.depth=[0.5]",
       "--set", "passkey.n_trials=2", "--set", "model.device=cpu"]


N_RUNS = int(os.environ.get("SSMQ_KILL_RUNS", "1"))


class Kill(SweepTest):
    def killed_run(self, config, run_id, n_kills, seed, longest_s):
        """Starts the run again and again with other rank counts, killing a random victim."""
        draw = random.Random(seed)
        run = self.out / run_id
        n_landed = 0
        for attempt in range(n_kills):
            before = acknowledged(run)
            ranks = draw.choice([1, 2, 3])
            process = self.start(*config, "--run-id", run_id, ranks=ranks)
            try:
                process.wait(timeout=draw.uniform(0.02, longest_s))
            except Exception:
                n_landed += 1
            victim = draw.choice(["all", "launcher", "rank"])
            ranks_alive = children_of(process.pid)
            if victim == "rank" and ranks_alive:
                # mpirun then ends the other ranks by itself.
                kill(draw.choice(ranks_alive))
            else:
                kill(process.pid)
                for pid in ranks_alive if victim == "all" else []:
                    kill(pid)
            try:
                process.wait(timeout=20)
            except Exception:
                pass
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait()
            self.assertLessEqual(before, acknowledged(run), f"attempt {attempt} lost a trial")
            if (run / "results.h5").exists():
                self.assert_readable(run)
        return n_landed

    def finish_and_compare(self, config, run_id):
        self.sweep(*config, "--run-id", run_id, ranks=2)
        whole = self.sweep_dir(*config, ranks=1)
        self.assert_same_results(self.out / run_id, whole)
        self.assertEqual({r["status"] for r in records(whole).values()}, {"ok"})

    def test_null_engine(self):
        for number in range(1, N_RUNS + 1):
            run_id = f"null-{number}"
            landed = self.killed_run(NULL, run_id, n_kills=25, seed=number, longest_s=1.2)
            self.assertGreaterEqual(landed, 20)
            self.finish_and_compare(NULL, run_id)

    def test_cpu_engine(self):
        self.killed_run(CPU, "cpu", n_kills=6, seed=2, longest_s=3.0)
        self.finish_and_compare(CPU, "cpu")


if __name__ == "__main__":
    unittest.main()
