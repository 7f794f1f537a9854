# SPDX-License-Identifier: Apache-2.0
"""clang-tidy with the checks of .clang-tidy over every C source of the build in SSMQ_BUILD."""
import concurrent.futures
import json
import os
import pathlib
import shutil
import subprocess

import sources


def look(build, path):
    done = subprocess.run(["clang-tidy", "--quiet", f"-p={build}", path], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if done.returncode == 0:
        return None
    return done.stdout.rstrip() or f"{path}: {done.stderr.rstrip()}"


def main():
    top = sources.root()
    if shutil.which("clang-tidy") is None:
        sources.skip("clang-tidy is not installed")
    build = pathlib.Path(os.environ.get("SSMQ_BUILD", "build/dev")).resolve()
    entries = json.loads((build / "compile_commands.json").read_text())
    ours = {str(top / name) for name in sources.files(top, ".c")}
    paths = sorted({entry["file"] for entry in entries} & ours)
    if not paths:
        sources.finish([f"{build}: builds no source of {top}"], "clang-tidy")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        faults = [fault for fault in pool.map(lambda path: look(build, path), paths) if fault]
    sources.finish(faults, f"clang-tidy over {len(paths)} files")


main()
