# SPDX-License-Identifier: Apache-2.0
"""Looks into the objects of a build: two VMs in one process must work, so nothing of ours may be
writable at file scope, and nothing runs before main()."""

import os
import re

from checks import process

# "file: symbol" that may be writable, each with its reason.
ALLOWED = {}

# What the loader writes before main() and nobody afterwards is not state.
_CONSTANT = (".data.rel.ro",)
_WRITABLE = (".data", ".bss", ".tdata", ".tbss", "*COM*", ".init_array", ".ctors")
_SYMBOL = re.compile(r"^[0-9a-f]+ .{7} (\S+)\t([0-9a-f]+) (?:\.hidden )?(\S+)$")


def mutable_state(build):
    """Problems, one line for each symbol; objects come from the libraries and programs of src/."""
    objects = sorted(_objects(build))
    if not objects:
        return [f"{build}/ holds no object of src/"]
    status, output = process.run(["objdump", "--syms", *objects])
    return [output] if status else list(_writable(output))


def _objects(build):
    for folder, _, files in os.walk(build):
        if "meson-private" not in folder:
            # meson names an object after its source: src_base_log.c.o, or base_log.c.o below src/.
            yield from (os.path.join(folder, name) for name in files
                        if name.endswith(".c.o") and _of_src(folder, name, build))


def _of_src(folder, name, build):
    below = os.path.relpath(folder, build)
    return below.startswith("src") or name.startswith("src_")


def _writable(output):
    path = ""
    for line in output.splitlines():
        if line.endswith(":     file format elf64-x86-64"):
            path = os.path.basename(line.split(":")[0])
        found = _SYMBOL.match(line)
        if not found or int(found[2], 16) == 0:
            continue
        section, symbol = found[1], found[3]
        if section.startswith(_WRITABLE) and not section.startswith(_CONSTANT) \
                and f"{path}: {symbol}" not in ALLOWED:
            yield f"{path}: {symbol} is writable at file scope ({section})"
