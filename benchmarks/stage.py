# SPDX-License-Identifier: Apache-2.0
"""Where both monitors run: one lab machine, with the same guest, disks and interfaces for both."""

import json
import shlex
from pathlib import Path

from labkit import Lab
from labkit.guests import guest
from labkit.paths import build_directory

from benchmarks.failure import Failure
from benchmarks.monitors import Vm
from benchmarks.pair import Pair, compiled
from benchmarks.protected import ProtectedPair

HERE = Path(__file__).parent
PLACE = "/tmp/bench"        # in the machine: memory, so that reading programs costs the same each time
INIT = "utsusu-guest: init"     # the first line of the guests' init
DONE = "utsusu-guest: exit 0"   # after the command that the guest was given
QUIET = ("console=ttyS0 quiet panic=-1 tsc=reliable mitigations=off random.trust_cpu=on "
         "i8042.noaux i8042.nokbd")
EXITS, ROUNDS = 50, 400     # of guest/exits.S and guest/bare.c


class Booted:
    """What was seen of one or more guests from their monitors' start on."""

    def __init__(self, seen):
        self._start = seen["start"]
        self._entry = seen["entry"]
        self.memory = seen["memory"]
        self.reply = seen.get("reply")
        self.guests = seen["guests"]

    def seconds_to_entry(self):
        if self._entry is None:
            raise Failure("KVM's tracepoint saw no entry into a guest")
        return self._entry - self._start

    def seconds_to(self, text):
        """From the start to the first line with this text, of the guest that came last."""
        return max(self.times_of(text, one)[0] for one in self.guests) - self._start

    def times_of(self, text, one=None):
        lines = (one or self.guests[0])["lines"]
        return [moment for moment, line in lines if text in line]

    def line_with(self, text):
        """The first line of the only guest that holds this text."""
        for _, line in self.guests[0]["lines"]:
            if text in line:
                return line
        raise Failure(f"the guest wrote no line with '{text}'")


class Stage:
    """With "with". The machine comes up when something is first to run in it, and ends with the block."""

    def __init__(self):
        self._lab = None
        self._pair = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.leave_machine()

    def leave_machine(self):
        """It ends; what is to run next runs in a new one."""
        if self._lab:
            self._lab.down()
            self._lab = None
        if self._pair:
            self._pair.__exit__()
            self._pair = None

    def pair(self):
        """The machines between which VMs move; the single machine ends for them."""
        return self._pair_of(Pair)

    def protected_pair(self):
        """Those on which VMs are protected, likewise."""
        return self._pair_of(ProtectedPair)

    def _pair_of(self, kind):
        if type(self._pair) is not kind:
            self.leave_machine()
            self._pair = kind().__enter__()
        return self._pair

    def _machine(self):
        if not self._lab:
            self.leave_machine()
            self._lab = Lab(machines=1, cpus=2, memory=6144).up()
            copies = [f"cp {shlex.quote(str(path))} {PLACE}/{name}"
                      for name, path in self._files().items()]
            self._lab["A"].run(" && ".join([f"mkdir -p {PLACE}", *copies]), timeout=180)
        return self._lab["A"]

    @staticmethod
    def _files():
        """{name in the machine: file here}"""
        programs = [path for path in (build_directory() / "src/programs").glob("utsusu*")
                    if path.is_file() and not path.suffix]
        files = {path.name: path for path in
                 [*programs, HERE / "inside.py", exits_guest(), bare_loop()]}
        for name in ("tiny", "tools"):
            files.update({f"{name}-{what}": path for what, path in guest(name).items()})
        return files

    # Guests

    def vm(self, command=None, guest_name="tiny", arguments="", **options):
        """A small Linux guest; with a command, one that runs it and ends."""
        files = {what: f"{PLACE}/{guest_name}-{what}" for what in ("kernel", "initrd")}
        order = f'utsusu.run="{command}"' if command else ""
        return Vm(cmdline=f"{QUIET} {arguments} {order}".strip(), **files, **options)

    def measured(self, monitor, command, timeout, **options):
        """What was seen of a guest with tools that ran this command to its end."""
        vm = self.vm(command, "tools", memory=1024, **options)
        return self.run(monitor, vm, DONE, timeout=timeout)

    def run(self, monitor, vm, until=INIT, count=1, **order):
        """Starts the VM, or several alike, and waits until each guest wrote a line like this."""
        order["commands"] = [monitor.command(vm, PLACE, f"bench{number}") for number in range(count)]
        order.update(until=until, timeout=order.get("timeout", 120))
        seen = json.loads(self.execute(f"/usr/bin/python3 {PLACE}/inside.py",
                                       input=json.dumps(order), timeout=order["timeout"] + 60))
        for one in seen["guests"]:
            if one["status"] != "reached":
                last = " / ".join(line for _, line in one["lines"][-3:])
                raise Failure(f"{monitor.name}: {one['status']} before '{until}'; last seen: {last}")
        return Booted(seen)

    def execute(self, command, **options):
        return self._machine().run(command, **options).text

    def exits(self, monitor, kind):
        """Microseconds that an exit of exits.S takes beyond one around a loop of KVM_RUN alone."""
        taken, bare = self._cycles(monitor, kind), self._bare()
        if taken <= bare[kind]:
            raise Failure(f"{taken} cycles, a bare loop {bare[kind]}: this machine is too busy to tell")
        return (taken - bare[kind]) / EXITS / bare["cycles_per_us"]

    def round_trip(self, monitor, kind):
        """Microseconds of an exit and the way back, all of it."""
        return self._cycles(monitor, kind) / EXITS / self._bare()["cycles_per_us"]

    def _cycles(self, monitor, kind):
        """Of many short rounds the quickest counts, here as around the bare loop: one that nothing disturbed."""
        seen = self.run(monitor, Vm(kernel=f"{PLACE}/exits", memory=64), "mmio ", times=3)
        return min(int(line.split()[1], 16) for _, line in seen.guests[0]["lines"]
                   if line.startswith(f"{kind} "))

    def _bare(self):
        return json.loads(self.execute(f"{PLACE}/bare {EXITS} {3 * ROUNDS}"))


# What runs there, built once and kept by content.

def exits_guest():
    source = HERE / "guest/exits.S"
    command = ["gcc", "-nostdlib", "-static", "-no-pie", f"-DEXITS={EXITS}", f"-DROUNDS={ROUNDS}", "-Wl,-e,start,"
               "-Ttext=0x201000,--section-start=.note.pvh=0x208000,--build-id=none,-z,noseparate-code,"
               "-z,noexecstack"]
    return compiled("exits", source, command)


def bare_loop():
    return compiled("bare", HERE / "guest/bare.c", ["gcc", "-O2", "-static"])
