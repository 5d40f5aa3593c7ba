# SPDX-License-Identifier: Apache-2.0
"""A VM that a second machine protects, and an etcd that says who may run it; seen from a third machine.

    pair = ProtectPair(lab)                     utsusud on A and B, etcd on A, B and C, a disk of its own on each host
    vm = pair.start_protected("A")              B protects it
    with pair.clients() as clients:             on C: each operation is logged
        pair.cut_power("A")
        pair.await_owner(vm.name, "B")
        clients.await_answers(10)
    pair.check(clients)                         nothing acknowledged is lost, on no connection, and not on the disk

What utsusu says of itself is read in one place, Status; whether two run is asked of the hosts' own lists of processes as well.
"""

import contextlib
import json
import time

from labkit import LabError
from labkit.etcd import Etcd
from labkit.hosts import STATE
from labkit.paths import build_directory

from moves import CMDLINE, GUEST, MovePair, newest_count
from outside import Clients, Wiretap
from vms import PROGRAMS

DISK, FILES = f"{STATE}/data.img", f"{STATE}/files.img"     # a second one for tests of files
SIZE = 48 << 20
JOURNAL = "64M"
# TLS is a test's own: its arithmetic, emulated, takes more than all else. Emulated machines stand still for a second now and then, which is no loss of a host.
DETECT = 3              # seconds
OPTIONS = ("--plain", "--detect", f"{DETECT}s")
DETECTS = 60            # seconds, generous: until the silence of a host is noticed on a busy computer, and acted upon
CLIENTS = ("sequence:0.03", "sequence:0.11", "count:0.05")
GUARD, RELAY, PROCESS = "utsusu-move", "utsusu-arbiter", "utsusu-vm"


def can_protect():
    return (build_directory() / "src/programs" / RELAY).exists()


def lists(endpoints):
    disks = {name: {"path": path, "copy": True, "overwrite": True} for name, path in (("data", DISK), ("files", FILES))}
    common = {"disks": disks, "networks": {"wire": {"bridge": "br0"}},
              "moves": {"plain": "allow"}}      # the wire is the lab's own
    return {**common, **({"arbiter": {"endpoints": endpoints}, "protect": {"journal": JOURNAL}} if can_protect() else {})}


class Status:
    """What `utsusu status NAME --json` says; empty where the VM is not known. The record's mode is what the arbiter last told that host."""

    def __init__(self, told):
        self.told = told
        self.record = told.get("mode", "none")
        self.role = told.get("role", "none")        # docs/arbiter.md
        self.generation = told.get("generation", 0)

    @property
    def mode(self):
        """In a word: "protected" and "solo" (and nothing held back) run and put out; "backup" is one; else its role."""
        if self.role == "solo" and self.told.get("gated"):
            return "gated"
        return "backup" if self.role == "backs-up" else self.role

    def __getattr__(self, name):
        return self.told.get(name, 0)

    def __repr__(self):
        return f"Status({self.told})"


class ProtectPair(MovePair):
    """Machines, daemons and etcd are used by many tests; each takes over the VM of the one before if it is still protected."""

    def __init__(self, lab):
        self.etcd = Etcd([lab[name] for name in "ABC"])
        self.etcd.start()
        self.etcd.lead("C")
        for name in "AB":
            self._make_disk(lab[name])
        super().__init__(lab, lists(self.etcd.endpoints))

    @staticmethod
    def _make_disk(machine, anew=False):
        begin = f"rm -rf {DISK} {FILES} {STATE}/copies; " if anew else ""
        machine.run(f"{begin}for disk in {DISK} {FILES}; do [ -e $disk ] || truncate -s {SIZE} $disk; done")

    # Machines

    def power_on(self, name):
        self.lab[name].start()
        self.etcd.start(name)
        self.sides[name].begin()
        self.sides[name].peer.begin()

    def cut_power(self, name):
        """Returns the moment, by the clients' clock."""
        self.lab[name].kill()
        return self.clock()

    def clock(self):
        return float(self.outside.run("cut -d' ' -f1 /proc/uptime").text)

    def mend(self):
        """And what tests of protection may have left. The VM goes on if it runs, and is protected by the next test if it is not."""
        for wire in ("AB", "AC", "BC"):
            self.lab.wires.heal(wire)
        super().mend()
        lost = [name for name, member in self.etcd.members.items() if not member.runs()]
        for member in self.etcd.members.values():
            if member.name not in lost:
                member.thaw()
        if lost:
            self.etcd.start(*lost)
        for side in self.sides.values():
            if not side.pids("utsusud"):
                side.peer.start_daemon()

    # A VM

    def start(self, on="A", *options, memory="256M", name=None, guest="load", run="load &", **_):
        """One on new disks."""
        if self._vm:
            self.end(self._vm.name)
            self._vm = None
        for side in self.sides.values():
            self._make_disk(side.machine, anew=True)
        side = self.sides[on]
        cmdline = CMDLINE.replace('"load &"', f'"{run}"')
        vm = side.vms.start("--cpus", "2", "--memory", memory, "--disk", f"path={DISK}", "--net", f"tap={side.tap()}", *options,
                            guest=guest, cmdline=cmdline, name=name or next(self._names))
        vm.expect("load: serves")
        self.outside.run(f"ip neigh flush to {GUEST}")
        self.ask("disk 1")
        return vm

    def start_protected(self, on="A", **options):
        vm = self.start(on, **options)
        self.protect(vm.name, on)
        return vm

    def any_protected(self, on="A"):
        """(VM, the host that owns it): one that is protected and has little to do; its owner is `on` if it is a new one."""
        if self._vm:
            with contextlib.suppress(LabError, AssertionError):
                owner = self.here(self._vm.name)
                if self.status(self._vm.name, owner).mode != "protected":
                    self.protect(self._vm.name, owner)
                self.ask("dirty 0 0", "fill 0")
                return self._vm, owner
        self._vm = self.start_protected(on)
        return self._vm, on

    def forget_kept(self):
        """The VM that tests hand on has ended."""
        self._vm = None

    def clients(self, *kinds):
        return Clients(self.outside, GUEST, *(kinds or CLIENTS))

    def wiretap(self, name):
        return Wiretap(self.lab[name])

    # Orders

    def order(self, on, *words, check=True, timeout=180):
        return self.sides[on].peer.utsusu(*words, check=check, timeout=timeout)

    def protect(self, name, owner, options=OPTIONS, timeout=180):
        """Returns when it is protected."""
        self.order(owner, "protect", name, self.other(owner), *options, timeout=timeout)
        self.await_mode(name, owner, "protected", timeout)

    def begin_protecting(self, name, owner):
        """The command, while it works."""
        return self.sides[owner].machine.start_command([f"{PROGRAMS}/utsusu", "protect", name, self.other(owner), *OPTIONS])

    def protect_again(self, name, owner):
        """Unless it still is."""
        if self.status(name, owner).mode != "protected":
            self.protect(name, owner)

    def unprotect(self, name, owner):
        self.order(owner, "protect", name, "--off")
        self.await_mode(name, owner, "solo")

    def failover(self, name, on, timeout=180):
        """As planned, and `on` whichever host."""
        return self.order(on, "failover", name, timeout=timeout)

    # What has become of it

    def status(self, name, on):
        result = self.order(on, "status", name, "--json", check=False)
        with contextlib.suppress(ValueError):
            return Status(json.loads(result.text))
        return Status({})

    def statuses(self, name):
        """Of the hosts that can be asked."""
        return {host: self.status(name, host) for host in self.sides if self.answers(host)}

    def answers(self, host):
        """A machine that QMP stopped looks as if it ran."""
        return self.lab[host].state() == "running"

    def who_runs(self, name):
        """By each host's own word. A backup's process is there as well, and runs nothing."""
        return [host for host in self.sides if self.answers(host) and self.sides[host].state_of(name) == "running"
                and self.status(name, host).mode not in ("backup", "claims", "deposed")]

    def await_mode(self, name, on, mode, timeout=DETECTS):
        return self.wait_for(lambda: self.status(name, on).mode == mode, timeout,
                           lambda: f"{name} on {on} is not {mode}: {self.statuses(name)}")

    def await_owner(self, name, host, timeout=DETECTS):
        """That host runs it, and nothing is held back. At no moment do two say that they run it."""
        def owns():
            self.never_two(name)
            return host in self.who_runs(name) and self.status(name, host).mode in ("solo", "protected")

        return self.wait_for(owns, timeout, lambda: f"{name} is not {host}'s: {self.statuses(name)}")

    def owners(self, name):
        """{host: Status} of those that believe that they may put something out. One that was cut off may not know yet that it may not."""
        return {host: one for host, one in self.statuses(name).items() if one.mode in ("solo", "protected")}

    def await_alone(self, name, timeout=DETECTS):
        """One of them, unprotected."""
        def alone():
            owners = self.owners(name)
            return [host for host, one in owners.items() if len(owners) == 1 and one.mode == "solo"]

        return self.wait_for(alone, timeout, lambda: f"nobody runs {name} alone: {self.statuses(name)}")[0]

    def await_one_owner(self, name, timeout=DETECTS):
        """Whichever it is, and no other that can be asked believes to be."""
        def one():
            self.never_two(name)
            owners = list(self.owners(name))
            return owners if len(owners) == 1 and owners == self.who_runs(name) else []

        return self.wait_for(one, timeout, lambda: f"nobody runs {name}, or two do: {self.statuses(name)}")[0]

    def await_gone(self, name, host, timeout=DETECTS):
        """It ends there by itself, and so does what served it."""
        def gone():
            return self.sides[host].state_of(name) is None and not self._pgrep(host, f"({PROCESS}|{RELAY}) .*{name}")

        return self.wait_for(gone, timeout, lambda: f"{name} is still on {host}: {self.sides[host].left(None)}")

    def await_pair_or_one(self, name, owner, timeout):
        """What it comes to: the other host backs it up, or has nothing of it. A copy that was being filled may go either way."""
        other = self.other(owner)

        def settled():
            if self.status(name, owner).mode == "protected":
                return self.status(name, other).mode == "backup"
            return self.sides[other].state_of(name) is None and not self._pgrep(other, f"({PROCESS}|{RELAY}) .*{name}")

        self.wait_for(settled, timeout, lambda: f"{name} is neither a pair nor alone: {self.statuses(name)}, {self.sides[other].left(None)}")

    @staticmethod
    def wait_for(condition, timeout, problem):
        deadline = time.monotonic() + timeout
        while not (value := condition()):
            assert time.monotonic() < deadline, problem()
            time.sleep(0.2)
        return value

    def never_two(self, name):
        """Two that may put something out: the same generation names one of them. A deposed owner that does not know it yet is no second one:
        what it can still put out is judged by its frames."""
        told = self.statuses(name)
        owners = [host for host, one in told.items() if one.role in ("solo", "protected")]
        assert len({told[host].generation for host in owners}) == len(owners), f"{name} runs twice: {told}"

    def record(self):
        """The newest record at the arbiter."""
        records = self.etcd.records().values()
        return max(records, key=lambda one: one["revision"], default=None)

    def counted_on_disk(self, name=None):
        """The newest count on the disk of the host that owns it, past all caches."""
        host = self.here(name or self._vm.name)
        return newest_count(self.lab[host].run(f"dd if={DISK} bs=128k count=1 iflag=direct status=none").stdout)

    def check(self, clients, name=None, disk=True):
        """After the block of the clients: their log, the guest's own memory and disk, and what lies on the disk."""
        history = clients.history()
        assert history.whole, "a client did not come to its end"
        history.check()
        self.check_intact()
        if disk:
            assert self.counted_on_disk(name) >= history.last_durable(), "what was acknowledged is not on the disk"

    # What breaks

    def kill(self, host, program):
        """Every process of that program there, at once."""
        pids = self.sides[host].pids(program)
        assert pids, f"no {program} on {host}"
        self.lab[host].run(["kill", "-9", *pids], check=False)
        return pids

    def _pgrep(self, host, pattern):
        """Not by a shell, whose own command line the pattern would stand in."""
        return self.lab[host].run(["pgrep", "-f", pattern], check=False).text.split()

    def kill_vm(self, host):
        pids = self._pgrep(host, f"^{PROCESS} ")
        assert pids, f"no VM's process on {host}"
        self.lab[host].run(["kill", "-9", *pids], check=False)

    def kill_daemon(self, host):
        self.sides[host].peer.end_daemon("KILL")
        self.sides[host].peer.start_daemon()
