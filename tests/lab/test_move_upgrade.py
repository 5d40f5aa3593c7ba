# SPDX-License-Identifier: Apache-2.0
"""A VM goes on in a new process while a client uses it from another machine, whatever is killed meanwhile."""

import itertools
import json
import os
import time

import pytest
from labkit import Lab, LabError

import moves
from vms import Host

IN_A_ROW = 10
STATE = "/var/lib/utsusu"
BEFORE = ["upgrade.begun", "upgrade.launched", "upgrade.rehearsed", "upgrade.given"]    # it runs in the new one


def some(steps, *always):
    """All of them with --long; ./check does those named."""
    return [one if one in always else pytest.param(one, marks=pytest.mark.long) for one in steps]


class Place:
    """Machine A has the VM; B has the client."""

    def __init__(self, lab):
        self.outside = lab["B"]
        self.host = Host(lab["A"])
        self._names = itertools.count(1)
        self._vm = None         # that tests hand on to each other
        self._settled = []
        self.host.run(f"mkdir -p -m 700 {STATE}")

    def start(self, *options, memory="256M"):
        self.drop()
        name = f"u{next(self._names)}"
        tap = f"up{next(self._names)}"
        self.host.run(f"ip tuntap add {tap} mode tap vnet_hdr && brctl addif br0 {tap} && ip link set {tap} up")
        self.host.detach("--cpus", "2", "--memory", memory, "--disk", f"path={moves.DISK}", "--net", f"tap={tap}",
                         *options, guest="load", cmdline=moves.CMDLINE, name=name)
        moves.forget_card(self.outside, moves.GUEST)
        self.ask("disk 1")
        return name

    def any_vm(self):
        """One that runs and has little to do."""
        if not self._vm or self.state(self._vm) != "running":
            self._vm = self.start()
            self.host.shared.add(self._vm)
        self.ask("dirty 0 0", "fill 0")
        return self._vm

    def drop(self):
        """There is one disk and one address: the VM that tests hand on ends."""
        if self._vm:
            self.host.shared.discard(self._vm)
            self.host.utsusu("stop", self._vm, "--force", check=False)
            self.host.until(lambda: not self.host.leftovers(), what="its end")
        self._vm = None
        self.host.run("for t in /sys/class/net/up*; do [ ! -e $t ] || ip link del ${t##*/}; done")

    def ask(self, *commands):
        """The guest may need a moment before its network is there."""
        deadline = time.monotonic() + 180
        while True:
            try:
                return moves.ask(self.outside, moves.GUEST, *commands)
            except LabError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.3)

    def client(self, pause=0.05):
        return moves.Counting(self.outside, moves.GUEST, pause)

    def intact(self):
        """Memory, disk and clocks of the guest are as it left them."""
        status = self.ask("check", "status")
        assert status[0] == ["checked", "0"] and status[1][-1] == "0", status

    def failpoint(self, text):
        self.host.run(f"cat >{STATE}/failpoint", input=text)

    def upgrade(self, name, *options, check=True):
        outcome = moves.Outcome(self.host.utsusu("upgrade", name, "--json", *options, check=False))
        if check:
            assert outcome.status == 0 and outcome.end.get("end") == "ran", outcome
        return outcome

    def pid(self, name):
        return self.host.info(name)["pid"]

    def state(self, name):
        return self.host.list().get(name, {}).get("state")

    def start_upgrade(self, name):
        return self.host.machine.start_command([f"{self.host.programs}/utsusu", "upgrade", name, "--json"])

    def newcomer(self, name):
        """The processes of this test that wait to go on as the VM, or do: keeper, VM's process."""
        return [one for one in self._heirs(name) if one not in self._settled]

    def settle(self, name):
        """A VM that was upgraded before runs in an heir, too."""
        self._settled = self._heirs(name)

    def _heirs(self, name):
        return [int(pid) for pid, *words in self.host.command_lines()
                if words[:2] == ["utsusu-vm", name] and any(word.startswith("--heir-fd") for word in words)]

    def driver(self):
        return [int(pid) for pid, *words in self.host.command_lines() if words[1:2] == ["upgrade"] and words[0].endswith("/utsusu")]

    def await_driver_stands(self):
        def stands():
            return any(self.host.sh(f"cut -d' ' -f3 /proc/{pid}/stat 2>/dev/null || true").strip() == "T"
                       for pid in self.driver())
        self.host.until(stands, what="the upgrade stands at its failpoint")

    def signal(self, number, pids):
        for pid in pids:
            self.host.run(["kill", f"-{number}", str(pid)], check=False)

    def end(self):
        self.failpoint("")
        self.signal("CONT", self.driver())
        self.host.end_all()
        if self._vm and self.state(self._vm) != "running":
            self.drop()
        left = self.host.leftovers()
        self.host.sweep()
        assert not left, f"left in the machine: {left}"


@pytest.fixture(scope="module")
def place_of_all(emulator, programs):
    """UTSUSU_TEST_LAB=NAME takes a lab that is up: lab up --machines 2 --memory 2048 --share-disk 64M --bridge."""
    if ready := os.environ.get("UTSUSU_TEST_LAB"):
        place = Place(Lab.attach(ready))
        yield place
        place.drop()
        return
    with Lab(machines=2, memory=2048, share_disk=64 << 20, bridge=True) as lab:
        yield Place(lab)


@pytest.fixture
def place(place_of_all):
    yield place_of_all
    place_of_all.end()


@pytest.fixture
def name(place):
    name = place.any_vm()
    place.settle(name)
    return name


def test_clients_stay_connected(place, name):
    place.ask("fill 16", "dirty 1024 8")
    before = place.pid(name)
    with place.client() as client:
        outcome = place.upgrade(name)
        client.await_answers(5)
    client.check()
    place.intact()
    assert place.pid(name) != before and place.state(name) == "running"
    assert outcome.end["from"] == outcome.end["to"] and outcome.end["down_us"] > 0


def test_ten_in_a_row(place, name):
    place.ask("fill 8", "dirty 512 8")
    uptime = place.host.info(name)["uptime_ms"]
    with place.client() as client:
        for _ in range(IN_A_ROW):
            place.upgrade(name)
            client.await_answers(1)
    client.check()
    place.intact()
    assert place.host.info(name)["uptime_ms"] > uptime, "the guest was not started anew"


@pytest.mark.parametrize("kind", ["off", pytest.param("on", marks=pytest.mark.long)])
def test_each_kind_of_pages(place, kind):
    place.host.run("echo 160 >/proc/sys/vm/nr_hugepages")
    try:
        name = place.start(memory=f"256M,hugepages={kind}")
        place.ask("fill 16")
        with place.client() as client:
            place.upgrade(name)
            client.await_answers(3)
        client.check()
        place.intact()
        place.host.utsusu("stop", name, "--force")
    finally:
        place.host.run("echo 0 >/proc/sys/vm/nr_hugepages")


def test_a_paused_one_stays_paused(place, name):
    place.ask("fill 8")
    place.host.utsusu("pause", name)
    place.upgrade(name)
    assert place.state(name) == "paused"
    place.host.utsusu("resume", name)
    place.intact()


def test_the_name_works_before_meanwhile_and_after(place, name):
    place.failpoint("upgrade.rehearsed:stop")
    running = place.start_upgrade(name)
    place.await_driver_stands()
    assert place.state(name) == "running"
    place.host.utsusu("pause", name)
    place.host.utsusu("resume", name)
    console = place.host.console(name)
    console.type("")
    place.failpoint("")
    place.signal("CONT", place.driver())
    assert running.wait(180) == 0, bytes(running.stderr)
    assert console.wait(60) == 0, "its console is closed, and says so"
    again = place.host.console(name)
    again.type("")
    again.type("echo the $((1))st line")
    again.expect("the 1st line")
    place.drop()
    assert name not in place.host.list()


def test_an_upgraded_vm_can_be_saved_and_restored(place, name):
    place.ask("fill 8")
    place.upgrade(name)
    place.host.utsusu("save", name, "/run/upgraded.saved")
    place.host.utsusu("restore", "/run/upgraded.saved")
    place.intact()
    place.upgrade(name)
    place.intact()
    place.host.run("rm -f /run/upgraded.saved")


def test_check_does_all_but_the_last_step(place, name):
    before = place.pid(name)
    with place.client() as client:
        answer = json.loads(place.host.utsusu("upgrade", name, "--check", "--json").text)
        client.await_answers(3)
    assert answer["ok"] and answer["problems"] == [] and answer["to"], answer
    assert place.pid(name) == before and place.newcomer(name) == []
    client.check()


def test_what_stands_against_it_is_told(place):
    machine = place.host
    machine.run("ip route replace default via 10.77.0.2")     # passt asks for one
    name = machine.detach("--net", "user", guest="tiny")
    answer = json.loads(machine.utsusu("upgrade", name, "--check", "--json", check=False).text)
    assert not answer["ok"] and "user network" in answer["problems"][0]["message"], answer
    refused = machine.utsusu("upgrade", name, check=False)
    assert refused.returncode == 2 and b"user network" in refused.stderr
    vm = machine.start(guest="tiny").ready()
    refused = machine.utsusu("upgrade", vm.name, check=False)
    assert refused.returncode == 2 and b"--detach" in refused.stderr
    vm.power_off()
    machine.utsusu("stop", name, "--force")
    assert machine.utsusu("upgrade", "nobody", check=False).returncode == 6
    refused = machine.utsusu("upgrade", "nobody", "--to", "/no/such/program", check=False)
    assert refused.returncode == 2 and b"--to" in refused.stderr


def test_a_program_that_is_none_leaves_the_vm(place, name):
    before = place.pid(name)
    outcome = place.upgrade(name, "--to", "/bin/false", check=False)
    assert outcome.status != 0 and outcome.end["end"] == "failed", outcome
    place.intact()
    assert place.pid(name) == before


@pytest.mark.parametrize("at", some(BEFORE, "upgrade.rehearsed", "upgrade.given"))
def test_a_failure_at_each_step_leaves_the_old_one(place, name, at):
    before = place.pid(name)
    place.ask("fill 8")
    with place.client() as client:
        place.failpoint(f"{at}:error")
        outcome = place.upgrade(name, check=False)
        place.failpoint("")
        assert outcome.status == 1 and outcome.end["end"] == "failed", outcome
        client.await_answers(3)
        assert place.pid(name) == before and place.newcomer(name) == []
        place.upgrade(name)
        client.await_answers(3)
    client.check()
    place.intact()


@pytest.mark.parametrize("at", some([*BEFORE, "upgrade.ran"], "upgrade.given", "upgrade.ran"))
def test_the_command_is_killed_at_each_step(place, name, at):
    """Nobody drives it any more: both processes find out by themselves."""
    before = place.pid(name)
    with place.client() as client:
        place.failpoint(f"{at}:kill")
        place.upgrade(name, check=False)
        place.failpoint("")
        client.await_answers(3)
        assert place.host.until(lambda: place.state(name) == "running", what="one of both runs it")
        place.host.until(lambda: len(place.newcomer(name)) == (2 if at == "upgrade.ran" else 0), what="one is left")
        assert (place.pid(name) == before) == (at != "upgrade.ran")
        place.upgrade(name)
        client.await_answers(3)
    client.check()
    place.intact()


@pytest.mark.parametrize("at", some(BEFORE[1:], "upgrade.given"))
def test_the_new_process_is_killed_at_each_step(place, name, at):
    before = place.pid(name)
    with place.client() as client:
        place.failpoint(f"{at}:stop")
        running = place.start_upgrade(name)
        place.await_driver_stands()
        place.signal("KILL", place.newcomer(name))
        place.failpoint("")
        place.signal("CONT", place.driver())
        assert running.wait(180) == 1, bytes(running.stdout)
        client.await_answers(3)
    client.check()
    assert place.pid(name) == before and place.state(name) == "running"
    place.intact()


@pytest.mark.parametrize("at", ["upgrade.rehearsed", "upgrade.ran"])
def test_the_old_process_is_killed(place, name, at):
    """Before, it has the only copy of its state; after, it is not missed."""
    old = place.pid(name)
    place.failpoint(f"{at}:stop")
    running = place.start_upgrade(name)
    place.await_driver_stands()
    place.signal("KILL", [old])
    place.failpoint("")
    place.signal("CONT", place.driver())
    status = running.wait(180)
    if at == "upgrade.ran":
        assert status == 0, bytes(running.stderr)
        place.intact()
        assert place.pid(name) != old
    else:
        assert status == 6, bytes(running.stdout)      # there is no such VM any more
        place.host.until(lambda: place.state(name) in (None, "dead"), what="its end")
        place.host.until(lambda: place.newcomer(name) == [], what="the end of the new one")
        place.drop()


def test_a_command_that_stands_still_does_not_hold_the_guest(place, name):
    """It froze in the worst moment: the guest goes on in the old process, and the thawed command finds it so."""
    before = place.pid(name)
    with place.client() as client:
        place.failpoint("upgrade.given:stop")
        running = place.start_upgrade(name)
        place.await_driver_stands()
        client.await_answers(3)
        place.failpoint("")
        place.signal("CONT", place.driver())
        assert running.wait(180) == 1
        client.await_answers(3)
    client.check()
    assert place.pid(name) == before
    place.intact()
