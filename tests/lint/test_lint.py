# SPDX-License-Identifier: Apache-2.0
"""Every lint check finds a planted fault, and nothing in the same tree without it."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent

CLEAN = {
    "src/base/clean.h": "#ifndef SSMQ_BASE_CLEAN_H\n#define SSMQ_BASE_CLEAN_H\n\n"
                        "#include <stddef.h>\n\nsize_t clean(void);\n\n#endif\n",
    "src/base/clean.c": '#include "base/clean.h"\n\nsize_t clean(void) {\n    return 1;\n}\n',
    "src/config/read.c": "#include <yaml.h>\n\n#include \"base/clean.h\"\n",
    "tests/run.sh": "#!/usr/bin/env bash\necho \"$0\"\n",
}
TODO = "TO" + "DO"


class LintTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="ssmq-lint-")
        self.addCleanup(folder.cleanup)
        self.top = pathlib.Path(folder.name).resolve()
        for name, text in CLEAN.items():
            self.write(name, text)

    def write(self, name, text):
        path = self.top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run_check(self, check):
        return subprocess.run(
            [sys.executable, "-B", str(HERE / f"{check}.py"), str(self.top)], text=True,
            env={**os.environ, "SSMQ_BUILD": str(self.top / "build")},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def assert_clean(self, check):
        done = self.run_check(check)
        self.assertEqual(done.returncode, 0, done.stdout)

    def assert_found(self, check, name, text, expected):
        self.assert_clean(check)
        self.write(name, text)
        done = self.run_check(check)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn(expected, done.stdout)

    def need(self, program):
        if shutil.which(program) is None:
            self.skipTest(f"{program} is not installed")

    def test_include_against_the_layers(self):
        self.assert_found("layers", "src/base/up.c", '\n#include "config/config.h"\n',
                          'src/base/up.c:2: base may not include "config/config.h"')

    def test_engine_behind_its_interface(self):
        self.assert_found("layers", "src/cli/peek.c", '#include "engine/cpu/cpu.h"\n',
                          'src/cli/peek.c:1: cli may not include "engine/cpu/cpu.h"')

    def test_folder_without_a_row(self):
        self.assert_found("layers", "src/misc/a.c", '#include "base/clean.h"\n',
                          "the folder misc has no row")

    def test_header_away_from_home(self):
        self.assert_found("layers", "src/base/up.c", "#include <mpi.h>\n",
                          "<mpi.h> belongs to src/comm alone")

    def test_header_without_a_home(self):
        self.assert_found("layers", "src/base/up.c", "#include <zlib.h>\n",
                          "<zlib.h> has no home")

    def test_number_format_away_from_home(self):
        self.write("src/quant/a.c", "int a = SSMQ_FORMAT_INT8;\n")
        self.assert_found("banned", "src/config/a.c", "/* SSMQ_FORMAT_INT8 */\n"
                          "int a = SSMQ_FORMAT_FLOAT, b = SSMQ_FORMAT_INT8;\n",
                          "src/config/a.c:2: SSMQ_FORMAT_INT8 is banned here")

    def test_banned_call(self):
        self.assert_found("banned", "src/base/a.c", "/* atoi(x) */\nint a(const char *s) {\n"
                          "    return atoi(s) + f(\"atoi(s)\");\n}\n",
                          "src/base/a.c:3: atoi is banned here\nbanned calls and words: 1 faults")

    def test_call_away_from_home(self):
        self.assert_found("banned", "src/model/a.c", "void *a(void) {\n    return malloc(1);\n}\n",
                          "src/model/a.c:2: malloc is banned here")

    def test_standard_output_outside_cli(self):
        self.assert_found("banned", "src/base/a.c", 'void a(void) {\n    fputs("", stdout);\n}\n',
                          "src/base/a.c:2: stdout is banned here")

    def test_excused_call(self):
        self.write("src/base/a.c", "void a(void) {\n    abort(); /* lint: allow abort */\n}\n")
        self.assert_clean("banned")

    def test_idle_excuse(self):
        self.assert_found("banned", "src/base/a.c", "int a; /* lint: allow abort */\n",
                          "'lint: allow abort' excuses nothing")

    def test_unfinished_work(self):
        self.write("src/base/a.c", f"/* {TODO}(#12): later */\n")
        self.assert_found("banned", "src/base/b.c", f"/* {TODO}: later */\n",
                          "without the number of its issue")

    def test_machine_path(self):
        self.assert_found("banned", "analysis/a.py", "PATH = '/ho" "me/me/runs'\n",
                          "analysis/a.py:1: a path of somebody's machine")

    def test_encoding(self):
        self.assert_clean("banned")
        (self.top / "README.md").write_bytes(b"caf\xe9\n")
        done = self.run_check("banned")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("README.md: byte 3 is not UTF-8", done.stdout)

    def git(self, *words):
        subprocess.run(["git", "-C", str(self.top), *words], check=True, stdout=subprocess.PIPE)

    def test_new_files_count_and_ignored_ones_do_not(self):
        self.git("init", "-q")
        self.write(".gitignore", "/ours.c\n")
        self.write("ours.c", "\n" * 601)
        self.assert_found("sizes", "src/base/a.c", "\n" * 601, "src/base/a.c: 601 lines")

    def test_leftovers_of_a_tree_without_git(self):
        self.write(".venv/lib/a.py", "\n" * 601)
        self.write("build/dev/a.c", "\n" * 601)
        self.assert_found("sizes", "src/base/a.c", "\n" * 601, "sizes of files: 1 faults")

    def test_tree_of_another_user(self):
        if os.getuid() != 0:
            self.skipTest("only root can give a tree away")
        self.git("init", "-q")
        for path in (self.top, *self.top.rglob("*")):
            os.chown(path, 65534, 65534)
        self.assert_found("sizes", "src/base/a.c", "\n" * 601, "sizes of files: 1 faults")

    def test_long_file(self):
        self.write("src/base/a.c", "\n" * 600)
        self.assert_found("sizes", "src/base/b.c", "\n" * 601,
                          "src/base/b.c: 601 lines; allowed are 600")

    def test_long_header(self):
        self.assert_found("sizes", "src/base/a.h", "\n" * 201,
                          "src/base/a.h: 201 lines; allowed are 200")

    def test_header_that_needs_another(self):
        self.assert_found("headers", "src/base/a.h", "size_t a(void);\n",
                          "src/base/a.h: does not compile alone as c:")

    def test_header_that_is_not_cpp(self):
        self.assert_found("headers", "src/base/a.h", "int a(int *restrict p);\n",
                          "src/base/a.h: does not compile alone as c++:")

    def test_format(self):
        self.need("clang-format")
        self.assert_found("format", "src/base/a.c", "int  a;\n", "a.c:1:4: error:")

    def test_shell(self):
        self.need("shellcheck")
        self.assert_found("shell", "tests/a.sh", "#!/bin/sh\nrm $1\n", "SC2086")

    def compile_commands(self, *names):
        entries = [{"directory": str(self.top), "file": str(self.top / name),
                    "command": f"cc -I{self.top}/src -c {self.top / name}"} for name in names]
        self.write("build/compile_commands.json", json.dumps(entries))

    def test_tidy(self):
        self.need("clang-tidy")
        shutil.copy(HERE.parents[1] / ".clang-tidy", self.top)
        self.compile_commands("src/base/clean.c", "src/base/a.c")
        self.assert_found("tidy", "src/base/a.c",
                          "int a(int x);\n\nint a(int x) {\n    int *p = 0;\n"
                          "    return x > 0 ? *p : 0;\n}\n", "core.NullDereference")

    def test_tidy_of_nothing(self):
        self.need("clang-tidy")
        self.compile_commands()
        self.assertIn("builds no source", self.run_check("tidy").stdout)


if __name__ == "__main__":
    unittest.main()
