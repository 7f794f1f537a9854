# SPDX-License-Identifier: Apache-2.0
"""Calls that ssmq does not make, number formats named outside of quant/ and the engines, marks of
unfinished work, and machine paths.

An exception is a comment on the same line, `lint: allow NAME`; one that excuses nothing is a fault
itself."""
import re

import sources

EVERYWHERE = """atoi atol atoll atof sprintf vsprintf strcpy strcat strncpy strncat strtok gets rand srand
random system popen tmpnam mktemp localtime gmtime asctime ctime assert exit abort alloca""".split()
# Names with the folders that may call them.
AT_HOME = {name: ("src/base",) for name in ("malloc", "calloc", "realloc", "free", "strdup", "strndup")}
AT_HOME.update({name: ("src/cli",) for name in ("printf", "puts", "putchar", "vprintf")})
CALL = re.compile(r"(?<![\w.>])(" + "|".join([*EVERYWHERE, *AT_HOME]) + r")\s*\(")
# A new number format must not touch the folders that only hand formats on.
FORMAT = re.compile(r"\bSSMQ_FORMAT_(?!FLOAT\b|TABLE\b)\w+")
FORMAT_HOMES = ("src/quant", "src/engine", "tests")
STDOUT = re.compile(r"\bstdout\b")
ALLOW = re.compile(r"lint: allow (\w+)")
MARK = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b(?!\(#\d+\))")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|root|Users)/\w")


def is_home(name, folders):
    return any(name.as_posix().startswith(folder + "/") for folder in folders)


def uses(name, line):
    """Banned names that a line of code uses."""
    found = []
    for match in CALL.finditer(line):
        if not is_home(name, AT_HOME.get(match[1], ())):
            found.append(match[1])
    if not is_home(name, FORMAT_HOMES):
        found.extend(match[0] for match in FORMAT.finditer(line))
    if STDOUT.search(line) and name.parts[0] == "src" and not is_home(name, ("src/cli",)):
        found.append("stdout")
    return found


def check_calls(name, text, faults):
    lines = zip(text.splitlines(), sources.code(text).splitlines())
    for number, (whole, code) in enumerate(lines, 1):
        excused = ALLOW.findall(whole)
        for used in uses(name, code):
            if used in excused:
                excused.remove(used)
            else:
                faults.append(f"{name}:{number}: {used} is banned here")
        faults.extend(f"{name}:{number}: 'lint: allow {extra}' excuses nothing"
                      for extra in excused)


def check_words(name, text, faults):
    for number, line in enumerate(text.splitlines(), 1):
        mark = MARK.search(line)
        if mark:
            faults.append(f"{name}:{number}: {mark[1]} without the number of its issue")
        if MACHINE_PATH.search(line):
            faults.append(f"{name}:{number}: a path of somebody's machine")


def main():
    top, faults = sources.root(), []
    for name in sources.files(top, ".c", ".h", ".cu", ".cuh"):
        text = sources.read(top, name)
        check_calls(name, text, faults)
    for name in sources.files(top, ".c", ".h", ".cu", ".cuh", ".py", ".sh", ".cmake", ".yaml", ".md",
                              ".txt"):
        if name.parent.as_posix() != "tests/lint":
            check_words(name, sources.read(top, name), faults)
    sources.finish(faults, "banned calls and words")


main()
