# SPDX-License-Identifier: Apache-2.0
"""ssmq bench on the embedded model and the CPU engine, and the memory columns of ssmq plan."""
import csv
import io
import json
import re
import resource
import subprocess
import unittest

from sweep_support import BIN, ROOT, SweepTest

DEMO = ROOT / "configs/demo"
SMALL = ["bench", "--model", DEMO, "--device", "cpu", "--repeat", "3", "--steps", "4"]
STAGES = ["embed", "norm", "in_proj", "conv", "ssd", "gated_norm", "out_proj", "head"]


def shape_of(folder):
    """d, di, L, H, P, N, G, K, V of a config.json in the naming of Transformers."""
    config = json.loads((folder / "config.json").read_text())
    d = config["hidden_size"]
    return (d, d * config["expand"], config["num_hidden_layers"], config["num_heads"],
            config["head_dim"], config["state_size"], config["n_groups"], config["conv_kernel"],
            config["vocab_size"])


def decode_bytes(folder, batch, number=2, state=4):
    d, di, L, H, P, N, G, K, V = shape_of(folder)
    conv_dim = di + 2 * G * N
    in_proj = 2 * di + 2 * G * N + H
    layer = in_proj * d + d * di + d + di + conv_dim * (K + 1) + 3 * H
    moved = L * (H * P * N * state + K * conv_dim * number)
    return number * (L * layer + d + V * d) + 2 * batch * moved


def lower_memory():
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))


class Bench(SweepTest):
    def lines(self, *arguments, **options):
        text = self.ssmq(*SMALL, "--format", "jsonl", *arguments, **options).stdout
        return [json.loads(line) for line in text.splitlines()]

    def test_jsonl(self):
        lines = self.lines("--prefill", "48,96", "--batch", "1,3", "--stages")
        self.assertEqual([(r["phase"], r["batch_size"], r["context_length"]) for r in lines],
                         [("prefill", 1, 48), ("prefill", 1, 96), ("decode", 1, 16),
                          ("decode", 3, 16)])
        commit = self.ssmq("--version").stdout.split("(")[1].rstrip(")\n")
        for r in lines:
            self.assertEqual((r["status"], r["status_reason"]), ("ok", ""))
            self.assertLessEqual(r["ms_p10"], r["ms"])
            self.assertLessEqual(r["ms"], r["ms_p90"])
            self.assertGreater(r["ms_p10"], 0)
            self.assertGreater(r["host_ms"], 0)
            n_tokens = r["context_length"] if r["phase"] == "prefill" else r["batch_size"]
            self.assertAlmostEqual(r["tokens_per_s"] * r["ms"] / 1e3, n_tokens, places=6)
            parts = sum(r[f"{name}_mem_mb"]
                        for name in ("weight", "state", "activation", "workspace"))
            self.assertAlmostEqual(r["peak_mem_mb"], parts, places=6)
            for name in ("floor_ms", "floor_percent", "copy_gb_per_s", "gemm_tflops",
                         "sm_clock_mhz", "memory_clock_mhz", "temperature_c", "throttle_reasons",
                         "staged_ms", *(f"stage_{stage}_ms" for stage in STAGES)):
                self.assertIsNone(r[name], name)
            for name, value in [("device", "cpu"), ("timer", "host clock"), ("precision", "bf16"),
                                ("state_dtype", "fp32"), ("scope", "none"), ("model_name", "demo"),
                                ("segment_tokens", 2048), ("gpu_name", ""), ("git_commit", commit),
                                ("gemm_algorithms", ""), ("decode_products", "")]:
                self.assertEqual(r[name], value, name)
            self.assertRegex(r["utc"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        self.assertEqual([r["n_measure"] for r in lines], [3, 3, 12, 12])
        self.assertEqual([r["n_warmup"] for r in lines], [3, 3, 10, 10])
        for r in lines[2:]:
            self.assertAlmostEqual(r["floor_mb"] * 1e6, decode_bytes(DEMO, r["batch_size"]),
                                   places=3)
            self.assertEqual(r["floor_gflop"], 0)
        self.assertAlmostEqual(lines[1]["floor_gflop"], 2 * lines[0]["floor_gflop"], places=9)
        self.assertAlmostEqual(lines[3]["state_mem_mb"], 3 * lines[2]["state_mem_mb"], places=6)

    def test_table(self):
        text = self.ssmq(*SMALL, "--prefill", "40", "--batch", "2", "--segment", "32").stdout
        head, table = text.split("\n\n")
        self.assertRegex(head, r"(?m)^model +demo, bf16, state fp32, segments of 32 tokens$")
        self.assertRegex(head, r"(?m)^device +cpu: \S.*, timer: host clock$")
        self.assertRegex(head, r"(?m)^ceilings +none: device cpu has no measure of its own$")
        rows = table.splitlines()
        self.assertEqual(len(rows), 5, table)
        self.assertEqual([row.split()[:3] for row in rows[1::2]],
                         [["prefill", "1", "40"], ["decode", "2", "16"]])
        for row in rows[2::2]:
            self.assertRegex(row, r"^ +memory, MB: weights [\d.]+, state [\d.]+, activations "
                                  r"[\d.]+, workspace [\d.]+, peak [\d.]+$")
        self.assertTrue(all(len(row) == len(rows[0]) for row in rows[1::2]), table)
        none = self.ssmq(*SMALL, "--prefill", "none", "--batch", "none", "--no-ceilings").stdout
        self.assertIn("ceilings   none: --no-ceilings\n", none)
        self.assertEqual(none.splitlines()[-1], rows[0])

    def test_out_of_memory_goes_on(self):
        """The state of 4096 sequences takes 9 GB; the process may have 6."""
        lines = self.lines("--prefill", "none", "--batch", "1,4096,2", preexec_fn=lower_memory)
        self.assertEqual([(r["batch_size"], r["status"]) for r in lines],
                         [(1, "ok"), (4096, "oom"), (2, "ok")])
        self.assertRegex(lines[1]["status_reason"], r"bytes")
        self.assertIsNone(lines[1]["ms"])
        self.assertIsNone(lines[1]["peak_mem_mb"])
        self.assertIsNotNone(lines[1]["floor_mb"])
        table = self.ssmq(*SMALL, "--prefill", "none", "--batch", "4096,1",
                          preexec_fn=lower_memory).stdout
        self.assertRegex(table, r"(?m)^decode +4096 +16  oom: .*bytes")
        self.assertRegex(table, r"(?m)^decode +1 +16 +[\d.]+ ")

    def test_precisions(self):
        tiny = ["--model", "random:mamba2-tiny"]
        small = ["bench", *tiny, "--device", "cpu", "--repeat", "1", "--steps", "2", "--prefill",
                 "8", "--batch", "1", "--format", "jsonl"]
        for precision, scope in [("fp32", "none"), ("w8a8", "all")]:
            text = self.ssmq(*small, "--precision", precision).stdout
            for r in map(json.loads, text.splitlines()):
                self.assertEqual((r["precision"], r["scope"]), (precision, scope))
        text = self.ssmq(*small, "--state-dtype", "bf16").stdout
        for r in map(json.loads, text.splitlines()):
            self.assertEqual((r["status"], r["state_dtype"]), ("ok", "bf16"))

    def test_refusals(self):
        for arguments, says in [
                (["--prefill", "0"], "--prefill: '0' is not a list of integers from 1 to 16777216, "
                                     "as 1,2,3, or none"),
                (["--batch", "1,5000"], "--batch: '1,5000' is not a list of integers from 1 to "
                                        "4096, as 1,2,3, or none"),
                (["--state-dtype", "int8"], "--state-dtype: 'int8' is no type; allowed are fp32, "
                                            "fp16, bf16"),
                (["--format", "csv"], "--format: 'csv' is no format; allowed are table, jsonl"),
                (["--repeat", "0"], "--repeat: '0' is not an integer from 1 to 100000"),
                (["--model", "random:x"], "random:x: no such model; random:mamba2-tiny, "),
                (["8192"], "8192: unexpected argument")]:
            with self.subTest(arguments=arguments):
                done = self.ssmq("bench", "--device", "cpu", *arguments, expect=2)
                self.assertEqual(done.stdout, "")
                self.assertTrue(done.stderr.startswith(f"ssmq bench: {says}"), done.stderr)


class Plan(SweepTest):
    BYTES = ["weight_bytes", "state_bytes", "activation_bytes", "workspace_bytes"]

    def plan(self, *arguments):
        done = self.ssmq("plan", "--config", "configs/quickstart.yaml", *arguments)
        return list(csv.DictReader(io.StringIO(done.stdout))), done.stderr

    def has_cuda(self):
        return re.search(r"(?m)^engines +.*\bcuda\b", self.ssmq("info").stdout) is not None

    def test_cpu_has_no_columns_filled(self):
        rows, totals = self.plan("--device", "cpu")
        self.assertGreater(len(rows), 5)
        for row in rows:
            self.assertEqual([row[name] for name in [*self.BYTES, "device_bytes"]], [""] * 5)
        self.assertNotIn("largest on the device", totals)

    def test_cuda(self):
        """Sizes need no GPU, only a build that has the engine."""
        if not self.has_cuda():
            done = self.ssmq("plan", "--config", "configs/quickstart.yaml", "--device", "cuda",
                             expect=2)
            self.assertIn("'cuda' is not in this build", done.stderr)
            return
        rows, totals = self.plan("--device", "cuda", "--only", "precision=bf16")
        d, di, L, H, P, N, G, _, V = shape_of(DEMO)
        n_weights = L * ((2 * di + 2 * G * N + H) * d + d * di) + V * d
        for row in rows:
            sizes = [int(row[name]) for name in self.BYTES]
            self.assertEqual(int(row["device_bytes"]), sum(sizes))
            self.assertTrue(2 * n_weights < sizes[0] < 2.2 * n_weights, row)
            n_sequences = sizes[1] / (4 * L * H * P * N)
            self.assertTrue(1 <= n_sequences < 1.3 * int(row["batch_size"]), row)
        largest = max(rows, key=lambda row: int(row["device_bytes"]))
        gigabytes = int(largest["device_bytes"]) / 1e9
        self.assertIn(f"largest on the device: trial {largest['trial_idx']}, {gigabytes:.3f} GB",
                      totals)


if __name__ == "__main__":
    unittest.main()
