# SPDX-License-Identifier: Apache-2.0
"""The lab's own small C programs, compiled when their source is new."""

import subprocess
from pathlib import Path

from . import cache

FLAGS = ["-static", "-O2", "-std=gnu17"]


def program(name):
    """The binary of labkit/NAME/NAME.c."""
    source = Path(__file__).parent / name / f"{name}.c"

    def build(folder):
        subprocess.run(["gcc", *FLAGS, "-o", str(folder / name), str(source)], check=True)

    return cache.built(name, [source, *FLAGS], build) / name
