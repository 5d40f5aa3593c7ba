# SPDX-License-Identifier: Apache-2.0
"""Where moves are measured: two lab machines that hold VMs, a third one that uses them, one wire between all."""

import contextlib
import hashlib
import json
import re
import shlex
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from labkit import Lab, cache
from labkit.guests import guest
from labkit.hosts import STATE, PeerHost, introduce
from labkit.load import CLIENT
from labkit.paths import build_directory

from benchmarks.failure import Failure
from benchmarks.monitors import Vm

HERE = Path(__file__).parent
PLACE = "/tmp/bench"        # in the machines' memory
GUEST = "10.77.0.100"
TAP = "bench0"
LISTS = {"networks": {"wire": {"bridge": "br0"}}, "moves": {"plain": "allow"}}      # the wire is the lab's own
BEFORE = 5                  # seconds of a client's work before a move
CAP = 90                    # seconds after which a move counts as not finished
CONSOLE = "console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on utsusu.then=shell"
GUESTS = {"load": "load", "redis": "load & redis-server --bind 0.0.0.0 --protected-mode no --save '' --appendonly no >/dev/null"}

OPENSSL_SECONDS = 3
# Bytes of the source's card, a second after the beginning, and at the end.
OPENSSL_SENDS = f"""
openssl s_client -connect B:7443 -quiet -tls1_3 -ciphersuites TLS_AES_128_GCM_SHA256 </dev/zero >/dev/null 2>&1 & sender=$!
sleep 1; cat /sys/class/net/wire0/statistics/tx_bytes
sleep {OPENSSL_SECONDS}; cat /sys/class/net/wire0/statistics/tx_bytes
kill $sender
"""


@dataclass
class Move:
    """What was seen of one move."""
    finished: bool
    total: float        # seconds; the cap where it did not finish
    down: float         # seconds of the longest silence, as a third machine saw it
    sent: int           # bytes on the wire
    rate: float         # bytes a second of the bulk: from the first tenth that was sent to the last
    wire: float         # bytes a second that iperf3 (with TLS: OpenSSL) got just before, beside the same guest and the same client
    said: str           # the mover's last words
    start: float        # seconds of the third machine's clock
    beside: dict        # what a client saw that worked meanwhile


class Pair:
    """With "with"."""

    def __init__(self, memory=3072):
        self._lab = Lab(machines=3, memory=memory, bridge=True)
        self._hosts = None

    def __enter__(self):
        self._lab.up()
        self.source, self.target, self.outside = (self._lab[name] for name in "ABC")
        for machine in (self.source, self.target):
            self._bring(machine)
        return self

    def _bring(self, machine):
        """What a machine needs after its start."""
        copies = [f"cp {shlex.quote(str(path))} {PLACE}/{name}" for name, path in self._files().items()]
        machine.run(" && ".join([f"mkdir -p {PLACE}", *copies]), timeout=180)
        machine.run(f"ip tuntap add {TAP} mode tap vnet_hdr && brctl addif br0 {TAP} && ip link set {TAP} up")

    def __exit__(self, *_):
        self._lab.down()

    @staticmethod
    def _files():
        """{name in the machines: file here}"""
        programs = [path for path in (build_directory() / "src/programs").glob("utsusu*")
                    if path.is_file() and not path.suffix]
        files = {path.name: path for path in [*programs, HERE / "mover.py", compiled("copy", HERE / "copy.c", ["gcc", "-O2", "-static"])]}
        for name in GUESTS:
            files.update({f"{name}-{what}": path for what, path in guest(name).items()})
        return files

    @staticmethod
    def lists():
        return LISTS

    def hosts(self):
        """Both machines with utsusud, which know each other."""
        if not self._hosts:
            self._hosts = [PeerHost(machine, PLACE, self.lists()) for machine in (self.source, self.target)]
            introduce(*self._hosts)
            self._bring_kernels()
        return self._hosts

    def _bring_kernels(self):
        """The target has the guests' kernels already, as the peer's has: ours would send them with the first move, and only then."""
        for name in GUESTS:
            for what, path in guest(name).items():
                hash_ = hashlib.sha256(Path(path).read_bytes()).hexdigest()
                self.target.run(f"mkdir -pm 700 {STATE}/files && cp {PLACE}/{name}-{what} {STATE}/files/{hash_}")

    # A VM, and what it does

    def vm(self, kind, memory, huge=False):
        """A VM whose guest serves clients."""
        files = {what: f"{PLACE}/{kind}-{what}" for what in ("kernel", "initrd")}
        return Vm(cmdline=f'{CONSOLE} utsusu.ip={GUEST}/24 utsusu.run="{GUESTS[kind]} &"', memory=memory,
                  taps=[TAP], huge=huge, moves=True, **files)

    def pages_for(self, vm):
        """Huge pages on both machines, or none."""
        count = vm.memory // 2 + 8 if vm.huge else 0
        for machine in (self.source, self.target):
            machine.run(f"echo {count} >/proc/sys/vm/nr_hugepages")
            if int(machine.run("cat /proc/sys/vm/nr_hugepages").text) < count:
                raise Failure(f"machine {machine.name} has no {count} huge pages")

    def ask(self, *commands, timeout=180):
        """What load.c answers to each, as words."""
        deadline = time.monotonic() + 60
        while True:
            done = self.outside.run(["/usr/bin/python3", str(CLIENT), "ask", GUEST, *commands], check=False,
                                    timeout=timeout)
            if done.returncode == 0:
                return [line.split() for line in done.text.splitlines()]
            if time.monotonic() > deadline:
                raise Failure(f"the guest does not answer: {done.stderr[-200:]!r}")
            time.sleep(0.3)

    def await_redis(self):
        deadline = time.monotonic() + 60
        while "PONG" not in self.outside.run(f"timeout 3 redis-cli -h {GUEST} ping", check=False, timeout=60).text:
            if time.monotonic() > deadline:
                raise Failure("Redis in the guest does not answer")
            time.sleep(0.3)

    @contextlib.contextmanager
    def client(self, kind, *arguments):
        """client.py beside what is measured; its last line is in the object that is given, when the block has ended."""
        seen = {}
        running = self.outside.start_command(["/usr/bin/python3", str(CLIENT), kind, GUEST, *arguments])
        try:
            if kind == "gap":
                running.expect("answered", 60)
            yield seen
            running.close_stdin()
            running.wait(120)
        finally:
            if running.running():
                running.kill()
        lines = bytes(running.stdout).decode().splitlines()
        if running.returncode or not lines:
            raise Failure(f"client {kind}: {bytes(running.stderr)[-300:]!r}")
        seen.update(json.loads(lines[-1]))

    @staticmethod
    def qmp(machine, path, commands):
        """Commands for a peer's control socket."""
        machine.run(f"/usr/bin/python3 {PLACE}/mover.py",
                    input=json.dumps({"qmp": path, "before": commands, "uri": None}))

    def drive(self, order):
        """What mover.py saw of this order."""
        return json.loads(self.source.run(f"/usr/bin/python3 {PLACE}/mover.py",
                                          input=json.dumps({"cap": CAP, **order}), timeout=CAP + 120).text)

    def check_memory(self, monitor):
        """The guest compares what is in its memory with what it put there."""
        if (wrong := self.ask("check", timeout=120)[0][1]) != "0":
            raise Failure(f"{monitor.name}: {wrong} bytes of the guest's memory are wrong afterwards")

    # What is measured

    def tls_wire(self):
        """Bytes a second that OpenSSL's own programs send over the same wire now, on one connection with the cipher of ours."""
        self.target.run(f"test -f {PLACE}/key.pem || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=B "
                        f"-keyout {PLACE}/key.pem -out {PLACE}/cert.pem 2>/dev/null")
        # Its input stays open, and empty.
        server = self.target.start_command(["sh", "-c", f"exec openssl s_server -accept 7443 -quiet -tls1_3 -cert {PLACE}/cert.pem "
                                                        f"-key {PLACE}/key.pem >/dev/null 2>&1"])
        try:
            self.target.run("until ss -Hltn sport = :7443 | grep -q .; do sleep 0.1; done", timeout=30)
            first, last = map(float, self.source.run(OPENSSL_SENDS, timeout=60).text.split())
        finally:
            server.kill()
        return (last - first) / OPENSSL_SECONDS

    def wire(self):
        """Bytes a second that iperf3 gets over the same wire now."""
        server = self.target.start_command(["iperf3", "-s", "-1", "--forceflush"])
        server.expect("listening", 30)
        text = self.source.run(["iperf3", "-c", "B", "-t", "4", "-O", "1", "-f", "k"], timeout=60).text
        server.wait(30)
        return float(re.search(r"([\d.]+) Kbits/sec\s+receiver", text)[1]) * 1000 / 8

    def move(self, order, beside=None, after=1, ask_every=0.01, tls=False):
        """Has mover.py move the VM as the monitor's order says; `beside`: what client.py does as well, for `after` seconds more."""
        with contextlib.ExitStack() as clients:
            silence = clients.enter_context(self.client("gap", str(ask_every)))
            wire = self.tls_wire() if tls else self.wire()
            work = {}
            if beside:
                work = clients.enter_context(self.client(beside))
                time.sleep(BEFORE + 1)
            ahead = self._clock(self.outside) - self._clock(self.source)
            seen = self.drive(order)
            time.sleep(after)
        total = seen["end"] - seen["start"]
        if not seen["finished"] and total < CAP:
            raise Failure(f"the move failed: {seen['said'][-400:]}")
        start = seen["start"] + ahead
        longest = max((length for length, at in silence["silences"] if at >= start - 0.5), default=0.0)
        return Move(seen["finished"], total, longest, seen["samples"][-1][1] - seen["samples"][0][1],
                    bulk_rate(seen["samples"]), wire, seen["said"], start, work)

    @staticmethod
    def _clock(machine):
        """A moment of its CLOCK_MONOTONIC, some hundredths of a second old."""
        return float(machine.run("cut -d' ' -f1 /proc/uptime").text)


def compiled(name, source, command):
    """A program for the machines, built once and kept by content."""
    def build(folder):
        subprocess.run([*command, "-o", str(folder / name), str(source)], check=True)

    return cache.built(f"bench-{name}", [source, *command], build) / name


def bulk_rate(samples):
    """Bytes a second between the moments when a tenth and nine tenths of all were sent."""
    first, last = samples[0][1], samples[-1][1]
    marks = []
    for share in (0.1, 0.9):
        wanted = first + share * (last - first)
        marks.append(next(one for one in samples if one[1] >= wanted))
    (t0, b0), (t1, b1) = marks
    if t1 <= t0:
        raise Failure("too little was sent to tell a rate")
    return (b1 - b0) / (t1 - t0)
