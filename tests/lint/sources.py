# SPDX-License-Identifier: Apache-2.0
"""What the lint checks share: the files of the project, C text without comments and literals, and
how a check ends. Every check is a program: NAME.py [ROOT], ROOT being the tree it looks at."""
import pathlib
import re
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
SKIPPED = 77
# Folders at the top of a tree without git that hold what builds and runs leave.
LEFT_BEHIND = {".deps", ".git", ".venv", "build", "runs"}

_BLANKED = re.compile(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)


def root():
    return pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else HERE.parents[1]).resolve()


def files(top, *suffixes):
    """Files of the project with one of the suffixes, as paths relative to top, sorted: what git
    has or would add, or in a tree without git every file but what builds and runs leave."""
    if (top / ".git").exists():
        # The tree may belong to another user, as in a container.
        listing = subprocess.run(["git", "-c", "safe.directory=*", "-C", str(top), "ls-files", "-z",
                                  "--cached", "--others", "--exclude-standard"], check=True,
                                 stdout=subprocess.PIPE).stdout.decode().split("\0")
        names = {pathlib.PurePosixPath(name) for name in listing if name}
    else:
        names = {pathlib.PurePosixPath(path.relative_to(top).as_posix())
                 for path in top.rglob("*") if path.is_file()}
        names = {name for name in names if name.parts[0] not in LEFT_BEHIND}
    return sorted(name for name in names if name.suffix in suffixes and (top / name).is_file())


def read(top, name):
    try:
        return (top / name).read_text(encoding="utf-8")
    except UnicodeDecodeError as fault:
        finish([f"{name}: byte {fault.start} is not UTF-8"], "encoding")


def code(text):
    """C text with comments, strings and characters blanked; lines keep their numbers."""
    return _BLANKED.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def table(path):
    """Rows of a table file as lists of words."""
    lines = (line.split("#")[0].split() for line in path.read_text().splitlines())
    return [words for words in lines if words]


def finish(faults, what):
    """Prints the faults and ends the check."""
    for fault in faults:
        print(fault)
    print(f"{what}: {len(faults)} faults" if faults else f"{what}: none")
    sys.exit(1 if faults else 0)


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)
