# SPDX-License-Identifier: Apache-2.0
"""Every header compiles alone, as C11 and as C++17, without a warning: CUDA sources are C++ and
include ssmq's headers. Compilers and include folders are those of the build in SSMQ_BUILD."""
import concurrent.futures
import json
import os
import pathlib
import subprocess

import sources

LANGUAGES = {"c": ["cc", "-xc", "-std=c11"], "c++": ["c++", "-xc++", "-std=c++17"]}
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only",
            "-D_POSIX_C_SOURCE=200809L"]


def include_folders():
    path = pathlib.Path(os.environ.get("SSMQ_BUILD", "build/dev")) / "compile_commands.json"
    if not path.is_file():
        return []
    words = " ".join(entry["command"] for entry in json.loads(path.read_text())).split()
    found = [words[i + 1] for i, word in enumerate(words) if word == "-isystem"]
    return [f"-isystem{folder}" for folder in dict.fromkeys(found)]


def compile_alone(top, name, language, folders):
    command = [*LANGUAGES[language], *WARNINGS, f"-I{top}/src", f"-I{top}/tests", *folders, "-"]
    # A header of macros alone still has to be a unit.
    unit = f'#include "{top / name}"\ntypedef int lint_unit;\n'
    done = subprocess.run(command, input=unit, text=True, stderr=subprocess.PIPE)
    if done.returncode == 0:
        return None
    return f"{name}: does not compile alone as {language}:\n{done.stderr.rstrip()}"


def main():
    top = sources.root()
    folders = include_folders()
    names = sources.files(top, ".h")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = [pool.submit(compile_alone, top, name, language, folders)
                   for name in names for language in LANGUAGES]
        faults = [fault for fault in (result.result() for result in results) if fault]
    sources.finish(faults, f"{len(names)} headers alone")


main()
