# SPDX-License-Identifier: Apache-2.0
"""Includes go the way that layers.txt allows, and a third party's header is named in its home
folder (homes.txt) alone."""
import re

import sources

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"]+)"|<([^>]+)>)', re.MULTILINE)
LIBC = set("""
ctype.h dirent.h errno.h fcntl.h fenv.h float.h inttypes.h limits.h locale.h math.h pthread.h sched.h
setjmp.h signal.h stdarg.h stdbool.h stddef.h stdint.h stdio.h stdlib.h string.h strings.h
sys/file.h sys/mman.h sys/resource.h sys/stat.h sys/statvfs.h sys/time.h sys/types.h sys/utsname.h
stdatomic.h sys/wait.h time.h unistd.h
""".split())
# What the build writes.
GENERATED = {"git_commit.h"}


def allowed_layers(path, faults):
    allowed = {}
    for folder, *targets in sources.table(path):
        for target in targets:
            if target not in allowed:
                faults.append(f"layers.txt: {folder} names {target}, which is no row above it")
        allowed[folder] = {folder, *targets}
    return allowed


def check_own(name, target, allowed, faults, line):
    if name.parts[0] != "src" or target in GENERATED:
        return
    folder = name.parent.relative_to("src").as_posix()
    into = target.rpartition("/")[0] or "."
    if folder not in allowed:
        faults.append(f"{name}:{line}: the folder {folder} has no row in layers.txt")
    elif into not in allowed[folder]:
        faults.append(f'{name}:{line}: {folder} may not include "{target}" (layers.txt)')


def check_foreign(name, header, homes, faults, line):
    if header in LIBC:
        return
    home = homes.get(header)
    if home is None:
        faults.append(f"{name}:{line}: <{header}> has no home in homes.txt")
    elif name.parts[0] == "src" and name.parent.as_posix() != home:
        faults.append(f"{name}:{line}: <{header}> belongs to {home} alone (homes.txt)")


def main():
    top, faults = sources.root(), []
    allowed = allowed_layers(sources.HERE / "layers.txt", faults)
    homes = {header: home for header, home in sources.table(sources.HERE / "homes.txt")}
    for name in sources.files(top, ".c", ".h", ".cu", ".cuh"):
        text = sources.read(top, name)
        for match in INCLUDE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            if match[1]:
                check_own(name, match[1], allowed, faults, line)
            else:
                check_foreign(name, match[2], homes, faults, line)
    sources.finish(faults, "includes against the layers")


main()
