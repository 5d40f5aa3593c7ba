# SPDX-License-Identifier: Apache-2.0
"""Moves between two machines of the lab, seen from a third.

    hosts = MovePair(lab)                   utsusud on A and B, each knows the other
    vm = hosts.start()                      a VM on A, with a disk and a network that both have
    with hosts.client(vm) as log:           on C: counts in the guest, on one connection
        hosts.move(vm, "A", "B")
    assert hosts.who_runs(vm) == ["B"]
    log.check()                             nothing acknowledged is lost, nothing goes back

Every wait has a deadline, generous because the computer may be busy.
"""

import itertools
import json
import re
import secrets
import time

from labkit import LabError
from labkit.hosts import STATE, PeerHost, introduce
from labkit.load import CLIENT
from vms import PROGRAMS, Host

GUEST = "10.77.0.100"
CMDLINE = f'utsusu.ip={GUEST}/24 utsusu.run="load &" utsusu.then=shell'
DISK = "/dev/disk/by-lab/shared"
SHARED_MORE = 32 << 10  # KiB of shared memory that a host may have more than before: the journal's, the programs'
SLOW = ("--compress", "off", "--max-bandwidth", "12M")  # less than write_much() writes
CLOCK_DRIFT = 0.25      # seconds that the guest's clocks may differ from the client's, over a test

# Processes, connections of daemons (port 7878), shared memory in KiB, names in the runtime directory, what the daemon keeps for moves, taps.
LEFT = r"""
daemon=$(cat /run/utsusud.pid)
for p in /proc/[0-9]*; do read -r c 2>/dev/null <$p/comm || continue
	case $c in
	utsusu|utsusu-*|passt*) echo process $c $(tr '\0' ' ' <$p/cmdline);;
	utsusud) [ "${p#/proc/}" = "$daemon" ] || echo process $c ${p#/proc/};;
	esac
done
grep -hE '^ *[0-9]+: [0-9A-F:]*( [0-9A-F:]*)?:1EC6( [0-9A-F:]*)? 0[18] ' /proc/net/tcp /proc/net/tcp6 | sed 's/^/connection /'
sed -n 's/^Shmem: *\([0-9]*\) kB/shared memory \1/p' /proc/meminfo
ls /run/utsusu | sed 's/^/name /'
ls -A /run/utsusu/.utsusud | grep -vx -e socket -e lock | sed 's/^/reservation /'
for t in /sys/class/net/*/tun_flags; do [ -e $t ] && t=${t%/tun_flags} && echo tap ${t##*/}; done
true
"""


class Log:
    """What a client that counted saw, in order."""

    def __init__(self, entries):
        self.entries = entries
        self.answers = [one for one in entries if "count" in one]
        self.broken = [one for one in entries if "broken" in one]

    @classmethod
    def of_lines(cls, text):
        """A last line may be cut short."""
        return cls([json.loads(line) for line in text.splitlines() if line.endswith("}")])

    def last(self):
        """The highest count that was acknowledged."""
        return max((one["count"] for one in self.answers), default=0)

    def longest(self):
        """Seconds that the slowest answer took."""
        return max((one["took"] for one in self.answers), default=0)

    def problems(self, connections=1, lived=True):
        """What is wrong, as texts. `connections`: how many there may have been; `lived`: the VM was never started anew."""
        found = []
        if not self.answers:
            return ["nothing was acknowledged"]
        if len(self.broken) >= connections:
            found.append(f"the connection broke {len(self.broken)} times: {self.broken[-1]['broken']}")
        for before, after in zip(self.answers, self.answers[1:]):
            found += self._between(before, after, lived)
        if errors := self.answers[-1]["errors"]:
            found.append(f"the guest saw {errors} errors of its memory, disk or clocks")
        return found

    @staticmethod
    def _between(before, after, lived):
        found = []
        asked = after["number"] - before["number"]
        grown = after["count"] - before["count"]
        # Of the counts on a connection that broke, each may have been done or not.
        if not 1 <= grown <= asked:
            found.append(f"count went from {before['count']} to {after['count']}, asked {asked} times")
        if after["echoed"] != after["number"]:
            found.append(f"answer {after['echoed']} to {after['number']}")
        if after["realtime"] <= before["realtime"]:
            found.append(f"the guest's wall clock went back after count {before['count']}")
        if lived and after["monotonic"] <= before["monotonic"]:
            found.append(f"the guest's clock went back after count {before['count']}")
        return found

    def drift(self, clock="monotonic"):
        """Seconds by which the guest's clock gained on the client's from the first answer to the last."""
        first, last = self.answers[0], self.answers[-1]
        return (last[clock] - first[clock]) / 1e9 - (last["at"] - first["at"])

    def check(self, stood_still=False, **options):
        """`stood_still`: a machine did, and its clocks with it; a guest's may then be late, and never early."""
        problems = self.problems(**options)
        assert not problems, "\n".join(problems[:10])
        for clock in ("monotonic", "realtime"):
            drift = self.drift(clock)
            assert drift < CLOCK_DRIFT and (stood_still or drift > -CLOCK_DRIFT), \
                f"the guest's {clock} clock drifted by {drift:.3f} s"


class Counting:
    """A client on a machine; with "with", it ends with the block and its log is whole."""

    def __init__(self, machine, address, pause=0.05):
        self._process = machine.start_command(["/usr/bin/python3", str(CLIENT), "count", address, str(pause)])

    def __enter__(self):
        self.await_answers(3)
        return self

    def __exit__(self, kind, *_):
        if kind or not self._process.running():
            self._process.kill()
            return
        self._process.close_stdin()
        self._process.wait(180)

    def give_up(self):
        """Nobody will answer any more."""
        self._process.kill()
        self._process.wait(30)

    def log(self):
        return Log.of_lines(bytes(self._process.stdout).decode())

    def await_answers(self, more, timeout=120):
        """Waits for so many answers from now on."""
        have = len(self.log().answers)
        deadline = time.monotonic() + timeout
        while len(self.log().answers) < have + more:
            if time.monotonic() > deadline or not self._process.running():
                raise LabError("client", f"no {more} more answers",
                               f"it saw {self.log().entries[-3:]}, {bytes(self._process.stderr)[-300:]!r}")
            time.sleep(0.05)

    def check(self, **options):
        self.log().check(**options)


def ask(machine, address, *commands, timeout=120):
    """Answers of load.c, each as its words."""
    text = machine.run(["/usr/bin/python3", str(CLIENT), "ask", address, *commands], timeout=timeout).text
    return [line.split() for line in text.splitlines()]


def forget_card(machine, address):
    """A VM that was just started has this address, and another card than the one before it: who remembers that one waits for 20 s."""
    machine.run(f"ip neigh flush to {address}")


def newest_count(content):
    """The highest whole count on a disk of load.c."""
    newest = 0
    for at in range(0, 32 * 4096, 4096):
        magic, count, client, total = (int.from_bytes(content[at + 8 * i:at + 8 * i + 8], "little") for i in range(4))
        expected = magic ^ (count * 0x9e3779b97f4a7c15 & (1 << 64) - 1) ^ (client << 1 & (1 << 64) - 1)
        if magic == 0x7573757473756c64 and total == expected:
            newest = max(newest, count)
    return newest


def phases_of(progress):
    """The phases that a move's lines of progress tell, each once, in order."""
    seen = []
    for line in progress.splitlines():
        if match := re.search(r'"phase": ?"([a-z]+)"', line):
            if seen[-1:] != [match[1]]:
                seen.append(match[1])
    return seen


def lines_of(text):
    """What a command with --json has said so far."""
    return [json.loads(line) for line in text.splitlines() if line.startswith("{") and line.endswith("}")]


def in_two_places(text):
    """The lines of a move's progress that say that memory is in two places."""
    return [line for line in lines_of(text) if line.get("postcopy")]


class Outcome:
    """What `utsusu move --json` said and came to."""

    def __init__(self, result):
        self.status = result.returncode
        self.said = result.stdout.decode(errors="replace")
        self.errors = result.stderr.decode(errors="replace")
        lines = lines_of(self.said)
        self.end = next((line for line in reversed(lines) if "end" in line), {})
        self.failpoints = [line["failpoint"] for line in lines if "failpoint" in line]

    def __repr__(self):
        return f"status {self.status}, {self.end or self.said[-300:]}, {self.errors[-400:]}"


class Side:
    """One of the two machines: as a place of VMs (vms.py), and as a host that has a peer."""

    def __init__(self, machine, lists=None):
        self.machine = machine
        self.name = machine.name
        self._lists = lists
        self._taps = itertools.count(1)
        self.begin()

    def begin(self):
        """After each start of the machine, which holds no VM; the daemons are begun by introduce()."""
        self.vms = Host(self.machine)
        self._shared = self._shared_memory(self.machine.run(LEFT, check=False).text)
        self.peer = PeerHost(self.machine, PROGRAMS, self._lists)

    def tap(self):
        """A new one on the wire's bridge."""
        name = f"move{next(self._taps)}"
        self.vms.run(f"! [ -e /sys/class/net/{name} ] || ip link del {name}; ip tuntap add {name} mode tap vnet_hdr && brctl addif br0 {name} && ip link set {name} up")
        return name

    def state_of(self, name):
        """As utsusu list has it; None: it is not there."""
        return self.vms.list().get(name, {}).get("state") if self.machine.alive() else None

    def pids(self, program):
        return self.machine.run(f"pidof {program} || true").text.split()

    @staticmethod
    def _shared_memory(text):
        return int(re.search(r"^shared memory (\d+)$", text, re.M)[1])

    def patience(self, ms):
        """Of the movers that start here from now on, with a silent peer; 0: as ever."""
        self.machine.run(f"cat >{STATE}/patience" if ms else f"rm -f {STATE}/patience", input=str(ms))

    def failpoint(self, text):
        """For the movers that start here from now on; "" is none."""
        self.machine.run(f"cat >{STATE}/failpoint", input=text)

    def left(self, kept=None):
        """What a host should not have that moves no VM and holds none but this one, as texts."""
        text = self.machine.run(LEFT, check=False).text
        ours = [r"tap move\d+$"]
        if kept and self.state_of(kept):
            ours += [rf"\b{kept}\b", r"tap ut", r"^shared memory"]
        elif self._shared_memory(text) < self._shared + SHARED_MORE:
            ours += [r"^shared memory"]
        return [line for line in text.splitlines() if not any(re.search(one, line) for one in ours)]


class MovePair:
    """Hosts A and B, and C outside. Machines and daemons are used by many tests; each test has a VM of its own, or takes over
    the one before it."""

    def __init__(self, lab, lists=None):
        self.lab = lab
        self.outside = lab["C"]
        self.sides = {name: Side(lab[name], lists) for name in "AB"}
        # Where a name went is remembered, and an attached lab may have seen earlier runs.
        self._names = (f"m{secrets.token_hex(2)}-{number}" for number in itertools.count(1))
        self._vm = None         # that tests hand on to each other
        introduce(*(side.peer for side in self.sides.values()))
        self.mend()

    def __getitem__(self, name):
        return self.sides[name]

    @staticmethod
    def other(name):
        return "B" if name == "A" else "A"

    def power_on(self, name):
        """After a power cut: the machine, and on it all that a start of a host brings."""
        self.lab[name].start()
        self.sides[name].begin()
        self.sides[name].peer.begin()

    # A VM

    def start(self, on="A", *options, memory="256M", name=None, cmdline="", disk=DISK):
        """A VM that serves; its console is in our hands as long as it is there. There is one disk and one address: the one
        that tests hand on ends."""
        if self._vm:
            self.end(self._vm.name)
            self._vm = None
        side = self.sides[on]
        vm = side.vms.start("--cpus", "2", "--memory", memory, "--disk", f"path={disk}", "--net", f"tap={side.tap()}",
                            *options, guest="load", cmdline=f"{CMDLINE} {cmdline}".strip(),
                            name=name or next(self._names))
        vm.expect("load: serves")
        forget_card(self.outside, GUEST)
        self.ask("disk 1")
        return vm

    def ask(self, *commands, timeout=120):
        """Answers of the guest, each as its words. It may need a moment before its network is there."""
        deadline = time.monotonic() + 60
        while True:
            try:
                return ask(self.outside, GUEST, *commands, timeout=timeout)
            except LabError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.3)

    def any_vm(self):
        """One that runs and has little to do."""
        if not self._vm or not self.who_runs(self._vm.name):
            self._vm = self.start()
        self.ask("dirty 0 0", "fill 0")
        return self._vm

    def mend(self):
        """What a test may have left: cut wires, frozen machines, a power cut, failpoints, other VMs."""
        self.lab.wires.heal("AB")
        for name, side in self.sides.items():
            if not side.machine.alive():
                self.power_on(name)
            side.machine.thaw()
            side.failpoint("")
            side.patience(0)
        kept = self._vm.name if self._vm else None
        for name in {name for side in self.sides.values() for name in side.vms.list()} - {kept}:
            self.end(name)

    def client(self, pause=0.05):
        return Counting(self.outside, GUEST, pause)

    def _how(self, name, source, options, plain):
        """`plain`: the test is not about the wire, and does without TLS, whose emulated AES takes half of a move's time."""
        return ["move", name, self.other(source), "--json", *(["--plain"] if plain else []), *options]

    def start_move(self, name, source, *options, plain=True):
        return self.sides[source].machine.start_command([f"{PROGRAMS}/utsusu", *self._how(name, source, options, plain)])

    def start_stopped(self, name, source, place, *options, plain=True):
        """A move whose mover stands at this failpoint, or that has ended because it does not come there."""
        side = self[source if place.startswith("source") else self.other(source)]
        side.failpoint(f"{place}:stop")
        running = self.start_move(name, source, *options, plain=plain)
        deadline = time.monotonic() + 180
        while running.running():
            if "T" in side.machine.run("for p in $(pidof utsusu-move); do cut -d' ' -f3 /proc/$p/stat; done", check=False).text:
                break
            assert time.monotonic() < deadline, f"nothing stops at {place}: {bytes(running.stdout)[-300:]}"
            time.sleep(0.1)
        side.failpoint("")
        return running

    def move(self, name, source, *options, plain=True, timeout=180, check=True):
        """Moves it to the other machine, and waits."""
        result = self.sides[source].peer.utsusu(*self._how(name, source, options, plain), timeout=timeout, check=False)
        outcome = Outcome(result)
        if check:
            assert outcome.status == 0 and outcome.end.get("end") == "ran", outcome
            assert self.who_runs(name) == [self.other(source)]
        return outcome

    # What has become of it

    def states(self, name):
        return {side.name: side.state_of(name) for side in self.sides.values()}

    def who_runs(self, name):
        return [host for host, state in self.states(name).items() if state == "running"]

    def here(self, name):
        """The one host that it runs on now."""
        runs = self.who_runs(name)
        assert len(runs) == 1, self.states(name)
        return runs[0]

    def check_intact(self):
        """What the guest has in its memory, on its disk and on its clocks is as it was."""
        status = self.ask("check", "status")
        assert status[0] == ["checked", "0"] and status[1][-1] == "0", status

    def write_much(self):
        """More than SLOW carries, and not for longer than it needs."""
        self.ask("fill 16", "dirty 16000 32")

    def check_only(self, name, source, *options):
        """What stands against the move, as texts; nothing has changed."""
        before = self.states(name)
        result = self.sides[source].peer.utsusu("move", name, self.other(source), "--check", "--json", *options, check=False)
        answer = json.loads(result.text)
        assert answer["ok"] == (result.returncode == 0) == (not answer["problems"]), result
        assert self.states(name) == before
        return [problem["message"] for problem in answer["problems"]]

    def resolve(self, name, on):
        return json.loads(self.sides[on].peer.utsusu("resolve", name, "--json", check=False).text or "{}")

    def await_settled(self, name, timeout=120):
        """Waits until the VM runs on one host or is on none: the first, or None. Never two, at no moment."""
        deadline = time.monotonic() + timeout
        while True:
            states = self.states(name)
            runs = [host for host, state in states.items() if state == "running"]
            assert len(runs) < 2, f"{name} runs twice"
            rest = set(states.values()) - {"running", None, "dead"}
            if not rest and (runs or time.monotonic() > deadline - timeout + 5):
                return runs[0] if runs else None
            assert time.monotonic() < deadline, f"{name} is not settled: {states}; {[self.resolve(name, h) for h in 'AB']}"
            time.sleep(0.3)

    def cancel_amid_memory(self, name, source):
        """A move that people end while its memory travels, slowly."""
        self.lab.wires.slow("AB", rate="16mbit")
        try:
            running = self.start_move(name, source)
            running.expect('"phase":"memory"', 60)
            time.sleep(0.5)
            running.send_signal(2)
            assert running.wait(60) != 0
        finally:
            self.lab.wires.heal("AB")

    def counted_on_disk(self):
        """The newest count on the shared disk, as a machine that has power sees it."""
        side = next(side for side in self.sides.values() if side.machine.alive())
        return newest_count(side.machine.run(f"dd if={DISK} bs=128k count=1 iflag=direct status=none").stdout)

    def end(self, name):
        """Ends it wherever it is."""
        for side in self.sides.values():
            if side.state_of(name):
                side.peer.utsusu("stop", name, "--force", check=False)

    def start_anew(self, name, on):
        """Whether that host starts a VM of this name from its disks; it is ended at once."""
        side = self.sides[on]
        arguments = side.vms.arguments(["--memory", "256M", "--disk", f"path={DISK}"], "load")
        started = side.peer.utsusu("run", name, "--detach", *arguments, check=False).returncode == 0
        if started:
            side.peer.utsusu("stop", name, "--force")
        return started

    def forget(self, name):
        """A VM that is lost: what its name stands for on either host is taken away by the operator's word."""
        self._vm = None
        self.end(name)
        for side in self.sides.values():
            side.peer.utsusu("resolve", name, "--declare-lost-here", check=False)

    def check_nothing_left(self):
        """Of VMs that have ended, while the one that tests hand on goes on."""
        kept = self._vm.name if self._vm else None
        deadline = time.monotonic() + 20
        while left := {name: found for name, side in self.sides.items() if (found := side.left(kept))}:
            assert time.monotonic() < deadline, f"left behind: {left}"
            time.sleep(0.3)
