# SPDX-License-Identifier: Apache-2.0
"""Streams by themselves, natively, over loopback: the CPU time that both ends together spend on each KiB."""

import subprocess
from dataclasses import dataclass

from labkit.paths import build_directory

from benchmarks.frame import bench


@dataclass(frozen=True)
class Way:
    """One of the ways that benchmarks/wire.c knows."""
    way: str
    name: str


def _measured(way):
    done = subprocess.run([build_directory() / "benchmarks" / "wire", way], capture_output=True, text=True,
                          check=True)
    return float(done.stdout)


@bench("move.wire.plain", unit="ns/KiB", goal=1.15, runs=5,
       ours=Way("stream", "stream"), peer=Way("loop", "send and recv"))
def wire_plain(_stage, way):
    "Pages behind small headers over a plain stream, beside a bare loop."
    return _measured(way.way)


@bench("move.wire.tls", unit="ns/KiB", goal=1.15, runs=5,
       ours=Way("tls", "stream over TLS"), peer=Way("openssl", "SSL_write and SSL_read"))
def wire_tls(_stage, way):
    "The same over TLS, which two threads may use at once, beside OpenSSL's calls with one thread each."
    return _measured(way.way)


@bench("move.wire.cipher", unit="ns/KiB", goal=2.5, runs=5,
       ours=Way("tls", "stream over TLS"), peer=Way("cipher", "AES-128-GCM alone"))
def wire_cipher(_stage, way):
    "The same beside sealing and opening alone, without a wire."
    return _measured(way.way)
