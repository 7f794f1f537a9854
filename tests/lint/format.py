# SPDX-License-Identifier: Apache-2.0
"""C and CUDA sources are as clang-format 14 would write them."""
import shutil
import subprocess

import sources


def main():
    top = sources.root()
    if shutil.which("clang-format") is None:
        sources.skip("clang-format is not installed")
    style = sources.HERE.parents[1] / ".clang-format"
    names = sources.files(top, ".c", ".h", ".cu", ".cuh")
    done = subprocess.run(["clang-format", f"--style=file:{style}", "--dry-run", "-Werror",
                           *(str(top / name) for name in names)],
                          text=True, stderr=subprocess.PIPE)
    faults = [line for line in done.stderr.splitlines() if " error: " in line]
    if done.returncode != 0 and not faults:
        faults = [done.stderr.rstrip()]
    sources.finish(faults, f"clang-format over {len(names)} files")


main()
