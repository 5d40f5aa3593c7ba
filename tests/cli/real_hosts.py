# SPDX-License-Identifier: Apache-2.0
"""Hosts whose VMs, guards and relays are the real programs, and a guest of a few instructions that counts in its memory."""

import contextlib
import os
import shutil
import signal
import socket
import struct
import sys
import time

import peer_hosts
from peer_hosts import Host

PROGRAM = sys.argv[1] if len(sys.argv) > 1 else ""
BASE = 0x100000

# PVH, 32 bits: eax = 0x200000; again: inc dword [eax]; wait; print 64 + the count's low 6 bits on the serial port.
CODE = bytes.fromhex("b800002000 ff00 8b18 b900000100 e2fe 66baf803 89d8 243f 0440 ee b800002000 ebe3")


def kernel():
    note = struct.pack("<III", 4, 4, 18) + b"Xen\0" + struct.pack("<I", BASE)
    start_at = 64 + 2 * 56
    code = CODE.ljust(64, b"\x90")
    return (b"\x7fELF\x02\x01\x01" + bytes(9)
            + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, BASE, 64, 0, 0, 64, 56, 2, 0, 0, 0)
            + struct.pack("<IIQQQQQQ", 1, 7, start_at, BASE, BASE, len(code), len(code), 4096)
            + struct.pack("<IIQQQQQQ", 4, 4, start_at + len(code), 0, 0, len(note), len(note), 4) + code + note)


class RealHost(Host):
    """With the programs as they were built."""

    def __init__(self, work, name):
        super().__init__(work, name)
        for program in "utsusu-vm", "utsusu-move":
            shutil.copy(os.path.join(os.path.dirname(PROGRAM), program), self.bin)

    def find(self, *programs):
        """All of this host's processes of these programs."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/comm", encoding="ascii") as file:
                    is_wanted = file.read().strip() in programs
                with open(f"/proc/{pid}/environ", "rb") as file:
                    if is_wanted and f"UTSUSU_RUNTIME_DIR={self.runtime}".encode() in file.read().split(b"\0"):
                        found.append(int(pid))
        return found

    def kill(self, *programs):
        found = self.find(*programs)
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return found

    def printed(self, wanted=6, seconds=30):
        """What the guest has printed, with so many bytes at the end that it prints from now on, if it does within that time."""
        with socket.socket(socket.AF_UNIX) as console:
            console.connect(os.path.join(self.runtime, "web", "console"))
            console.settimeout(0.2)
            due, printed, enough = time.monotonic() + seconds, b"", None
            while time.monotonic() < due and (enough is None or len(printed) < enough):
                with contextlib.suppress(TimeoutError):
                    printed += console.recv(4096)
                enough = enough or len(printed) + wanted
        return printed


class Case(peer_hosts.Case):
    """Two of them, which know each other, and the guest's kernel."""

    def setUp(self):
        peer_hosts.Host = RealHost
        super().setUp()
        self.introduce()
        self.kernel = os.path.join(self.work, "kernel")
        with open(self.kernel, "wb") as file:
            file.write(kernel())

    def status(self, host):
        return host.says("status", "web")

    def assert_counts(self, host):
        printed = host.printed()[-40:]
        self.assertGreaterEqual(len(printed), 6, host.logged())
        for one, next_one in zip(printed, printed[1:]):
            self.assertEqual((next_one - one) % 64, 1, printed)
