# SPDX-License-Identifier: Apache-2.0
"""The wires between machines.

All machines of a lab hang on one switch, a process of the lab (switch/switch.c). The wire AB is
the path between two machines through it, in both directions; the wire C is the cable of machine C,
that is, its paths to all others. Where a cut leaves a machine without any path, its card loses
the carrier as well.
"""

import re
import socket
import time
from itertools import permutations

from . import process
from .errors import LabError
from .programs import program

FREE = {"cut": False, "rate": 0, "delay": 0, "loss": 0}
RATES = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9}
TIMES = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9}


def _quantity(text, units, what, example):
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)([a-z]+|%)", str(text))
    if not match or match.group(2) not in units:
        raise LabError(f"{what} '{text}'", "a number and one of " + ", ".join(units),
                       f"write for example {example}")
    return int(float(match.group(1)) * units[match.group(2)])


def parse_rate(text):
    """Bytes a second; "0bit" takes the limit away."""
    return _quantity(text, RATES, "rate", "100mbit") // 8


def parse_delay(text):
    """Nanoseconds, one way."""
    return _quantity(text, TIMES, "delay", "5ms")


def parse_loss(text):
    """Frames per million."""
    return min(_quantity(text, {"%": 10**4}, "loss", "1%"), 10**6)


class Wires:
    """Which paths are cut or slow is kept in the lab's state, so that all its users agree."""

    def __init__(self, lab):
        self.lab = lab
        self.socket = lab.folder / "switch"

    def exist(self):
        return len(self.lab.machines) > 1

    def start(self):
        """Starts the switch unless it runs."""
        if not self.exist() or process.alive(self.lab.state("switch")):
            return
        self.socket.unlink(missing_ok=True)
        child = process.start([str(program("switch")), str(self.lab.folder),
                               str(len(self.lab.machines))],
                              self.lab.folder / "switch.log", self.lab.bound)
        self.lab.remember("switch", process.identity(child.pid))
        deadline = time.monotonic() + 10
        while not self.socket.exists():
            if child.poll() is not None or time.monotonic() > deadline:
                raise LabError("switch", "it does not start", f"see {self.lab.folder}/switch.log")
            time.sleep(0.01)
        for path in self._paths():
            self._tell(path)

    def stop(self):
        process.kill(self.lab.state("switch"))

    def emulator_options(self, machine):
        if not self.exist():
            return []
        return ["-netdev", "stream,id=wire,server=off,addr.type=unix,"
                           f"addr.path={self.lab.folder}/wire.{machine.name}",
                "-device", f"virtio-net-pci,netdev=wire,mac={machine.wire_mac},id=wire-card"]

    def cut(self, wire):
        self._change(wire, cut=True)

    def heal(self, wire):
        """As new: not cut, at full speed, nothing lost."""
        self._change(wire, **FREE)

    def slow(self, wire, rate=None, delay=None, loss=None):
        """What is not named stays as it is."""
        asked = {"rate": rate and parse_rate(rate), "delay": delay and parse_delay(delay),
                 "loss": loss and parse_loss(loss)}
        asked = {key: value for key, value in asked.items() if value is not None}
        if not asked:
            raise LabError(f"wire {wire}", "nothing says how slow",
                           "give it a rate, a delay or a loss")
        self._change(wire, **asked)

    def status(self):
        """{wire: "whole", "cut" or what slows it}, for each pair of machines."""
        names = list(self.lab.machines) if self.exist() else []
        return {a + b: self._words(self._path(a + b))
                for i, a in enumerate(names) for b in names[i + 1:]}

    def carrier(self, machine):
        """Gives the machine's card the carrier that its paths leave it."""
        if not self.exist() or machine.state_of_process() != "running":
            return
        others = [name for name in self.lab.machines if name != machine.name]
        up = any(not self._path(machine.name + other)["cut"] for other in others)
        with machine.qmp() as qmp:
            qmp.execute("set_link", name="wire-card", up=up)

    # Inside

    def _paths(self):
        return ["".join(pair) for pair in permutations(self.lab.machines, 2)]

    def _path(self, path):
        return {**FREE, **(self.lab.state("paths") or {}).get(path, {})}

    @staticmethod
    def _words(path):
        words = []
        if path["rate"]:
            words.append(f"{path['rate'] * 8 / 10**6:g} Mb/s")
        if path["delay"]:
            words.append(f"{path['delay'] / 10**6:g} ms later")
        if path["loss"]:
            words.append(f"{path['loss'] / 10**4:g} % lost")
        return "cut" if path["cut"] else ", ".join(words) or "whole"

    def _meant(self, wire):
        """The paths, one for each direction, that a wire's name stands for."""
        paths = [path for path in self._paths() if set(wire) <= set(path) and wire]
        if len(wire) > 2 or not paths:
            raise LabError(f"wire {wire}", "there is no such wire", "there are " + (", ".join(
                self.status()) or "none: a lab of one machine has no wires"))
        return paths

    def _change(self, wire, **change):
        paths = self._meant(wire)
        with self.lab.lock():
            self.lab.reload()
            kept = dict(self.lab.state("paths") or {})
            for path in paths:
                kept[path] = {**self._path(path), **change}
            self.lab.remember("paths", kept)
        for path in paths:
            self._tell(path)
        for name in sorted(set("".join(paths))):
            self.carrier(self.lab[name])

    def _tell(self, path):
        values = self._path(path)
        line = (f"path {path[0]} {path[1]} {int(values['cut'])} {values['rate']} "
                f"{values['delay']} {values['loss']}\n")
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(10)
            try:
                control.connect(str(self.socket))
                control.sendall(line.encode())
                answer = control.recv(100).decode().strip()
            except OSError as error:
                answer = str(error)
        if answer != "ok":
            raise LabError(f"wire {path}", f"the switch says: {answer}", "'lab up' starts it")
