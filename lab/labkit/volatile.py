# SPDX-License-Identifier: Apache-2.0
"""Disks with a volatile write cache: a process of the lab for each (volatile/volatile.c, under nbdkit).

What a machine wrote and did not flush is gone after its power cut, as on real disks; the emulator's own disks would keep
it, because the file is in the host's memory.
"""

import time

from . import process
from .errors import LabError
from .programs import plugin


class VolatileDisk:
    """One disk; each machine that has it is a port of its own."""

    def __init__(self, lab, name, path):
        self.lab = lab
        self.name = name
        self.path = path
        self.socket = lab.folder / f"disk.{name}"
        self.log = lab.folder / f"disk.{name}.log"

    def start(self):
        """Starts its process unless it runs."""
        if process.alive(self.lab.state(f"disk {self.name}")):
            return
        self.socket.unlink(missing_ok=True)
        self.log.unlink(missing_ok=True)
        keep = self.lab.options["keep_unflushed"]
        command = ["nbdkit", "-f", "-U", str(self.socket), str(plugin("volatile")), f"file={self.path}",
                   f"outlives={not self.lab.bound}", *([f"keep={keep}"] if keep else [])]
        child = process.start(command, self.log, self.lab.bound)
        self.lab.remember(f"disk {self.name}", process.identity(child.pid))
        deadline = time.monotonic() + 10
        while not self.socket.exists():
            if child.poll() is not None or time.monotonic() > deadline:
                raise LabError(f"disk {self.name}", "its process does not start", f"see {self.log}")
            time.sleep(0.005)

    def stop(self):
        """What is not flushed is gone."""
        process.kill(self.lab.state(f"disk {self.name}"))

    def node(self, machine):
        """The emulator's options for it; the node has the disk's name."""
        return ["-blockdev", f"driver=nbd,node-name={self.name},server.type=unix,server.path={self.socket},"
                             f"export={machine.name},cache.direct=off,cache.no-flush=off"]

    def await_cut(self, machine):
        """Returns when the disk has noticed that the machine has no power: how many sectors it then forgot."""
        deadline = time.monotonic() + 10
        while (said := self._last(machine)) and "gone" not in said:
            if not process.alive(self.lab.state(f"disk {self.name}")):
                return 0
            if time.monotonic() > deadline:
                raise LabError(f"disk {self.name}", f"it does not see that machine {machine.name} is off")
            time.sleep(0.002)
        return int(said.split()[2]) if said else 0

    def _last(self, machine):
        """What it said of the machine last."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return next((line for line in reversed(lines) if line.startswith(f"{machine.name}: ")), None)
