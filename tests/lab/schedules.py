# SPDX-License-Identifier: Apache-2.0
"""Campaigns of faults: what chooses them, and which of them --long has seen pass."""

import os
import subprocess

import pytest
from conftest import TREE
from labkit.paths import build_directory


def commit():
    """What chooses; UTSUSU_SEED is another."""
    head = subprocess.run(["git", "-C", str(TREE), "-c", "safe.directory=*", "rev-parse", "HEAD"], capture_output=True,
                          text=True).stdout.strip()
    return os.environ.get("UTSUSU_SEED") or head


class Done:
    """A file of names that --long has seen pass with these programs, in this order."""

    def __init__(self, campaign=""):
        self._path = build_directory() / f"schedules{campaign}-{commit()[:12]}"

    def skip(self, schedule):
        """Ends the test if it passed before."""
        if self._path.exists() and str(schedule) in self._path.read_text().split():
            pytest.skip("passed in a run before")

    def add(self, schedule):
        with self._path.open("a") as file:
            file.write(f"{schedule}\n")


def as_parameters(ordered, short, long):
    """The first ones for each ./check, more for --long."""
    return [*ordered[:short], *(pytest.param(one, marks=pytest.mark.long) for one in ordered[short:long])]
