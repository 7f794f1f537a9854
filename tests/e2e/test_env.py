# SPDX-License-Identifier: Apache-2.0
"""slurm/env.sh where it may not install anything: one message names what is missing."""
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

from sweep_support import ROOT

TOOLS = "awk bash cat chmod dirname echo flock head id mkdir sed sha256sum sort xargs".split()
NOBODY = 65534


class EnvTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="ssmq-env-")
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        shutil.copytree(ROOT / "slurm", self.folder / "slurm")
        (self.folder / "bin").mkdir()
        for tool in TOOLS:
            (self.folder / "bin" / tool).symlink_to(shutil.which(tool))
        if os.getuid() == 0:
            for path in (self.folder, *self.folder.rglob("*")):
                os.chown(path, NOBODY, NOBODY, follow_symlinks=False)

    def add(self, name, text):
        path = self.folder / "bin" / name
        path.write_text(f"#!{shutil.which('bash')}\n{text}\n")
        path.chmod(0o755)

    def run_script(self, *command):
        """Runs as a user without rights who finds the tools in bin/ alone."""
        user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
        return subprocess.run([str(self.folder / "bin/bash"), *command], cwd=self.folder, text=True,
                              env={"PATH": str(self.folder / "bin")}, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, **user)

    def missing(self, tools):
        done = self.run_script("-c", f". slurm/env.sh; ssmq_env_tools {tools}")
        self.assertEqual(done.returncode, 1, done.stderr)
        line = done.stderr.splitlines()[0]
        self.assertTrue(line.startswith("env: missing: "), done.stderr)
        return line.split()[2:], done.stderr

    def test_names_everything_at_once(self):
        names, text = self.missing("run test")
        self.assertLess({"cmake", "mpicc", "hdf5", "openblas", "python", "cmocka"}, set(names))
        self.assertRegex(text, r"apt-get install .*libhdf5-dev .*libopenmpi-dev")
        self.assertRegex(text, r"module load .*hdf5 .*openmpi")

    def test_a_run_needs_no_test_tools(self):
        names, _ = self.missing("run")
        self.assertNotIn("cmocka", names)
        self.assertNotIn("tidy", names)

    def test_old_cmake_is_missing(self):
        self.add("cmake", "echo cmake version 3.22.1")
        self.assertIn("cmake", self.missing("run")[0])
        self.add("cmake", "echo cmake version 3.100.0")
        self.assertNotIn("cmake", self.missing("run")[0])

    def test_week1_stops_before_it_builds(self):
        done = self.run_script("slurm/week1.sh")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("env: missing: ", done.stderr)
        self.assertNotIn("building", done.stderr)

    def test_venv_is_kept_while_its_requirements_stay(self):
        (self.folder / "analysis").mkdir()
        (self.folder / "analysis/requirements.txt").write_text("")
        # A python whose virtual environments count how often they were made.
        self.add("python3", 'if [ "$2" = venv ]; then mkdir -p .venv/bin && echo made >>made &&\n'
                 'echo "#!$BASH" >.venv/bin/python && chmod +x .venv/bin/python; fi')
        make = ("-c", "set -eu; . slurm/env.sh; ssmq_env_venv; ssmq_env_venv")
        done = self.run_script(*make)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((self.folder / "made").read_text(), "made\n")
        (self.folder / "analysis/requirements.txt").write_text("numpy==2.4.6\n")
        done = self.run_script(*make)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((self.folder / "made").read_text(), "made\nmade\n")


if __name__ == "__main__":
    unittest.main()
