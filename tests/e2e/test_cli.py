# SPDX-License-Identifier: Apache-2.0
"""The subcommands of ssmq on the embedded model, and each refusal of bad input: one clear line,
exit 2, nothing written. Reference numbers are Transformers 5 in fp32 on the CPU."""
import csv
import hashlib
import io
import json
import math
import os
import pathlib
import shutil
import sqlite3
import struct
import subprocess
import tempfile
import unittest

from sweep_support import BIN, KINDS, ROOT, SweepTest, acknowledged, records, wait_for

DEMO = ROOT / "configs/demo"
TEXT = DEMO / "demo-text.txt"
NULL = ["--config", "configs/smoke.yaml"]
# All tokens of demo-text.txt, by Hugging Face tokenizers.
N_TEXT_TOKENS = 55978
FIRST_IDS = [41, 346, 680, 1014, 521, 278, 261, 932, 613, 288, 387, 259]


class CommandTest(unittest.TestCase):
    """Runs ssmq in an empty folder, so that anything written by accident shows."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="ssmq-cli-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.cwd = self.folder / "cwd"
        self.cwd.mkdir()

    def ssmq(self, *arguments, expect=0, stdin=b""):
        command = [str(BIN.resolve() / "ssmq"), *map(str, arguments)]
        done = subprocess.run(command, cwd=self.cwd, input=stdin, timeout=300,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, expect, done.stderr.decode())
        self.assertEqual(list(self.cwd.iterdir()), [], "something was written")
        return done

    def output(self, *arguments, **options):
        return self.ssmq(*arguments, **options).stdout.decode()

    def refused(self, *arguments, says, **options):
        done = self.ssmq(*arguments, expect=2, **options)
        self.assertEqual(done.stdout, b"")
        lines = done.stderr.decode().splitlines()
        self.assertEqual(len(lines), 1, lines)
        self.assertTrue(lines[0].startswith(f"ssmq {arguments[0]}: "), lines[0])
        for text in [says] if isinstance(says, str) else says:
            self.assertIn(text, lines[0])

    def write(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path


class Usage(CommandTest):
    COMMANDS = ["info", "check", "plan", "tokenize", "score", "generate", "bench", "show",
                "merge", "export"]

    def test_help(self):
        text = self.output("--help")
        for command in self.COMMANDS:
            self.assertIn(f"  {command} ", text)
            help_text = self.output(command, "--help")
            self.assertTrue(help_text.startswith(f"usage: ssmq {command}"), help_text)
            self.assertEqual(self.output(command, "-h"), help_text)
            self.assertIn("  -h, --help ", help_text)
            self.assertTrue(all(len(line) <= 110 for line in help_text.splitlines()), help_text)

    def test_version(self):
        self.assertRegex(self.output("--version"), r"^ssmq \d+\.\d+\.\d+ \(\S+\)\n$")

    def test_no_such_command(self):
        done = self.ssmq("shew", expect=2)
        self.assertEqual(done.stderr.decode(), "ssmq: 'shew' is no command; ssmq --help lists them\n")
        self.assertIn(b"usage: ssmq COMMAND", self.ssmq(expect=2).stderr)

    def test_unknown_options(self):
        for command in self.COMMANDS:
            self.refused(command, "--colour", says=["--colour: unknown option", "--help"])

    def test_full_output(self):
        """What cannot be printed is an error, not silence."""
        with open("/dev/full", "wb") as full:
            done = subprocess.run([str(BIN.resolve() / "ssmq"), "info", "--fields"], stdout=full,
                                  stderr=subprocess.PIPE, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, b"ssmq info: standard output: cannot write\n")


class Info(CommandTest):
    def test_build(self):
        text = self.output("info")
        for name in ("ssmq", "commit", "compiler", "engines", "cuda devices", "mpi", "hdf5"):
            self.assertRegex(text, rf"(?m)^{name} +\S")
        self.assertIn("\nengine cpu\n", text)
        self.assertRegex(text, r"(?m)^engines +.*\bcpu\b")
        self.assertRegex(text, r"(?m)^  threads +[1-9]")

    def test_demo(self):
        text = self.output("info", "--model", DEMO)
        config = json.loads((DEMO / "config.json").read_text())
        weights = (DEMO / "model.safetensors").read_bytes()
        n_header = struct.unpack("<Q", weights[:8])[0]
        header = json.loads(weights[8:8 + n_header])
        header.pop("__metadata__", None)
        n_params = sum(math.prod(tensor["shape"]) for tensor in header.values())
        digest = hashlib.sha256((DEMO / "config.json").read_bytes() + weights).hexdigest()
        for name, value in [("d", config["hidden_size"]),
                            ("L", config["num_hidden_layers"]), ("H", config["num_heads"]),
                            ("P", config["head_dim"]), ("N", config["state_size"]),
                            ("G", config["n_groups"]), ("V", config["vocab_size"]),
                            ("parameters", n_params), ("sha256", digest)]:
            self.assertRegex(text, rf"(?m)^{name} +{value}\b")

    def test_modules(self):
        """The numbers of the table, by the definition of the formats."""
        for model, golden in [(DEMO, "demo"), ("random:mamba2-130m", "mamba2-130m")]:
            expected = (ROOT / f"tests/golden/info/{golden}.txt").read_text()
            text = self.output("info", "--model", model)
            text = text[text.index("bytes of one layer"):]
            self.assertEqual(text, expected)
            table, count, sizes = [part.splitlines() for part in text.split("\n\n")]
            in_scope = weights = others = 0
            for row in [line.split() for line in table[2:]]:
                n = int(row[0].split("-")[1]) + 1 if row[0] != "-" else 1
                rows, columns = int(row[2]), int(row[3])
                self.assertEqual([int(x) for x in row[4:6]],
                                 [4 * rows * columns, 2 * rows * columns])
                if row[1] in ("conv1d", "embeddings"):
                    self.assertEqual(row[6:8], ["-", "-"])
                    continue
                groups = math.ceil(columns / 128)
                self.assertEqual([int(x) for x in row[6:8]],
                                 [rows * (columns + 4), rows * (columns // 2 + 4 * groups)])
                if row[8] == "included":
                    weights += n * rows * columns
                    in_scope += n * int(row[7])
                else:
                    others += 2 * rows * columns
            self.assertIn(f" with {weights} weights", count[0])
            w4a8 = next(line.split() for line in sizes if line.startswith("w4a8 "))
            self.assertEqual(w4a8[1:], [str(in_scope), f"{in_scope / weights / 2:.3f}",
                                        str(in_scope + others)])

    def test_random_model(self):
        text = self.output("info", "--model", "random:mamba2-tiny")
        self.assertRegex(text, r"(?m)^d +64\b")
        self.assertIn("random; good for speed and memory only", text)

    def test_fields(self):
        lines = self.output("info", "--fields").splitlines()
        rows = [line.split() for line in lines[1:]]
        fields = {row[1]: row[0].upper() for row in rows if row[0] != "series"}
        self.assertEqual(list(fields.items()), list(KINDS.items()))
        self.assertIn("passkey_correct", [row[1] for row in rows if row[0] == "series"])

    def test_bad_input(self):
        self.refused("info", "--model", self.folder / "none", says=str(self.folder / "none"))
        self.refused("info", "--model", "random:mamba2-9b", says="mamba2-9b")
        self.refused("info", "--model", DEMO, "--fields", says="--model and --fields")
        self.refused("info", "demo", says="demo: unexpected argument")
        self.refused("info", "--model", says="--model: DIR is missing")


class Check(CommandTest):
    def config(self, text):
        return self.write("case.yaml", text)

    def small(self, more=""):
        return self.config(f"model: {{path: {DEMO}}}\nppl: {{text: {TEXT}}}\n"
                           f"sweep: {{tasks: [ppl], precisions: [bf16, w8a8]}}\n{more}")

    def test_resolved_configuration_is_a_fixed_point(self):
        first = self.output("check", "--config", self.small(), "--set", "ppl.seq_len=[256]")
        again = self.output("check", "--config", self.config(first))
        self.assertEqual(first, again)
        self.assertIn("256", first)

    def test_every_fault(self):
        path = self.config("model: {paht: x}\nppl: {seq_len: -1}\n")
        done = self.ssmq("check", "--config", path, "--set", "sweep.tasks=[sing]", expect=2)
        lines = done.stderr.decode().splitlines()
        self.assertEqual(done.stdout, b"")
        self.assertEqual(len(lines), 4, lines)
        self.assertIn(f"{path}:1:9: ", lines[0])
        self.assertIn("paht", lines[0])
        self.assertIn("seq_len", lines[1])
        self.assertIn("sing", lines[2])
        self.assertTrue(lines[3].startswith("ssmq check: "), lines[3])

    def test_files_that_values_name(self):
        path = self.small()
        missing = ["--set", f"ppl.text={self.folder}/none.txt"]
        self.refused("check", "--config", path, *missing, says="none.txt")
        self.assertIn("none.txt", self.output("check", "--config", path, *missing, "--values-only"))
        scope = ["--set", "sweep.scopes=['only:99.in_proj']"]
        self.refused("check", "--config", path, *scope, says="99")
        done = self.ssmq("check", "--config", self.folder / "none.yaml", expect=2)
        self.assertIn("none.yaml: No such file or directory", done.stderr.decode())


class Tokenize(CommandTest):
    def test_demo_text(self):
        ids = self.output("tokenize", "--model", DEMO, TEXT)
        values = [int(line) for line in ids.splitlines()]
        self.assertEqual(len(values), N_TEXT_TOKENS)
        self.assertEqual(values[:12], FIRST_IDS)
        self.assertEqual(ids, self.output("tokenize", "--model", DEMO, stdin=TEXT.read_bytes()))
        back = self.ssmq("tokenize", "--model", DEMO, "--decode", "-", stdin=ids.encode()).stdout
        self.assertEqual(back, TEXT.read_bytes())

    def test_tokenizer_alone(self):
        alone = self.folder / "alone"
        alone.mkdir()
        shutil.copy(DEMO / "tokenizer.json", alone)
        text = "Naïve  café, 12 o'clock\n\n".encode()
        ids = self.ssmq("tokenize", "--model", alone, stdin=text).stdout
        self.assertEqual(self.ssmq("tokenize", "--model", alone, "--decode", stdin=ids).stdout,
                         text)

    def test_nothing(self):
        self.assertEqual(self.output("tokenize", "--model", DEMO), "")
        self.assertEqual(self.output("tokenize", "--model", DEMO, "--decode", stdin=b" \n"), "")

    def test_bad_input(self):
        command = ["tokenize", "--model", DEMO]
        self.refused("tokenize", says="--model is missing")
        self.refused("tokenize", "--model", self.cwd, says="tokenizer.json")
        self.refused(*command, self.folder / "none", says="none: No such file or directory")
        self.refused(*command, self.folder, says="Is a directory")
        self.refused(*command, "a", "b", says="b: one FILE is enough")
        self.refused(*command, stdin=b"abc\xff", says="standard input: not UTF-8 at byte 3")
        for text, says in [("1 2\n3 x\n", ":2: 'x' is not a token id"),
                           ("1\n-2\n", ":2: '-2'"), ("1\n\n2.5", ":3: '2.5'"), ("0x1", "'0x1'"),
                           ("99999999999999999999", "'99999999999999999999'"),
                           ("2147483648", "is not a token id from 0 to 2147483647"),
                           ("1\0002", ":1: '1?2'")]:
            self.refused(*command, "--decode", self.write("ids", text),
                         says=[str(self.folder / "ids"), says])


class Score(CommandTest):
    COMMAND = ["score", "--model", DEMO, "--text", TEXT, "--device", "cpu"]

    def summary(self, *arguments):
        return json.loads(self.output(*self.COMMAND, "--summary", *arguments))

    def test_references(self):
        for protocol, nll_sum, n_tokens in [
            (["--protocol", "stream"], 3348.164670667499, 999),
            (["--protocol", "disjoint", "--seq-len", 256], 2634.4158363878832, 765),
            (["--protocol", "sliding", "--seq-len", 256, "--stride", 128], 3365.00903952421, 999),
        ]:
            with self.subTest(protocol=protocol):
                found = self.summary("--max-tokens", 1000, *protocol)
                self.assertEqual(found["n_tokens"], n_tokens)
                self.assertLess(abs(found["nll_sum"] / nll_sum - 1), 1e-5)
                self.assertAlmostEqual(found["ppl"], math.exp(found["nll_sum"] / n_tokens), 9)
                self.assertEqual(found["protocol"], protocol[1])
                self.assertEqual(found["stride"], 128 if protocol[1] == "sliding" else None)
                self.assertEqual(found["precision"], "fp32")
                self.assertEqual(found["scope"], "none")
                self.assertEqual(found["device"], "cpu")
                self.assertEqual(found["text_sha256"],
                                 hashlib.sha256(TEXT.read_bytes()).hexdigest())

    def test_lines(self):
        lines = self.output(*self.COMMAND, "--max-tokens", 1000).splitlines()
        rows = [line.split("\t") for line in lines]
        self.assertEqual([int(row[0]) for row in rows], list(range(1, 1000)))
        self.assertEqual([int(row[1]) for row in rows[:11]], FIRST_IDS[1:])
        for row, nll in zip(rows, [3.845145, 3.706545, 3.330888, 5.431829, 1.579656, 1.861884]):
            self.assertLess(abs(float(row[2]) - nll), 2e-4)
        self.assertTrue(all(len(row[2].replace(".", "").lstrip("0").partition("e")[0]) <= 9
                            for row in rows))
        summary = self.summary("--max-tokens", 1000)
        self.assertLess(abs(sum(float(row[2]) for row in rows) - summary["nll_sum"]), 1e-4)

    def test_ids_are_the_text(self):
        ids = self.output("tokenize", "--model", DEMO, TEXT).split()[:300]
        path = self.write("ids", " ".join(ids))
        from_ids = self.output("score", "--model", DEMO, "--ids", path, "--device", "cpu")
        self.assertEqual(from_ids, self.output(*self.COMMAND, "--max-tokens", 300))
        piped = self.output("score", "--model", DEMO, "--ids", "-", "--device", "cpu",
                            stdin=path.read_bytes())
        self.assertEqual(from_ids, piped)

    def test_threads_and_batches_change_nothing(self):
        arguments = [*self.COMMAND, "--max-tokens", 600, "--protocol", "disjoint", "--seq-len", 128]
        one = self.output(*arguments, "--threads", 1)
        self.assertEqual(one, self.output(*arguments, "--threads", 2))
        self.assertEqual(one, self.output(*arguments, "--batch-size", 4))
        self.assertEqual(len(one.splitlines()), 4 * 127)

    def test_precisions(self):
        """Rough sizes of the loss: w8a8 is close to bf16, w4a4 is not, and scope counts."""
        def nll(*arguments):
            return self.summary("--max-tokens", 512, *arguments)["nll_mean"]
        base = nll("--precision", "bf16")
        self.assertLess(abs(nll("--precision", "w8a8") - base), 0.05)
        worst = nll("--precision", "w4a4")
        self.assertGreater(worst, base + 0.1)
        part = nll("--precision", "w4a4", "--scope", "only:0.out_proj")
        self.assertLess(part, worst)
        self.assertNotEqual(part, base)
        self.assertEqual(nll("--precision", "w4a4", "--scope", "none"), base)

    def test_random_model(self):
        ids = self.write("ids", " ".join(str(i % 256) for i in range(64)))
        text = self.output("score", "--model", "random:mamba2-tiny", "--ids", ids)
        self.assertEqual(len(text.splitlines()), 63)

    def test_bad_input(self):
        score = ["score", "--model", DEMO]
        text = ["--text", TEXT]
        none = self.folder / "none"
        for arguments, says in [
            (["score", *text], "--model is missing"),
            (score, "--text or --ids is missing"),
            ([*score, *text, "--ids", none], "--text and --ids: only one can be scored"),
            ([*score, "--text", none], [str(none), "No such file or directory"]),
            ([*score, "--ids", none], [str(none), "No such file or directory"]),
            ([*score, "--text", self.write("empty", "")], "empty: 0 tokens; scoring needs 2"),
            ([*score, "--ids", self.write("one", "5\n")], "one: 1 tokens; scoring needs 2"),
            ([*score, "--text", self.write("bad", b"ab\xc0c")], "bad: not UTF-8 at byte 2"),
            ([*score, "--ids", self.write("big", "1\n2 4096")],
             "big:2: '4096' is not a token id from 0 to 4095"),
            ([*score, "--ids", self.write("nan", "1 nan")], "nan:1: 'nan' is not a token id"),
            (["score", "--model", none, *text], str(none)),
            (["score", "--model", "random:mamba2-tiny", *text], "has no tokenizer"),
            ([*score, *text, "--precision", "w3a3"], ["w3a3", "w8a8"]),
            ([*score, *text, "--scope", "some"], "some"),
            ([*score, *text, "--precision", "w8a8", "--scope", "only:8.in_proj"], "8"),
            ([*score, *text, "--device", "tpu"], ["tpu", "cpu"]),
            ([*score, *text, "--protocol", "weekly"],
             "--protocol: 'weekly' is no protocol; allowed are disjoint, sliding, stream, rolling, "
             "half_window"),
            ([*score, *text, "--stride", 8], "--stride: only sliding has one, not stream"),
            ([*score, *text, "--protocol", "sliding", "--seq-len", 64, "--stride", 65],
             "--stride: '65' is not an integer from 1 to 64"),
            ([*score, *text, "--seq-len", 1], "--seq-len: '1' is not an integer from 2"),
            ([*score, *text, "--batch-size", "nan"], "--batch-size: 'nan' is not an integer"),
            ([*score, *text, "--threads", 0], "--threads: '0' is not an integer from 1"),
            ([*score, *text, "--max-tokens", "1e3"], "--max-tokens: '1e3' is not an integer"),
            ([*score, *text, "--protocol", "disjoint", "--seq-len", 100000],
             "55978 tokens are too few for a window of 100000 (disjoint)"),
            ([*score, *text, "more"], "more: unexpected argument"),
            ([*score, *text, "--summary", "--summary"], "--summary: given twice"),
        ]:
            with self.subTest(arguments=arguments):
                self.refused(*arguments, says=says)

    def test_cuda_without_a_gpu(self):
        if "cuda devices       0" not in self.output("info"):
            self.skipTest("this machine has a GPU")
        self.refused(*self.COMMAND[:-1], "cuda", says="cuda")

    def test_damaged_checkpoint(self):
        broken = self.folder / "broken"
        shutil.copytree(DEMO, broken)
        weights = broken / "model.safetensors"
        os.truncate(weights, weights.stat().st_size - 7)
        self.refused("score", "--model", broken, "--text", TEXT, says=str(weights))


class Generate(CommandTest):
    COMMAND = ["generate", "--model", DEMO, "--device", "cpu"]
    # Greedy by Transformers.
    PROMPT = "The old man looked at the sea and"
    IDS = [877, 261, 1312, 14, 199, 199, 2, 41, 1233, 350, 1018, 281, 301, 259, 2201, 453, 293,
           423, 14, 390, 41, 1233, 350, 259]
    AFTER = " saw the sea.\n\n\"I'm not going to be a fool,\" he said. \"I'm not a"
    AFTER_NOTHING = ("I\n\n\"I am a man of the world,\" said the man, \"and I am a man of the")

    def test_greedy(self):
        command = [*self.COMMAND, "--prompt", self.PROMPT, "-n", 24]
        self.assertEqual(self.output(*command), self.AFTER + "\n")
        self.assertEqual(self.output(*command, "--ids").split(), [str(i) for i in self.IDS])

    def test_length(self):
        command = [*self.COMMAND, "--prompt", self.PROMPT, "--ids", "--n-tokens"]
        self.assertEqual(self.output(*command, 1).split(), ["877"])
        self.assertEqual(self.output(*command, 5).split(), [str(i) for i in self.IDS[:5]])

    def test_empty_prompt_feeds_id_0(self):
        self.assertEqual(self.output(*self.COMMAND, "--prompt", "", "-n", 24),
                         self.AFTER_NOTHING + "\n")

    def test_precision(self):
        text = self.output(*self.COMMAND, "--prompt", self.PROMPT, "-n", 8, "--precision", "w8a8")
        self.assertGreater(len(text), 8)

    def test_end_of_text_ends(self):
        """With an end-of-text id that the model is about to choose, generation stops before it."""
        other = self.folder / "other"
        shutil.copytree(DEMO, other)
        config = json.loads((other / "config.json").read_text())
        config["eos_token_id"] = self.IDS[3]
        (other / "config.json").write_text(json.dumps(config))
        self.assertEqual(self.output("generate", "--model", other, "--prompt", self.PROMPT),
                         " saw the sea\n")

    def test_bad_input(self):
        prompt = ["--prompt", "a"]
        for arguments, says in [
            (self.COMMAND, "--prompt is missing"),
            (["generate", *prompt], "--model is missing"),
            ([*self.COMMAND, *prompt, "-n", 0], "--n-tokens: '0' is not an integer from 1"),
            ([*self.COMMAND, "--prompt", b"a\xff".decode("utf-8", "surrogateescape")],
             "--prompt: not UTF-8 at byte 1"),
            (["generate", "--model", "random:mamba2-tiny", *prompt], "has no tokenizer"),
            (["generate", "--model", self.cwd, *prompt], "tokenizer.json"),
            ([*self.COMMAND, *prompt, "b"], "b: unexpected argument"),
            ([*self.COMMAND, *prompt, "--precision", "int8"], "int8"),
        ]:
            with self.subTest(arguments=arguments):
                self.refused(*arguments, says=says)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


class Runs(SweepTest):
    """show and export on run folders of the null engine."""
    NOTES = "it's 5 \"o'clock\"; DROP TABLE trials; -- a,b|c\\"

    def refused(self, *arguments, says):
        done = self.ssmq(*arguments, expect=2)
        self.assertEqual(done.stdout, "")
        self.assertEqual(len(done.stderr.splitlines()), 1, done.stderr)
        self.assertTrue(done.stderr.startswith(f"ssmq {arguments[0]}: "), done.stderr)
        self.assertIn(says, done.stderr)

    def run_with_a_fault(self):
        quoted = self.NOTES.replace("'", "''")
        return self.sweep_dir(*NULL, "--set", "model.null_script='oom@precision=w8a8'", "--set",
                              f"sweep.notes='{quoted}'", expect=3)

    def test_show(self):
        run = self.run_with_a_fault()
        before = contents(run)
        text = self.ssmq("show", run).stdout
        self.assertEqual(contents(run), before)
        found = records(run)
        n_failed = sum(record["status"] == "oom" for record in found.values())
        self.assertGreater(n_failed, 0)
        self.assertIn("state     complete\n", text)
        self.assertRegex(text, rf"trials    {len(found)} of {len(found)} finished, "
                               rf"{len(found) - n_failed} ok, {n_failed} oom\n")
        self.assertIn(f"run       {run.name}\n", text)
        for record in found.values():
            if record["status"] != "ok":
                self.assertIn(f"oom  {record['trial_key']}: {record['status_reason']}\n", text)
            elif record["task"] == "ppl":
                self.assertIn(f"{record['ppl']:.4f}", text)
            elif record["task"] == "passkey":
                self.assertIn(f"{record['accuracy']:.3f}", text)
            else:
                self.assertIn(f"{record['prefill_tokens_per_s']:.1f}", text)
        tables = text.split("\n\n")
        self.assertEqual([t.split()[0] for t in tables[1:4]], ["ppl", "passkey", "profile"])
        for table in tables[1:4]:
            head, *rows = table.splitlines()[1:]
            column = head.split().index("precision")
            names = [row.split()[column] for row in rows]
            self.assertIn(names, [["bf16", "w8a8"] * (len(names) // 2)])
            self.assertEqual(len({len(row.split()) for row in [head, *rows]}), 1, table)

    def test_show_of_an_unfinished_run(self):
        slow = [*NULL, "--set", "model.null_script='delay:300ms'", "--run-id", "slow"]
        sweep = self.start(*slow, ranks=1)
        run = self.out / "slow"
        self.assertTrue(wait_for(lambda: acknowledged(run)))
        text = self.ssmq("show", run).stdout
        self.assertIn("state     running, ", text)
        self.assertNotIn("state     complete", text)
        self.assertEqual(sweep.wait(timeout=120), 0)
        self.assertIn("state     complete", self.ssmq("show", run).stdout)
        part = self.sweep_dir(*NULL, "--only", "task=ppl")
        text = self.ssmq("show", part).stdout
        self.assertIn(f"state     stopped early; ssmq-sweep --resume {part} goes on\n", text)

    def test_export_json_lines(self):
        run = self.run_with_a_fault()
        before = contents(run)
        lines = self.ssmq("export", run, "--format", "jsonl").stdout
        self.assertEqual(lines, (run / "metrics.jsonl").read_text())
        self.assertEqual(self.ssmq("export", run / "results.h5", "-f", "jsonl").stdout, lines)
        some = self.ssmq("export", run, "--format", "jsonl", "--task", "passkey").stdout
        self.assertEqual(some.splitlines(),
                         [l for l in lines.splitlines() if json.loads(l)["task"] == "passkey"])
        self.assertEqual(contents(run), before)

    def test_export_csv(self):
        run = self.run_with_a_fault()
        rows = list(csv.DictReader(io.StringIO(self.ssmq("export", run, "-f", "csv").stdout)))
        found = list(records(run).values())
        self.assertEqual(len(rows), len(found))
        for row, record in zip(rows, found):
            self.assertEqual(list(row), list(KINDS))
            for name, value in record.items():
                if isinstance(value, str) or value is None:
                    self.assertEqual(row[name], value or "")
                else:
                    self.assertEqual(float(row[name]), value)

    def test_export_sql(self):
        run = self.run_with_a_fault()
        database = sqlite3.connect(":memory:")
        database.row_factory = sqlite3.Row
        database.executescript(self.ssmq("export", run, "--format", "sql").stdout)
        rows = [dict(row) for row in database.execute("SELECT * FROM trials")]
        self.assertEqual(rows, list(records(run).values()))
        self.assertEqual({row["notes"] for row in rows}, {self.NOTES})

    def test_export_markdown(self):
        run = self.run_with_a_fault()
        text = self.ssmq("export", run, "--format", "md", "--task", "ppl").stdout
        title, blank, head, rule, *rows = text.splitlines()
        self.assertEqual((title, blank), ("### ppl (perplexity)", ""))
        found = [r for r in records(run).values() if r["task"] == "ppl"]
        self.assertEqual(len(rows), len(found))
        self.assertEqual(len({line.count("|") for line in [head, rule, *rows]}), 1)
        self.assertIn("| precision |", head)
        self.assertTrue(any(f"{found[0]['ppl']:.4f}" in row for row in rows))

    def test_bad_input(self):
        none = self.out / "none"
        empty = self.out.parent / "empty"
        empty.mkdir()
        text = self.out.parent / "text.h5"
        text.write_text("no HDF5")
        for arguments, says in [
            (["show"], "RUN is missing"),
            (["show", none], f"{none}: no such run folder"),
            (["show", empty], f"{empty}: not a run folder (it has no plan.csv)"),
            (["show", empty, none], "one RUN is enough"),
            (["show", none, "--watch", "1"], f"{none}: no such run folder"),
            (["show", empty, "--watch", "1"],
             f"{empty}: not a run folder (it has no plan.csv)"),
            (["show", empty, "--watch", "0"], "--watch"),
            (["export", "-f", "csv"], "RUN is missing"),
            (["export", none, "-f", "csv"], f"{none}: no such run folder or results file"),
            (["export", empty, "-f", "sql"], f"{empty}: not a run folder (it has no plan.csv)"),
            (["export", text, "-f", "sql"], str(text)),
            (["export", empty], "--format is missing; allowed are md, csv, jsonl, sql"),
            (["export", empty, "-f", "xml"],
             "--format: 'xml' is no format; allowed are md, csv, jsonl, sql"),
            (["export", empty, "-f", "csv", "--task", "sing"],
             "--task: 'sing' is no task; allowed are ppl, passkey, profile"),
            (["merge", empty], f"{empty}: not a run folder (it has no plan.csv)"),
        ]:
            with self.subTest(arguments=arguments):
                self.refused(*arguments, says=says)
        self.assertEqual(list(empty.iterdir()), [])


if __name__ == "__main__":
    unittest.main()
