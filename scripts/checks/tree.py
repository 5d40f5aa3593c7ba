# SPDX-License-Identifier: Apache-2.0
"""The files of this tree: those that git tracks and that are there."""

import os
import subprocess

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def tracked(*patterns):
    """Paths relative to the root that match any of git's patterns (all without one)."""
    # The owner of a clone may differ from who checks it (root in CI): that is no danger to a listing.
    command = ["git", "-C", ROOT, "-c", "safe.directory=*", "ls-files", "-z", "--", *patterns]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [path for path in listed.split("\0") if path and os.path.isfile(os.path.join(ROOT, path))]


def lines(path):
    """A file's lines without their ends; empty for what is no text."""
    try:
        with open(os.path.join(ROOT, path), encoding="utf-8") as file:
            return file.read().splitlines()
    except UnicodeDecodeError:
        return []


def scripts(interpreter):
    """Tracked executables without a suffix whose first line names the interpreter."""
    return [path for path in tracked()
            if "." not in os.path.basename(path) and os.access(os.path.join(ROOT, path), os.X_OK)
            and (lines(path) or [""])[0].startswith("#!") and interpreter in lines(path)[0]]
