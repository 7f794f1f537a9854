# SPDX-License-Identifier: Apache-2.0
"""Bad input of ssmq-sweep: one clear message, exit 2, nothing written; and folders that cannot be
written or belong to another: exit 1 or 2, no damaged file."""
import hashlib
import json
import os
import pathlib
import shutil
import struct
import subprocess
import unittest

from sweep_support import BIN, MPIRUN, ROOT, SweepTest, acknowledged, records, wait_for

NULL = ["--config", "configs/smoke.yaml"]


class BadInput(SweepTest):
    def refused(self, *arguments, says, ranks=1):
        done = self.sweep(*arguments, ranks=ranks, expect=2)
        for text in [says] if isinstance(says, str) else says:
            self.assertIn(text, done.stderr)
        self.assertFalse(self.out.exists(), "something was written")
        return done

    def yaml(self, text):
        path = self.out.parent / "case.yaml"
        path.write_text(text)
        return path

    def test_configuration(self):
        for text, says in [
            ("sweep: {precisons: [bf16]}\n", ["case.yaml:1:9", "precisons", "precisions"]),
            ("ppl: {seq_len: []}\n", "ppl.seq_len"),
            ("ppl: {seq_len: 512}\nppl: {seq_len: 256}\n", ["case.yaml:2:1", "ppl"]),
            ("sweep: {precisions: [w3a3]}\n", ["w3a3", "w8a8"]),
            ("a: &a [x]\nb: *a\n", "case.yaml:1:4"),
            ("ppl: {seq_len: [512\n", "case.yaml:"),
            ("sweep: {scopes: ['only:99.in_proj'], precisions: [w8a8]}\n", "99"),
            ("run: {run_id: ../escape}\n", "run.run_id"),
            ("model: {path: configs/none}\n", "configs/none"),
            ("ppl: {text: configs/none.txt}\nsweep: {tasks: [ppl]}\n", "configs/none.txt"),
            ("ppl: {seq_len: 1000000}\nsweep: {tasks: [ppl]}\n", "1000000"),
        ]:
            with self.subTest(text=text):
                self.refused("--config", self.yaml(text), says=says)

    def test_hosts_with_other_files(self):
        """One path, another text under it on each rank."""
        text = (ROOT / "configs/demo/demo-text.txt").read_bytes()
        parts = []
        for rank, n_bytes in enumerate([20000, 20001]):
            folder = self.out.parent / f"host{rank}"
            folder.mkdir()
            (folder / "text.txt").write_bytes(text[:n_bytes])
            parts.append(["-np", "1", "-wdir", str(folder), str((ROOT / BIN / "ssmq-sweep")),
                          "--config", str(ROOT / "configs/smoke.yaml"), "--out", str(self.out),
                          "--set", f"model.path={ROOT}/configs/demo",
                          "--set", "ppl.text=/proc/self/cwd/text.txt", "--dry-run"])
        done = subprocess.run(MPIRUN + parts[0] + [":"] + parts[1], text=True, timeout=300,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 2, done.stderr)
        for part, rank in [(text[:20001], 1), (text[:20000], 0)]:
            self.assertRegex(done.stderr, f"rank {rank}.* has {hashlib.sha256(part).hexdigest()}")
        self.assertIn("ppl.text: rank 1 on ", done.stderr)

    def test_every_fault_at_once(self):
        text = "model: {paht: x}\nppl: {seq_len: -1}\nsweep: {tasks: [sing]}\n"
        done = self.refused("--config", self.yaml(text), says=["paht", "seq_len", "sing"], ranks=2)
        self.assertEqual(len([l for l in done.stderr.splitlines() if "case.yaml:" in l]), 3)

    def test_usage(self):
        self.refused("--confg", "x", says="--config")
        self.refused("--config", "/nonexistent.yaml", says="/nonexistent.yaml")
        self.refused(*NULL, "--run-id", "../../tmp/x", says="run_id")
        self.refused(*NULL, "--only", "colour=red", says="colour")
        self.refused(*NULL, "--device", "tpu", says="tpu")
        self.refused(*NULL, "--max-failures", "none", says="--max-failures")
        self.refused("--resume", "/nonexistent", says="/nonexistent")

    def test_cuda_without_a_gpu(self):
        if shutil.which("nvidia-smi"):
            self.skipTest("this machine may have a GPU")
        self.refused("--config", "configs/quickstart.yaml", "--device", "cuda", says="cuda")

    def test_text(self):
        bad = self.out.parent / "bad.txt"
        bad.write_bytes(b"good until here \xff\xfe")
        case = self.yaml(f"sweep: {{tasks: [ppl]}}\nppl: {{text: {bad}}}\n")
        self.refused("--config", case, says=["bad.txt", "byte 16"])
        bad.write_bytes(b"")
        self.refused("--config", case, says=["bad.txt", "empty"])

    def checkpoint(self):
        copy = self.out.parent / "model"
        shutil.copytree(ROOT / "configs/demo", copy, dirs_exist_ok=True)
        return copy, self.yaml(f"model: {{path: {copy}}}\n")

    def test_checkpoint(self):
        copy, case = self.checkpoint()
        weights = copy / "model.safetensors"
        whole = weights.read_bytes()
        weights.write_bytes(whole[:-1000])
        self.refused("--config", case, says="model.safetensors")
        weights.write_bytes(struct.pack("<Q", 1 << 62) + whole[8:])
        self.refused("--config", case, says="model.safetensors")
        weights.write_bytes(whole)
        config = json.loads((copy / "config.json").read_text())
        config["num_heads"] = 7
        (copy / "config.json").write_text(json.dumps(config))
        self.refused("--config", case, says="config.json")
        shutil.copy(ROOT / "configs/demo/config.json", copy)
        (copy / "tokenizer.json").unlink()
        self.refused("--config", case, says="tokenizer.json")

    def test_shards_stay_in_their_folder(self):
        copy, case = self.checkpoint()
        (copy / "model.safetensors").rename(self.out.parent / "outside.safetensors")
        index = {"weight_map": {"backbone.norm_f.weight": "../outside.safetensors"}}
        (copy / "model.safetensors.index.json").write_text(json.dumps(index))
        self.refused("--config", case, says="weight_map names a file that is no plain name in the same folder")


class Folders(SweepTest):
    def test_other_configuration(self):
        run = self.sweep_dir(*NULL, "--run-id", "mine")
        before = (run / "results.h5").read_bytes()
        done = self.sweep(*NULL, "--run-id", "mine", "--set", "passkey.n_trials=7", expect=2)
        self.assertIn("passkey.n_trials", done.stderr)
        self.assertEqual((run / "results.h5").read_bytes(), before)

    def test_other_inputs(self):
        text = self.out.parent / "text.txt"
        text.write_text((ROOT / "configs/demo/demo-text.txt").read_text()[:20000])
        mine = [*NULL, "--run-id", "mine", "--set", f"ppl.text={text}"]
        self.sweep(*mine)
        text.write_text(text.read_text() + "One more sentence.")
        done = self.sweep(*mine, expect=2)
        self.assertIn("other inputs", done.stderr)

    def test_not_a_run_folder(self):
        (self.out / "mine").mkdir(parents=True)
        (self.out / "mine" / "thesis.txt").write_text("precious")
        done = self.sweep(*NULL, "--run-id", "mine", expect=2)
        self.assertIn("neither empty nor a run folder", done.stderr)
        self.assertEqual([p.name for p in (self.out / "mine").iterdir()], ["thesis.txt"])

    def test_folder_that_cannot_be_written(self):
        self.out = pathlib.Path("/proc/ssmq")
        done = self.sweep(*NULL, expect=1)
        self.assertIn("/proc/ssmq", done.stderr)

    def test_two_sweeps_on_one_folder(self):
        slow = [*NULL, "--set", "model.null_script='delay:300ms'", "--run-id", "shared"]
        first = self.start(*slow, ranks=1)
        self.assertTrue(wait_for(lambda: acknowledged(self.out / "shared")))
        done = self.sweep(*slow, expect=1)
        self.assertIn("another sweep is working on this run folder", done.stderr)
        self.assertEqual(first.wait(timeout=120), 0)
        self.assert_readable(self.out / "shared")

    def test_file_size_limit(self):
        """A limit on the size of files fails writes as a full disk does; it may strike the
        journal or the merge. The next run without it ends as if nothing had happened."""
        whole = self.sweep_dir(*NULL)
        sizes = {path.name: path.stat().st_size for path in whole.iterdir() if path.is_file()}
        for limit in (sizes["journal.0.jsonl"] // 3, sizes["journal.0.jsonl"] * 2,
                      sizes["results.h5"] - 4096):
            with self.subTest(limit=limit):
                run_id = f"full-{limit}"
                program = self.command(["--out", self.out, *NULL, "--run-id", run_id], 1)
                # Inside mpirun, whose own shared memory files are larger.
                at = len(program) - program[::-1].index(str(BIN / "ssmq-sweep")) - 1
                shell = ["bash", "-c", f'ulimit -f {limit // 1024}; exec "$@"', "limited"]
                done = subprocess.run(program[:at] + shell + program[at:], cwd=ROOT, timeout=120,
                                      text=True, capture_output=True)
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn("File too large", done.stderr)
                if (self.out / run_id / "results.h5").exists():
                    self.assert_readable(self.out / run_id)
                self.sweep(*NULL, "--run-id", run_id)
                self.assert_same_results(self.out / run_id, whole)

    def test_tmpfs_that_fills(self):
        """A real full file system, where the machine lets us make one."""
        disk = self.out.parent / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", str(disk)]
        if os.geteuid() != 0 or subprocess.run(mount, stderr=subprocess.DEVNULL).returncode != 0:
            self.skipTest("no right to mount a small file system")
        self.addCleanup(subprocess.run, ["umount", str(disk)], check=True)
        whole = self.sweep_dir(*NULL)
        self.out = disk / "runs"
        done = self.sweep(*NULL, "--run-id", "full", expect=1)
        self.assertIn("No space left on device", done.stderr)
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        self.sweep(*NULL, "--run-id", "full", ranks=2)
        self.assert_same_results(self.out / "full", whole)
        self.assertTrue(records(self.out / "full"))


if __name__ == "__main__":
    unittest.main()
