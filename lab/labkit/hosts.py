# SPDX-License-Identifier: Apache-2.0
"""Machines as hosts of utsusu that know each other: what moves need on both.

    a, b = (PeerHost(lab[name], programs) for name in "AB")
    introduce(a, b)                     keys, lists of disks and networks, daemons, each other's fingerprint
    a.utsusu("move", "vm", "B")

The programs lie in a folder of the machine. What the daemons know is in /var/lib/utsusu and survives a power cut; after one,
begin() again makes the rest.
"""

import json
import time

from .errors import LabError

LISTS = {"disks": {"shared": {"path": "/dev/disk/by-lab/shared"}}, "networks": {"wire": {"bridge": "br0"}},
         "moves": {"plain": "allow"}}    # the wire is the lab's own
STATE = "/var/lib/utsusu"
PID, LOG = "/run/utsusud.pid", "/run/utsusud.log"


class PeerHost:
    def __init__(self, machine, programs, lists=None):
        self.machine = machine
        self.name = machine.name
        self.programs = programs
        self.lists = lists or LISTS

    def utsusu(self, *arguments, timeout=180, check=True, **options):
        return self.machine.run([f"{self.programs}/utsusu", *arguments], timeout=timeout, check=check, **options)

    def begin(self):
        """The machine's own lists, its key unless it has one, and its daemon."""
        self.write_lists()
        if self.machine.run(f"ls {STATE} | grep -q key", check=False).returncode:
            self.machine.run([f"{self.programs}/utsusud", "init"])
        self.end_daemon()
        self.start_daemon()

    def write_lists(self):
        self.machine.run("mkdir -p /etc/utsusu && cat >/etc/utsusu/host.json", input=json.dumps(self.lists))

    def start_daemon(self):
        """On its own, as an init system would have it; returns when it answers."""
        self.machine.run(f"setsid sh -c 'echo $$ >{PID}; exec {self.programs}/utsusud' </dev/null >>{LOG} 2>&1 &")
        deadline = time.monotonic() + 60
        while self.utsusu("peer", "show", check=False).returncode:
            if time.monotonic() > deadline:
                raise LabError(f"machine {self.name}, utsusud", "it does not answer", self.daemon_said()[-500:])
            time.sleep(0.1)

    def end_daemon(self, signal="TERM"):
        """Returns when it is gone, if there was one; what it started goes on."""
        self.machine.run(f"[ -e {PID} ] && kill -{signal} $(cat {PID}) && while [ -d /proc/$(cat {PID}) ]; do sleep 0.05; done",
                         check=False)

    def daemon_said(self):
        return self.machine.run(f"cat {LOG}", check=False).text

    def fingerprint(self):
        return json.loads(self.utsusu("peer", "show", "--json").text)["fingerprint"]

    def know(self, other):
        self.utsusu("peer", "add", other.name, other.machine.address, "--fingerprint", other.fingerprint())


def introduce(*hosts):
    """All daemons run; each host knows the others."""
    for host in hosts:
        host.begin()
    for host in hosts:
        known = {peer["name"] for peer in json.loads(host.utsusu("peer", "list", "--json").text)}
        for other in hosts:
            if other is not host and other.name not in known:
                host.know(other)
