# SPDX-License-Identifier: Apache-2.0
"""An etcd over machines of a lab: Debian's program, a member on each of them.

    etcd = Etcd([lab[name] for name in "ABC"])
    etcd.start()                        returns when each member answers what needs a majority
    etcd.keep_leader_off("A")           whoever loses A then needs no election
    etcd["B"].kill(); etcd["B"].start()
    etcd["C"].freeze(); etcd["C"].thaw()
    etcd.records()                      what stands there of VMs: {uuid: record with "revision"}

Plain HTTP: the wire is the lab's own. TLS and authentication are tested on loopback (tests/cli/test_arbiter.py).

A member's data lie on the machine's state disk, which a power cut leaves (without what was not flushed): one that came back
empty under its old name could vote twice in one term, and etcd would be no arbiter any more. That disk must be larger than
as a rule, because etcd makes files of 64 MiB: Lab(state_disk=1 << 30).
"""

import base64
import json
from pathlib import Path

from ..errors import LabError

ASK = Path(__file__).parent / "ask.py"
PROGRAM = "/usr/bin/etcd"
PLACE = "/scratch/etcd"             # no memory of the machine's, and empty after each start
DATA = "/var/lib/utsusu/etcd"
PID = f"{PLACE}/pid"
CLIENTS, PEERS = 2379, 2380
# Emulated machines stand still for a second now and then, and an election is no business of theirs.
HEARTBEAT_MS, ELECTION_MS = 200, 2000
PREFIX = "/utsusu/1/vm/"
PATIENCE = 120


def text(data):
    return base64.b64encode(data.encode()).decode()


class Member:
    def __init__(self, machine):
        self.machine = machine
        self.name = machine.name
        self.url = f"http://{machine.address}:{CLIENTS}"
        self.peer_url = f"http://{machine.address}:{PEERS}"

    def launch(self, members):
        """Starts its process, which has its data again if there are any."""
        words = {
            "name": self.name, "data-dir": DATA, "initial-cluster-state": "new", "initial-cluster-token": "lab",
            "initial-cluster": ",".join(f"{one.name}={one.peer_url}" for one in members),
            "listen-client-urls": self.url, "advertise-client-urls": self.url,
            "listen-peer-urls": self.peer_url, "initial-advertise-peer-urls": self.peer_url,
            "heartbeat-interval": HEARTBEAT_MS, "election-timeout": ELECTION_MS, "logger": "zap", "log-level": "warn",
        }
        options = " ".join(f"--{key}={value}" for key, value in words.items())
        # Copied first: the host's files are slow where a program reads them a page at a time.
        self.machine.run(f"mkdir -p {PLACE} && {{ [ -x {PLACE}/etcd ] || cp {PROGRAM} {PLACE}/etcd; }} && "
                         f"setsid sh -c 'echo $$ >{PID}; exec {PLACE}/etcd {options}' </dev/null >>{PLACE}/log 2>&1 &",
                         timeout=PATIENCE)

    def _signal(self, name):
        self.machine.run(f"kill -{name} $(cat {PID})")

    def kill(self):
        """Returns when it is gone."""
        self.machine.run(f"p=$(cat {PID}); kill -KILL $p; while [ -d /proc/$p ]; do sleep 0.05; done")

    def freeze(self):
        self._signal("STOP")

    def thaw(self):
        self._signal("CONT")

    def runs(self):
        return self.machine.alive() and self.machine.run(f"kill -0 $(cat {PID})", check=False).returncode == 0

    def said(self):
        return self.machine.run(f"tail -n 20 {PLACE}/log", check=False).text


class Etcd:
    """The machine that asks is the last one, which keeps its power in most tests."""

    def __init__(self, machines):
        self.members = {machine.name: Member(machine) for machine in machines}
        self.witness = machines[-1]

    def __getitem__(self, name):
        return self.members[name]

    @property
    def endpoints(self):
        return [member.url for member in self.members.values()]

    def _ask(self, *words, timeout=60):
        return self.witness.run(["/usr/bin/python3", str(ASK), *map(str, words)], timeout=timeout)

    def start(self, *names):
        """Those members, or all; each then answers."""
        for name in names or self.members:
            self.members[name].launch(self.members.values())
        self.await_healthy(*names)

    def await_healthy(self, *names, timeout=PATIENCE):
        wanted = [self.members[name] for name in names or self.members]
        try:
            self._ask("await", timeout, *(one.url for one in wanted), timeout=timeout + 60)
        except LabError as error:
            said = {one.name: one.said() for one in wanted if one.machine.alive()}
            raise LabError("etcd", "it does not come up", f"{error}: {said}") from error

    def status(self):
        """{name: {"member", "leader", "healthy"}, or None where nobody answers}"""
        told = json.loads(self._ask("status", *self.endpoints).text)
        return {name: told[member.url] for name, member in self.members.items()}

    def leader(self, status=None):
        """The name of the member that leads; None while none does."""
        status = {name: one for name, one in (status or self.status()).items() if one}
        named = {one["leader"] for one in status.values() if one["healthy"]}
        return next((name for name, one in status.items() if one["member"] in named), None)

    def lead(self, name):
        """Leadership goes to that member."""
        status = self.status()
        leader = self.leader(status)
        if not leader or not status[name]:
            raise LabError("etcd", f"nobody leads: {status}")
        if leader != name:
            self._ask("post", self.members[leader].url, "/v3/maintenance/transfer-leadership",
                      json.dumps({"targetID": status[name]["member"]}))
            if self.leader() != name:
                raise LabError("etcd", f"{name} does not lead after all")

    def keep_leader_off(self, name):
        """Not on a machine that is about to lose its power: to the one that loses none."""
        if name == self.witness.name:
            raise LabError("etcd", f"{name} is where leadership goes")
        self.lead(self.witness.name)

    def records(self):
        """As any member knows them that has a majority."""
        status = self.status()
        url = next((self.members[name].url for name, one in status.items() if one and one["healthy"]), None)
        if not url:
            raise LabError("etcd", "no member has a majority")
        end = PREFIX[:-1] + chr(ord(PREFIX[-1]) + 1)
        told = json.loads(self._ask("post", url, "/v3/kv/range", json.dumps({"key": text(PREFIX), "range_end": text(end)})).text)
        return {base64.b64decode(pair["key"]).decode().removeprefix(PREFIX):
                {**json.loads(base64.b64decode(pair["value"])), "revision": int(pair["mod_revision"])} for pair in told.get("kvs", [])}

    def put(self, uuid, value):
        """For tests of the lab itself: records are utsusu's."""
        self._ask("post", self.members[self.leader()].url, "/v3/kv/put", json.dumps({"key": text(PREFIX + uuid), "value": text(value)}))
