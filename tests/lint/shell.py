# SPDX-License-Identifier: Apache-2.0
"""shellcheck finds nothing in the shell scripts."""
import shutil
import subprocess

import sources


def main():
    top = sources.root()
    if shutil.which("shellcheck") is None:
        sources.skip("shellcheck is not installed")
    names = [str(name) for name in sources.files(top, ".sh")]
    names += [name for name in (".ci/run",) if (top / name).is_file()]
    done = subprocess.run(["shellcheck", "-x", *names], cwd=top, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    sources.finish([done.stdout.rstrip()] if done.returncode else [], "shellcheck")


main()
