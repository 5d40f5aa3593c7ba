# SPDX-License-Identifier: Apache-2.0
"""The build directories that the suites use, and how each is made."""

import os
import shutil

from checks import process
from checks.report import say

# THE table: directory -> environment of the configuration, meson's options. Warnings are errors but in
# the sanitizers' builds: what those insert makes gcc warn of paths that are not there.
BUILDS = {
    "build": ({"CC": "gcc"}, ["-Dwerror=true"]),
    "build-asan": ({"CC": "gcc"}, ["-Dwerror=false", "-Db_sanitize=address,undefined"]),
    "build-tsan": ({"CC": "gcc"}, ["-Dwerror=false", "-Db_sanitize=thread"]),
    "build-fuzz": ({"CC": "clang-14", "CFLAGS": "-fprofile-instr-generate -fcoverage-mapping"},
                   ["-Dwerror=true", "-Dfuzz=true", "-Db_lundef=false"]),
}


def make(directory, report):
    """Configures when due, builds, quietly; False (and a failed test) when it does not build."""
    say(f"  building {directory}/")
    with report.preparing():
        status, output = _configure(directory)
        if status == 0:
            status, output = process.run(["ninja", "--quiet", "-C", directory])
    if status:
        report.fail(f"build of {directory}/", output)
    return status == 0


def _configure(directory):
    """Configures from anew when the directory is missing or was made in another way."""
    environment, options = BUILDS[directory]
    wanted = repr(BUILDS[directory])
    stamp = os.path.join(directory, "made-with")
    if os.path.exists(os.path.join(directory, "build.ninja")) and _read(stamp) == wanted:
        return 0, ""
    shutil.rmtree(directory, ignore_errors=True)
    command = ["meson", "setup", directory] + options
    status, output = process.run(command, env=environment)
    if status == 0:
        with open(stamp, "w", encoding="utf-8") as file:
            file.write(wanted)
    return status, output


def _read(path):
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""
