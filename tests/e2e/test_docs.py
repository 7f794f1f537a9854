# SPDX-License-Identifier: Apache-2.0
"""README.md against the code and the build: tables, paths, configurations, commands, test names.
Python's standard library alone."""
import json
import os
import pathlib
import re
import subprocess
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("SSMQ_BIN", ROOT / "build/dev/bin"))
BUILD = pathlib.Path(os.environ.get("SSMQ_BUILD", BIN.parent))
README = (ROOT / "README.md").read_text(encoding="utf-8")
RUNS_README = (ROOT / "runs/README.md").read_text(encoding="utf-8")
FOLDERS = "src|tests|configs|analysis|slurm|cmake"


def source(path):
    return (ROOT / path).read_text(encoding="utf-8")


def table(first_header):
    """Rows of the table whose first column has this header, without code marks."""
    rows, inside = [], False
    for line in README.splitlines():
        cells = [cell.strip().replace("\\|", "|").replace("`", "")
                 for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if not cells:
            inside = False
        elif cells[0] == first_header:
            inside = True
        elif inside and not set(cells[0]) <= {"-"}:
            rows.append(tuple(cells))
    return rows


def section(title):
    return re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.M | re.S).group(1)


def x_macro(path, name):
    """Arguments of each X(...) of a table in a header; texts without their quotes."""
    body = re.search(rf"#define {name}\(X\)(.*?)\n\n", source(path), re.S).group(1)
    body = body.replace("\\\n", "")
    rows = re.findall(r"X\((\w+), ((?:\"(?:[^\"\\]|\\.)*\"(?:,\s*)?)+)\)", body)
    return [(code, *re.findall(r"\"((?:[^\"\\]|\\.)*)\"", texts)) for code, texts in rows]


class Tables(unittest.TestCase):
    def test_exit_codes(self):
        code = source("src/cli/cli.h")
        found = re.findall(r"SSMQ_EXIT_\w+ = (\d),? +/\* (.*?) \*/", code)
        self.assertEqual(len(found), 5)
        self.assertEqual(table("exit code"), found)

    def test_statuses(self):
        found = [row[1:] for row in x_macro("src/base/status.h", "SSMQ_STATUS_TABLE")]
        self.assertGreater(len(found), 8)
        self.assertEqual(table("status"), found)

    def test_subcommands(self):
        found = [(f"ssmq {name}", usage, does) for name, usage, does
                 in x_macro("src/cli/commands.h", "SSMQ_COMMAND_TABLE")]
        self.assertGreater(len(found), 5)
        self.assertEqual(table("command"), found)
        for name, _, _ in found:
            done = subprocess.run([BIN / "ssmq", name.split()[1], "--help"], timeout=60,
                                  stdout=subprocess.DEVNULL)
            self.assertEqual(done.returncode, 0, name)

    def test_precisions(self):
        found = re.findall(r'^    \{"([a-z0-9-]+)", (?:SSMQ_\w+|-1), SSMQ_FORMAT_(\w+), '
                           r"SSMQ_FORMAT_(\w+)\}", source("src/quant/precision.c"), re.M)
        self.assertGreater(len(found), 8)
        groups = dict(re.findall(r'^    X\((\w+), "\w+", \d+, \d+, \w+, (\d+), "[^"]*"\)',
                                 source("src/quant/precision.h"), re.M))
        self.assertGreater(len(groups), 3)
        expected = {}
        for name, weights, activations in found:
            if weights == "FLOAT" and activations == "FLOAT":
                expected[name] = ("as named", "as named", "-")
            elif weights == "FLOAT":
                expected[name] = ("compute type", activations.lower(), "-")
            else:
                activations = "compute type" if activations == "FLOAT" else activations.lower()
                scales = ("one an output channel" if groups[weights] == "0" else
                          f"one for {groups[weights]} weights along K")
                expected[name] = (weights.lower(), activations, scales)
        rows = table("name")
        self.assertEqual({name: row[1:] for row in rows for name in row[0].split(", ")}, expected)

    def test_source_folders(self):
        folders = {f"src/{path.name}/" for path in (ROOT / "src").iterdir() if path.is_dir()}
        listed = {row[0] for row in table("folder")}
        self.assertEqual(listed, folders)

    def test_tasks(self):
        fields = set(re.findall(r"^    (?:STR|I64|F64)\(\w+, (\w+),",
                                source("src/record/record_fields.h"), re.M))
        rows = table("task")
        self.assertEqual([row[0] for row in rows], ["ppl", "passkey", "profile", "fidelity",
                                                    "drift"])
        for row in rows:
            for name in re.findall(r"[a-z]+(?:_[a-z]+)+|ppl|accuracy", row[2]):
                self.assertIn(name, fields)


class Names(unittest.TestCase):
    def test_paths_exist(self):
        found = set(re.findall(rf"(?<![\w/.])((?:{FOLDERS})/[\w./-]*\w/?|(?:{FOLDERS})/|"
                               r"runs/README\.md|LICENSE)", README + RUNS_README))
        self.assertGreater(len(found), 20)
        for path in sorted(found):
            with self.subTest(path=path):
                self.assertTrue((ROOT / path).exists(), path)

    def test_files_of_a_run(self):
        """Both lists of a run folder's files, and the figures, agree with the code."""
        code = "".join(path.read_text() for path in (ROOT / "src/cli").glob("*.c"))
        code += source("src/journal/journal.c")
        tree = section("What a run leaves, and where")
        for name in ("metrics.jsonl", "results.h5", "config_resolved.yaml", "plan.csv",
                     "provenance.json", "sweep.log", "lock"):
            self.assertIn(f'"{name}"', code)
            self.assertRegex(tree, rf"(?m)^  {re.escape(name)} ")
            self.assertIn(f"`{name}`", RUNS_README)
        drawn = set()
        for path in (ROOT / "analysis/ssmq_plots").glob("*.py"):
            for part in re.findall(r"^FIGURES = \{(.*?)\}", path.read_text(), re.M | re.S):
                drawn |= set(re.findall(r'"(\w+\.png)"', part))
        self.assertEqual(set(re.findall(r"`(\w+\.png)`", RUNS_README)), drawn)

    def test_configurations(self):
        named = set(re.findall(r"configs/[\w-]+\.yaml", README))
        listed = {row[0] for row in table("file") if row[0].startswith("configs/")}
        there = {f"configs/{path.name}" for path in (ROOT / "configs").glob("*.yaml")}
        self.assertEqual(listed, there)
        self.assertLessEqual(named, there)
        for path in sorted(there):
            with self.subTest(path=path):
                self.check("--config", path)

    def check(self, *arguments):
        done = subprocess.run([BIN / "ssmq", "check", *arguments], cwd=ROOT, timeout=60, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_settings(self):
        """Keys, scopes and precisions that the text names are what `ssmq check` takes."""
        keys = set(re.findall(r"(?:ONE|AXIS|LIST)\((\w+, \w+),",
                              source("src/config/config_keys.h")))
        sections = {key.split(", ")[0] for key in keys}
        for part, key in re.findall(r"(?<![\w/.-])([a-z]+)\.([a-z_]+)(?![\w/.(*])", README):
            if part in sections and key not in ("yaml", "py", "log", "png"):
                self.assertIn(f"{part}, {key}", keys, f"{part}.{key}")
        for scope in ["all", *re.findall(r"`((?:only|except):[^`]+)`", README)]:
            self.check("--config", "configs/quickstart.yaml", "--values-only", "--set",
                       f'sweep.scopes=["{scope}"]')
        written = re.findall(r"`(\{name: [^`]+\})`", README)
        names = re.findall(r"`((?:\w+:)?w\da\d+(?::\w+)?)`", README)
        self.assertTrue(written and names)
        for precision in [*written, *(f'"{name}"' for name in names)]:
            self.check("--config", "configs/quickstart.yaml", "--values-only", "--set",
                       f"sweep.precisions=[{precision}]")

    def test_options(self):
        """Every --option of the text belongs to a program that is called there."""
        known = ""
        commands = [[BIN / "ssmq", name] for name in
                    ("info", "check", "score", "plan", "tokenize", "generate", "bench", "show",
                     "merge", "export")]
        for command in [[BIN / "ssmq-sweep"], *commands]:
            known += subprocess.run([*command, "--help"], timeout=60, text=True,
                                    stdout=subprocess.PIPE).stdout
        known += "".join(source(f"analysis/{name}.py") for name in
                         ("make_plots", "make_report", "plan_bits"))
        others = {"--preset", "--workflow", "--build", "--local-dir", "--partition", "--time",
                  "--array", "--mpi"}
        for option in set(re.findall(r"(?<![\w-])--[a-z][a-z_-]+", README)) - others:
            self.assertRegex(known, rf"{option}\b(?!-)", option)

    def test_presets(self):
        presets = json.loads(source("CMakePresets.json"))
        for flags, kind in [("cmake --workflow", "workflowPresets"),
                            ("cmake", "configurePresets"), ("cmake --build", "buildPresets")]:
            known = {preset["name"] for preset in presets[kind]}
            for name in re.findall(rf"(?<![\w-]){flags} --preset (\w+)", README):
                self.assertIn(name, known, flags)

    def test_checklist_names_registered_tests(self):
        done = subprocess.run(["ctest", "--test-dir", BUILD, "--show-only=json-v1"], text=True,
                              stdout=subprocess.PIPE, check=True, timeout=60)
        registered = {test["name"] for test in json.loads(done.stdout)["tests"]}
        boxes = re.split(r"^- \[[ x]\] ", section("Week-1 checklist"), flags=re.M)[1:]
        self.assertEqual(len(boxes), 9)
        for box in boxes:
            names = re.findall(r"`([a-z0-9_]+)`", box)
            self.assertTrue(names, f"no test: {box}")
            for name in names:
                with self.subTest(test=name):
                    self.assertIn(name, registered)

    def test_requirements_are_pinned(self):
        lines = source("analysis/requirements.txt").splitlines()
        packages = [line for line in lines if line and not line.startswith("#")]
        self.assertGreater(len(packages), 6)
        for line in packages:
            self.assertRegex(line, r"^[A-Za-z0-9_.-]+==[0-9][\w.]*$")
        pinned = {line.split("==")[0].lower() for line in packages}
        imported = set()
        for path in [*(ROOT / "analysis").rglob("*.py"), ROOT / "tests/e2e/test_plots.py"]:
            imported |= set(re.findall(r"^\s*(?:import|from) (\w+)", path.read_text(), re.M))
        used = imported & {"h5py", "numpy", "pandas", "matplotlib", "xarray", "h5netcdf", "netCDF4"}
        self.assertLessEqual({name.lower() for name in used}, pinned)


if __name__ == "__main__":
    unittest.main()
