# SPDX-License-Identifier: Apache-2.0
"""What is seen of a VM without asking it or its hosts: clients on a third machine, and the frames that leave each host.

    with Clients(outside, GUEST, "sequence", "count") as clients:       (labkit/load/history.py, judge.py)
        cut_power()
        clients.await_answers(20)
    clients.history().check()

    with Wiretap(machine) as tap:
        ...
    tap.frames(), tap.after_a_gap(3)
"""

import json
import time

from labkit import LabError
from labkit.load import HISTORY, WIRETAP
from labkit.load.judge import History

ENDS_WITHIN = 180


class Clients:
    """With "with", they end with the block and their log is whole."""

    def __init__(self, machine, address, *kinds):
        self._machine = machine
        self._kinds = kinds
        self._entries, self._read = [], 0
        self._process = machine.start_command(["/usr/bin/python3", str(HISTORY), address, *kinds])

    def __enter__(self):
        self.await_answers(3)
        return self

    def __exit__(self, kind, *_):
        if kind or not self._process.running():
            self._process.kill()
            return
        self._process.close_stdin()
        self._process.wait(ENDS_WITHIN)

    def history(self):
        """All that was logged until now."""
        text = bytes(self._process.stdout[self._read:])
        whole = text[:text.rfind(b"\n") + 1]
        self._read += len(whole)
        self._entries += [json.loads(line) for line in whole.splitlines()]
        return History(self._entries)

    def give_up(self):
        """Nobody will answer any more."""
        self._process.kill()
        self._process.wait(30)

    def clock(self):
        """The seconds that its log is in, of now."""
        return float(self._machine.run("cut -d' ' -f1 /proc/uptime").text)

    def _answered(self):
        history = self.history()
        return {client: sum(one["client"] == client for one in history.ok) for client in history.clients()}

    def await_answers(self, more, timeout=120):
        """So many from now on, to each of them. One that was under way counts: `more` is at least 2 where that matters."""
        have = self._answered()
        deadline = time.monotonic() + timeout
        while True:
            now = self._answered()
            if len(now) == len(self._kinds) and all(now[one] >= have.get(one, 0) + more for one in now):
                return
            if time.monotonic() > deadline or not self._process.running():
                raise LabError("clients", f"no {more} more answers to each: {have}, then {now}",
                               f"{self._entries[-3:]}, {bytes(self._process.stderr)[-500:]!r}")
            time.sleep(0.1)


class Wiretap:
    """The frames of VMs that leave a host. A power cut of the host ends it, and what it said until then is there."""

    def __init__(self, machine):
        self._machine = machine
        self._process = machine.start_command(["/usr/bin/python3", str(WIRETAP)])

    def __enter__(self):
        self._process.expect("taps", 60)
        return self

    def __exit__(self, kind, *_):
        if kind or not self._machine.alive() or not self._process.running():
            self._process.disconnect()
            return
        self._process.close_stdin()
        self._process.wait(60)

    def frames(self):
        """[(seconds, bytes)]"""
        lines = [json.loads(line) for line in bytes(self._process.stdout).decode().splitlines() if line.endswith("}")]
        return [(line["at"], bytes.fromhex(line["frame"])) for line in lines if "frame" in line]

    def after_a_gap(self, seconds):
        """(before, after) the longest silence, if it was that long; else all is before."""
        return split_at_gap(self.frames(), seconds)


def split_at_gap(frames, seconds):
    gaps = [(after[0] - before[0], number) for number, (before, after) in enumerate(zip(frames, frames[1:]), 1)]
    longest, at = max(gaps, default=(0, 0))
    at = at if longest >= seconds else len(frames)
    return [frame for _, frame in frames[:at]], [frame for _, frame in frames[at:]]


def strangers(deposed, before, successor):
    """Frames that one who was deposed sent, and that the world has not had, and does not get, from the one who runs: none may be.

    What it is given are frames. A frame that both sent with other bytes is found; one that the deposed one sent again as it had sent it before is
    allowed, whoever asked for it.
    """
    known = {*before, *successor}
    return [frame for frame in deposed if frame not in known]
