# SPDX-License-Identifier: Apache-2.0
"""A VM moves to another machine while a client writes to its database: two machines, and a third one for the client."""

import json
import time

from labkit import Lab
from labkit.guests import guest
from labkit.hosts import PeerHost, introduce
from labkit.load import CLIENT
from labkit.paths import build_directory

from demo.say import chapter, say

PROGRAMS = "/tmp/utsusu"
ADDRESS = "10.77.0.100"
TAP = "demo0"
DISK = "/dev/disk/by-lab/shared"
CMDLINE = f'console=ttyS0 quiet panic=-1 random.trust_cpu=on utsusu.ip={ADDRESS}/24 utsusu.run="load &" utsusu.then=shell'


class Scene:
    def __init__(self, lab):
        self.source, self.target, self.outside = (lab[name] for name in "ABC")
        self.hosts = [PeerHost(machine, PROGRAMS) for machine in (self.source, self.target)]
        for machine in (self.source, self.target):
            machine.run(f"mkdir {PROGRAMS} && cp {build_directory()}/src/programs/utsusu* {PROGRAMS}/ 2>/dev/null || true",
                        timeout=120)

    def run(self, machine, command, timeout=180):
        say(f"{machine.name}$ {command}")
        done = machine.run(f"{PROGRAMS}/{command}", timeout=timeout)
        for line in (done.stderr + done.stdout).decode(errors="replace").strip().splitlines():
            say(f"  {line}")
        return done

    def begin(self):
        chapter("Two machines that know each other, one disk that both have, and a client on a third")
        introduce(*self.hosts)
        self.run(self.source, "utsusu peer list")
        self.source.run(f"ip tuntap add {TAP} mode tap vnet_hdr && brctl addif br0 {TAP} && ip link set {TAP} up")
        files = guest("load")
        command = [f"{PROGRAMS}/utsusu", "run", "mover", "--kernel", files["kernel"], "--initrd", files["initrd"],
                   "--cmdline", CMDLINE, "--cpus", "2", "--memory", "512M", "--disk", f"path={DISK}", "--net", f"tap={TAP}"]
        self.source.start_command(command).expect("load: serves", 180)

    def move(self):
        """(what, figure) of what it cost."""
        chapter("It moves while the client writes: each number that it acknowledges is on its disk")
        client = self.outside.start_command(["/usr/bin/python3", str(CLIENT), "count", ADDRESS, "0.02"])
        client.expect('"count"', 60)
        started = time.monotonic()
        self.run(self.source, "utsusu move mover B")
        took = time.monotonic() - started
        self.run(self.target, "utsusu list")
        self.run(self.source, "utsusu list")
        time.sleep(1)
        client.close_stdin()
        client.wait(60)
        return self._judge([json.loads(line) for line in bytes(client.stdout).decode().splitlines()], took)

    @staticmethod
    def _judge(entries, took):
        answers = [one for one in entries if "count" in one]
        counts = [one["count"] for one in answers]
        if counts != list(range(counts[0], counts[0] + len(counts))) or any("broken" in one for one in entries):
            raise RuntimeError("the client lost its connection, or something that was acknowledged")
        slowest = max(one["took"] for one in answers)
        say(f"The client wrote {len(counts)} numbers on one connection; none is lost, the slowest took {slowest:.2f} s.")
        return [("a VM with 512 MiB moved in", f"{took:.2f} s"), ("its client's slowest write meanwhile", f"{slowest:.2f} s")]


def tell():
    """Always in the lab: it takes two machines."""
    with Lab(machines=3, memory=1536, share_disk=64 << 20, bridge=True) as lab:
        scene = Scene(lab)
        scene.begin()
        return scene.move()
