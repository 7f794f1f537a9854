# SPDX-License-Identifier: Apache-2.0
"""Runs the built programs and reads what they leave; shared by the e2e tests."""
import json
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time
import unittest

BIN = pathlib.Path(os.environ.get("SSMQ_BIN", "build/dev/bin"))
ROOT = pathlib.Path(__file__).resolve().parents[2]
MPIRUN = ["mpirun", "--allow-run-as-root", "--oversubscribe"]


def field_kinds():
    """{field: kind} from the one field table."""
    text = (ROOT / "src/record/record_fields.h").read_text()
    found = re.findall(r"^\s+(?:STR|I64|F64)\((\w+), (\w+),", text, re.MULTILINE)
    return {name: kind for kind, name in found}


KINDS = field_kinds()
# What may not differ between two runs of one configuration.
FIXED = [name for name, kind in KINDS.items()
         if kind in ("RESULT", "SETTING", "IDENTITY") and name != "run_id"]


def records(run_dir):
    """{trial_id: record} of metrics.jsonl."""
    lines = (pathlib.Path(run_dir) / "metrics.jsonl").read_text().splitlines()
    return {record["trial_id"]: record for record in map(json.loads, lines)}


_CRC_TABLE = []
for byte in range(256):
    for _ in range(8):
        byte = byte >> 1 ^ (0x82f63b78 if byte & 1 else 0)
    _CRC_TABLE.append(byte)


def crc32c(data):
    """Of a journal's line: RFC 3720, appendix B.4."""
    crc = 0xffffffff
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xff]
    return crc ^ 0xffffffff


def fixed_part(run_dir):
    return {key: {name: record[name] for name in FIXED}
            for key, record in records(run_dir).items()}


def acknowledged(run_dir):
    """Ids of the trials whose finished line is whole in some journal."""
    done = set()
    for path in pathlib.Path(run_dir).glob("journal.*.jsonl"):
        for line in path.read_bytes().split(b"\n")[:-1]:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if event["event"] == "finished":
                done.add(event["trial_id"])
    return done


class SweepTest(unittest.TestCase):
    maxDiff = 2000

    def setUp(self):
        self._folder = tempfile.TemporaryDirectory(prefix="ssmq-e2e-")
        self.addCleanup(self._folder.cleanup)
        self.out = pathlib.Path(self._folder.name) / "runs"

    def command(self, arguments, ranks=1):
        launcher = [] if ranks == 0 else MPIRUN + ["-np", str(ranks)]
        return launcher + [str(BIN / "ssmq-sweep"), *map(str, arguments)]

    def sweep(self, *arguments, ranks=1, expect=0, timeout=300, **popen):
        """Runs ssmq-sweep and returns the finished process; ranks=0 leaves mpirun out."""
        command = self.command(["--out", self.out, *arguments], ranks)
        done = subprocess.run(command, cwd=ROOT, timeout=timeout, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, **popen)
        self.assertEqual(done.returncode, expect, done.stdout + done.stderr)
        return done

    def sweep_dir(self, *arguments, **options):
        done = self.sweep(*arguments, **options)
        return pathlib.Path(done.stdout.strip().splitlines()[-1])

    def start(self, *arguments, ranks=2):
        """Starts a sweep in a process group of its own."""
        command = self.command(["--out", self.out, *arguments], ranks)
        return subprocess.Popen(command, cwd=ROOT, start_new_session=True,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def ssmq(self, *arguments, expect=0, **options):
        done = subprocess.run([str(BIN / "ssmq"), *map(str, arguments)], cwd=ROOT, timeout=300,
                              text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
        self.assertEqual(done.returncode, expect, done.stdout + done.stderr)
        return done

    def assert_same_results(self, run_a, run_b):
        a, b = fixed_part(run_a), fixed_part(run_b)
        self.assertEqual(sorted(a), sorted(b))
        for key in a:
            self.assertEqual(a[key], b[key])

    def assert_readable(self, run_dir):
        """results.h5 opens and every checksum in it holds."""
        path = pathlib.Path(run_dir) / "results.h5"
        done = subprocess.run(["h5dump", str(path)], stdout=subprocess.DEVNULL,
                              stderr=subprocess.PIPE, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)


def children_of(pid):
    """Processes below pid, from /proc."""
    found, todo = [], [pid]
    while todo:
        parent = todo.pop()
        try:
            tasks = pathlib.Path(f"/proc/{parent}/task").iterdir()
            for task in tasks:
                for child in (task / "children").read_text().split():
                    found.append(int(child))
                    todo.append(int(child))
        except OSError:
            continue
    return found


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def wait_for(condition, timeout_s=30.0):
    """Polls until condition() is true; returns whether it came true."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False
