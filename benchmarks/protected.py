# SPDX-License-Identifier: Apache-2.0
"""Where protection is measured: the machines of moves, with an etcd on all three, and a VM that one host protects for the other."""

import contextlib
import json
import re
import time
from dataclasses import dataclass

from labkit import Lab
from labkit.etcd import Etcd
from labkit.load import HISTORY
from labkit.load.judge import History

from benchmarks.failure import Failure
from benchmarks.monitors import UtsusuMoves
from benchmarks.pair import GUEST, LISTS, PLACE, Pair

STATE_DISK = 1 << 30
DETECT = 1                      # seconds of silence that are none yet: less than that an emulated machine has of its own accord
BEGINS, DETECTS = 180, 90       # seconds
# User and system time of all of ours, in ticks.
CPU = r"""for p in /proc/[0-9]*; do read -r c 2>/dev/null <$p/comm || continue
	case $c in utsusu*) sed 's/.*) //' $p/stat | cut -d' ' -f12,13;; esac
done"""
TICKS = 100


class ProtectedPair(Pair):
    """With "with". The etcd's third member is on the machine outside."""

    def __init__(self, memory=3072):
        super().__init__(memory)
        self._lab = Lab(machines=3, memory=memory, bridge=True, state_disk=STATE_DISK)
        self.hold_s = None      # of the VM that was protected last

    def __enter__(self):
        self._lab.up()
        self.etcd = Etcd(list(self._lab.machines.values()))
        self.etcd.start()
        self.etcd.lead("C")
        super().__enter__()
        return self

    def lists(self):
        return {**LISTS, "arbiter": {"endpoints": self.etcd.endpoints}, "protect": {"journal": "64M"}}

    # Orders

    def utsusu(self, *words, host=0, check=True, timeout=BEGINS):
        return self.hosts()[host].utsusu(*words, check=check, timeout=timeout)

    def protect(self, name):
        """Returns when it is protected, and what its first epochs cost is forgotten."""
        self.utsusu("protect", name, self.target.name, "--plain", "--detect", f"{DETECT}s")
        self.await_role(name, "protected", BEGINS)
        time.sleep(3)

    def status(self, name, host=0):
        with contextlib.suppress(ValueError):
            return json.loads(self.utsusu("status", name, "--json", host=host, check=False).text)
        return {}

    def await_role(self, name, role, timeout, host=0):
        due = time.monotonic() + timeout
        while self.status(name, host).get("role") != role:
            if time.monotonic() > due:
                raise Failure(f"{name} is not {role} after {timeout} s: {self.status(name, host)}")
            time.sleep(0.2)

    # What is measured

    def while_protected(self, name, seconds):
        """over(), and the status at its end; no figure where it was not protected all the time."""
        before = self.status(name)
        seen = self.over(seconds)
        after = self.status(name)
        for one in (before, after):
            if one.get("role") != "protected" or one["generation"] != before["generation"]:
                raise Failure(f"{name} did not stay protected: {one}")
        return seen, before, after

    def state_ns(self, name):
        """Of the walk over vCPUs and devices, by the VM's own command."""
        reply = json.loads(self.source.run(["/usr/bin/python3", "-c", ASK, f"/run/utsusu/{name}/socket"], timeout=120).text)
        if not reply.get("ok"):
            raise Failure(f"measure: {reply}")
        return reply["state"]["p50_ns"]

    def copy_ns(self, pages):
        """Of nothing but copying so many pages, here and now."""
        rounds = max(5, min(100, 200000 // pages))
        return int(self.source.run([f"{PLACE}/copy", str(pages), str(rounds)], timeout=180).text)

    def over(self, seconds):
        """(bytes that the source's card sent, its time for processes of ours, seconds) of so many seconds"""
        def look():
            text = self.source.run(f"cut -d' ' -f1 /proc/uptime; cat /sys/class/net/wire0/statistics/tx_bytes; {CPU}").text.split()
            return float(text[0]), int(text[1]), sum(map(int, text[2:])) / TICKS

        before = look()
        time.sleep(seconds)
        after = look()
        return after[1] - before[1], after[2] - before[2], after[0] - before[0]

    def redis_rate(self, clients, seconds=8):
        """SETs a second of so many clients that each wait for their answer."""
        text = self.outside.run(f"timeout {seconds} redis-benchmark -h {GUEST} -c {clients} -d 100 -n 100000000 -t set 2>/dev/null | tr '\\r' '\\n' || true",
                                timeout=seconds + 60).text
        rates = [float(rate) for rate in re.findall(r"overall: ([\d.]+)", text)]
        if not rates:
            raise Failure(f"redis-benchmark said no rate: {text[-300:]!r}")
        return rates[-1]

    def later(self, seconds):
        """All that goes between source and clients is late by so much for there and back, by the switch's clock; 0: as ever."""
        self._lab.wires.heal("AC")
        if seconds:
            self._lab.wires.slow("AC", delay=f"{int(seconds * 1e9 / 2)}ns")

    @contextlib.contextmanager
    def history(self, *kinds):
        """What all these clients saw, in the list that is given, when the block has ended."""
        seen = []
        running = self.outside.start_command(["/usr/bin/python3", str(HISTORY), GUEST, *kinds])
        try:
            running.expect('"ok"', 60)
            yield seen
            running.close_stdin()
            running.wait(180)
        finally:
            if running.running():
                running.kill()
        seen.append(History.of_lines(bytes(running.stdout).decode()))

    def cut_power(self):
        """Of the source; moments by the clients' clock before and after it."""
        before = self._clock(self.outside)
        self.source.kill()
        return before, self._clock(self.outside)

    def repair(self):
        """The source again, as it was at first."""
        if self.source.alive():
            return
        self.source.start()
        self._bring(self.source)
        self.etcd.start(self.source.name)
        self.hosts()[0].begin()


ASK = r"""
import json, socket, sys
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
s.sendall(json.dumps({"command": "measure", "rounds": 100, "touched": False}).encode() + b"\n")
print(s.makefile().readline())
"""


@dataclass
class Protected(UtsusuMoves):
    """Ours on one machine, with a backup on the other."""

    def start(self, pair, vm):
        pair.repair()
        return super().start(pair, vm)

    def end(self, pair, ends):
        """Of a machine that has no power nothing is to be ended."""
        for host in pair.hosts():
            if host.machine.alive():
                host.utsusu("stop", self.vm_name, "--force", check=False)
        for one in ends if pair.source.alive() else []:
            if one.running():
                one.kill()
            one.wait(30)


@dataclass
class Late(Protected):
    """Unprotected, with all that it puts out as late as the protected one's was: what no protection can better."""
    name: str = "utsusu, as late"
