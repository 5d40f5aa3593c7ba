# SPDX-License-Identifier: Apache-2.0
"""The machine under a database is killed while clients write to it: they go on at the backup, and nothing is lost."""

import json
import time

from labkit import Lab
from labkit.etcd import Etcd
from labkit.guests import guest
from labkit.hosts import PeerHost, introduce
from labkit.load import HISTORY
from labkit.load.judge import History
from labkit.paths import build_directory

from demo.say import chapter, say

PROGRAMS = "/tmp/utsusu"
ADDRESS = "10.77.0.100"
TAP = "demo0"
DATABASE = "load & redis-server --bind 0.0.0.0 --protected-mode no --save '' --appendonly no >/dev/null &"
CMDLINE = f'console=ttyS0 quiet panic=-1 random.trust_cpu=on utsusu.ip={ADDRESS}/24 utsusu.run="{DATABASE}" utsusu.then=shell'
CLIENTS = ["redis:0.01", "redis:0.03", "sequence:0.02"]
ENOUGH, PATIENCE = 100, 120


class Scene:
    def __init__(self, lab):
        self.lab = lab
        self.owner, self.backup, self.outside = (lab[name] for name in "ABC")
        self.etcd = Etcd(list(lab.machines.values()))

    def run(self, machine, command, shown=True, timeout=180):
        if shown:
            say(f"{machine.name}$ {command}")
        done = machine.run(f"{PROGRAMS}/{command}", timeout=timeout)
        for line in (done.stderr + done.stdout).decode(errors="replace").strip().splitlines() if shown else []:
            say(f"  {line}")
        return done.text

    def begin(self):
        chapter("Two machines that know each other, a third one for the clients, and an etcd on all three")
        self.etcd.start()
        self.etcd.lead(self.outside.name)
        lists = {"networks": {"wire": {"bridge": "br0"}}, "moves": {"plain": "allow"}, "arbiter": {"endpoints": self.etcd.endpoints}}
        for machine in (self.owner, self.backup):
            machine.run(f"mkdir {PROGRAMS} && cp {build_directory()}/src/programs/utsusu* {PROGRAMS}/ 2>/dev/null || true", timeout=120)
        introduce(*(PeerHost(machine, PROGRAMS, lists) for machine in (self.owner, self.backup)))
        self.run(self.owner, "utsusu arbiter check")

    def start(self):
        chapter("A database in memory, without a disk: what it knows is gone with its memory")
        self.owner.run(f"ip tuntap add {TAP} mode tap vnet_hdr && brctl addif br0 {TAP} && ip link set {TAP} up")
        files = guest("redis")
        command = [f"{PROGRAMS}/utsusu", "run", "database", "--kernel", files["kernel"], "--initrd", files["initrd"],
                   "--cmdline", CMDLINE, "--cpus", "1", "--memory", "512M", "--net", f"tap={TAP}"]
        self.owner.start_command(command).expect("load: serves", 180)
        self.await_answer()

    def await_answer(self):
        deadline = time.monotonic() + PATIENCE
        while "PONG" not in self.outside.run(f"timeout 2 redis-cli -h {ADDRESS} ping || true").text:
            if time.monotonic() > deadline:
                raise RuntimeError("the database does not answer")
            time.sleep(0.2)

    def protect(self):
        chapter("The second machine protects it: from now on nothing leaves that it does not have")
        self.run(self.owner, "utsusu protect database B --detect 2s")
        self.await_protected()
        self.run(self.owner, "utsusu status database")

    def await_protected(self):
        deadline = time.monotonic() + PATIENCE
        while json.loads(self.run(self.owner, "utsusu status database --json", shown=False)).get("role") != "protected":
            if time.monotonic() > deadline:
                raise RuntimeError("the database is not protected")
            time.sleep(0.2)

    def lose(self):
        """(what, figure) of what it cost."""
        chapter("Clients write, and the machine under the database loses its power")
        clients = self.outside.start_command(["/usr/bin/python3", str(HISTORY), ADDRESS, *CLIENTS])
        self._await_operations(clients, ENOUGH)
        before = self._clock()
        self.owner.kill()
        after = self._clock()
        say("A is gone.")
        self._await_operations(clients, len(self._seen(clients).ok) + ENOUGH)
        self.run(self.backup, "utsusu status database")
        self.run(self.backup, "utsusu list")
        clients.close_stdin()
        clients.wait(PATIENCE)
        return self._judge(self._seen(clients), before, after)

    def _clock(self):
        return float(self.outside.run("cut -d' ' -f1 /proc/uptime").text)

    @staticmethod
    def _seen(clients):
        return History.of_lines(bytes(clients.stdout).decode())

    def _await_operations(self, clients, count):
        deadline = time.monotonic() + PATIENCE
        while len(self._seen(clients).ok) < count:
            if time.monotonic() > deadline or not clients.running():
                raise RuntimeError(f"the clients had only {len(self._seen(clients).ok)} answers")
            time.sleep(0.2)

    @staticmethod
    def _judge(history, before, after):
        if problems := history.problems():
            raise RuntimeError(f"the clients lost something: {problems[0]}")
        silence = history.next_after(after) - before
        say(f"{len(history.ok)} operations of {len(CLIENTS)} clients were acknowledged, each on the connection that it began with.")
        say("None of them is lost, no counter went back, no connection was reset.")
        return [("power cut to the database's next reply", f"{silence:.2f} s")]


def tell():
    """Always in the lab: it takes a machine that can be lost."""
    with Lab(machines=3, memory=1536, bridge=True, state_disk=1 << 30) as lab:
        scene = Scene(lab)
        scene.begin()
        scene.start()
        scene.protect()
        return scene.lose()
