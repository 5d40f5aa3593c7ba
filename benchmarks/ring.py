# SPDX-License-Identifier: Apache-2.0
"""The store of requests by itself, natively: what a record costs who writes it, and how fast one reads."""

import subprocess

from labkit.paths import build_directory

from benchmarks.frame import bench


def _measured(what):
    done = subprocess.run([build_directory() / "benchmarks" / "ring", what], capture_output=True, text=True,
                          check=True)
    return float(done.stdout)


@bench("ring.record", unit="ns", goal=60, runs=3)
def ring_record(_stage, _monitor):
    "One record of 256 bytes, filled as the monitor does, into its ring."
    return _measured("record")


@bench("ring.reader", unit="records/s", goal=1e6, more_is_better=True, runs=3)
def ring_reader(_stage, _monitor):
    "What a reader keeps up with: taken, put in order, instructions judged, none lost."
    return _measured("reader")
