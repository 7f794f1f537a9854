# SPDX-License-Identifier: Apache-2.0
"""No file is too long to be read at a sitting; clang-tidy looks at functions."""
import sources

MOST_LINES = {".c": 600, ".cu": 600, ".py": 600, ".sh": 600, ".h": 200, ".cuh": 200}


def main():
    top, faults = sources.root(), []
    for name in sources.files(top, *MOST_LINES):
        n_lines, most = sources.read(top, name).count("\n"), MOST_LINES[name.suffix]
        if n_lines > most:
            faults.append(f"{name}: {n_lines} lines; allowed are {most}")
    sources.finish(faults, "sizes of files")


main()
