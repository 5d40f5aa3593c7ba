# SPDX-License-Identifier: Apache-2.0
"""The lab's own small C programs, compiled when their source is new."""

import subprocess
from pathlib import Path

from . import cache

FLAGS = ["-static", "-O2", "-std=gnu17"]
PLUGIN_FLAGS = ["-shared", "-fPIC", "-O2", "-std=gnu17"]


def program(name):
    """The binary of labkit/NAME/NAME.c."""
    return _compiled(name, name, FLAGS)


def plugin(name):
    """The same as a plug-in of nbdkit."""
    return _compiled(name, f"{name}.so", PLUGIN_FLAGS)


def _compiled(name, target, flags):
    source = Path(__file__).parent / name / f"{name}.c"

    def build(folder):
        subprocess.run(["gcc", *flags, "-o", str(folder / target), str(source)], check=True)

    return cache.built(name, [source, *flags], build) / target
