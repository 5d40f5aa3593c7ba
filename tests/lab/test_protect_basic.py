# SPDX-License-Identifier: Apache-2.0
"""A VM is protected by a second machine, and goes on there when the first one is lost: with its memory, its disk and its clients' connections."""

import time

import pytest
from labkit.hosts import STATE

import moves
from outside import strangers
from protecting import DETECT, DISK, FILES

LONG = pytest.mark.long


@pytest.fixture
def guarded(protecting):
    """(VM, its owner, its backup): protected, on the clients' connections for as long as tests hand it on."""
    vm, owner = protecting.any_protected()
    return vm.name, owner, protecting.other(owner)


# In peace

def test_status_says_protected_on_both_hosts(protecting, guarded):
    name, owner, backup = guarded
    here, there = (protecting.status(name, host) for host in (owner, backup))
    assert (here.mode, here.record, here.peer) == ("protected", "protected", backup), here
    assert there.mode == "backup", there
    record = protecting.record()
    assert record["mode"] == "protected" and record["generation"] == here.generation, (record, here)
    assert protecting.who_runs(name) == [owner]


def test_epochs_count_up_and_the_guest_works(protecting, guarded):
    name, owner, _ = guarded
    protecting.ask("fill 16", "dirty 1024 8")
    with protecting.clients() as clients:
        seen = [protecting.status(name, owner)]
        for _ in range(5):
            clients.await_answers(5)
            seen.append(protecting.status(name, owner))
    protecting.check(clients, name)
    assert all(before.acked < after.acked for before, after in zip(seen, seen[1:])), seen
    assert all(one.released <= one.acked <= one.cut for one in seen), seen
    assert seen[-1].mode == "protected" and seen[-1].generation == seen[0].generation


def test_off_and_on_again_while_clients_write(protecting, guarded):
    name, owner, backup = guarded
    with protecting.clients() as clients:
        protecting.unprotect(name, owner)
        clients.await_answers(5)
        protecting.await_gone(name, backup)
        assert protecting.record()["mode"] == "solo"
        protecting.protect(name, owner)
        clients.await_answers(5)
    protecting.check(clients, name)


@LONG
def test_each_kind_of_wire_and_of_patience(protecting, guarded):
    """With TLS, and with a bound of the latency; what `--check` says of a VM that can be protected is nothing."""
    name, owner, backup = guarded
    protecting.unprotect(name, owner)
    protecting.await_gone(name, backup)
    checked = protecting.order(owner, "protect", name, backup, "--check", "--json")
    assert checked.returncode == 0 and protecting.status(name, owner).mode == "solo", checked
    with protecting.clients() as clients:
        protecting.protect(name, owner, ("--latency", "50ms", "--detect", f"{DETECT}s"))
        clients.await_answers(10)
    protecting.check(clients, name)


@pytest.mark.parametrize("command, said", [
    (["move", "{name}", "{backup}"], "protected"),
    (["save", "{name}", f"{STATE}/saved"], "protected"),
    (["upgrade", "{name}"], "protected"),
    (["protect", "{name}", "{backup}"], "protected"),
], ids=lambda words: words[0] if isinstance(words, list) else "")
def test_what_cannot_be_done_to_a_protected_vm_is_refused_by_name(protecting, guarded, command, said):
    name, owner, backup = guarded
    result = protecting.order(owner, *(word.format(name=name, backup=backup) for word in command), check=False)
    message = result.stderr.decode()
    assert result.returncode and name in message and said in message, result
    with protecting.clients() as clients:
        clients.await_answers(3)
    clients.history().check()
    assert protecting.status(name, owner).mode == "protected"


@LONG
def test_card_that_cannot_be_held_is_refused_by_name(protecting):
    """vhost's frames leave by the kernel, past everything that could hold them."""
    side = protecting["A"]
    vm = side.vms.start("--memory", "128M", "--net", f"tap={side.tap()},vhost=on", guest="tiny")
    try:
        vm.ready()
        result = protecting.order("A", "protect", vm.name, "B", check=False)
        assert result.returncode and "vhost" in result.stderr.decode(), result
        vm.sh("true")
    finally:
        protecting.end(vm.name)


# By order

def test_planned_failover_there_and_back(protecting, guarded):
    name, owner, backup = guarded
    protecting.ask("fill 16")
    with protecting.clients() as clients:
        for here, there in ((owner, backup), (backup, owner)):
            protecting.failover(name, here)
            protecting.await_owner(name, there)
            clients.await_answers(10)
            protecting.await_gone(name, here)
            protecting.protect(name, there)
    protecting.check(clients, name)


@LONG
def test_quiet_disk_is_the_same_byte_for_byte(protecting, guarded):
    """Nothing that the owner's disk has is missing at the backup's, and holes are as they were."""
    name, owner, backup = guarded
    protecting.ask("disk 0")
    time.sleep(2)
    protecting.failover(name, owner)
    protecting.await_owner(name, backup)
    protecting.await_gone(name, owner)
    digests = {protecting.lab[host].run(["sha256sum", DISK], timeout=120).text.split()[0] for host in "AB"}
    assert len(digests) == 1
    protecting.ask("disk 1")
    protecting.check_intact()


# Power

def test_power_cut_of_the_owner_and_then_of_its_successor(protecting, guarded):
    """The first one is repaired and protects the second, while the guest runs: then that one's power is cut."""
    name, owner, backup = guarded
    protecting.ask("fill 16", "dirty 512 8")
    with protecting.clients() as clients:
        for here, there in ((owner, backup), (backup, owner)):
            clients.await_answers(10)
            moment = protecting.cut_power(here)
            protecting.await_owner(name, there)
            clients.await_answers(10)
            print(f"power cut of {here}: the next reply after {clients.history().next_after(moment) - moment:.2f} s")
            protecting.power_on(here)
            assert protecting.sides[here].state_of(name) != "running"
            protecting.protect(name, there)
            clients.await_answers(10)
    protecting.check(clients, name)


@LONG
def test_power_cut_of_the_backup_leaves_the_owner_alone_and_at_work(protecting, guarded):
    name, owner, backup = guarded
    with protecting.clients() as clients:
        protecting.cut_power(backup)
        protecting.await_mode(name, owner, "solo")
        clients.await_answers(10)
        assert protecting.record()["mode"] == "solo"
        protecting.power_on(backup)
        protecting.protect(name, owner)
        clients.await_answers(5)
    protecting.check(clients, name)


@LONG
def test_file_system_survives_the_power_cut_of_the_owner(protecting):
    """What the guest has synchronised is in its files on its second disk, and they are sound to who looks at that disk afterwards."""
    vm = protecting.start("A", "--disk", f"path={FILES}")
    vm.sh("mke2fs /dev/vdb >/dev/null && mkdir -p /m && mount -t ext4 /dev/vdb /m")
    protecting.protect(vm.name, "A")
    vm.sh("for i in 1 2 3 4 5 6; do head -c 300000 /dev/urandom >/m/$i; done; cd /m && sha256sum ? >/m/sums; sync")
    protecting.cut_power("A")
    protecting.await_owner(vm.name, "B")
    console = protecting["B"].vms.console(vm.name)
    console.type("")
    console.sh("echo 3 >/proc/sys/vm/drop_caches; cd /m && sha256sum -c sums && cd / && umount /m", timeout=120)
    protecting.end(vm.name)
    protecting.lab["B"].run(["/sbin/e2fsck", "-fn", FILES])


def test_guest_that_switches_itself_off_is_not_brought_back(protecting):
    vm = protecting.start_protected("A")
    vm.type("poweroff -f")
    protecting.await_gone(vm.name, "A")
    protecting.await_gone(vm.name, "B")
    assert protecting.record()["mode"] == "stopped"


# Processes

@pytest.mark.parametrize("program, side", [
    ("guard", "owner"), pytest.param("guard", "backup", marks=LONG), pytest.param("relay", "owner", marks=LONG),
    pytest.param("relay", "backup", marks=LONG), pytest.param("daemon", "owner", marks=LONG), pytest.param("daemon", "backup", marks=LONG),
    pytest.param("etcd", "owner", marks=LONG), pytest.param("etcd", "backup", marks=LONG)])
def test_process_that_is_killed_costs_no_reply(protecting, guarded, program, side):
    """Without its guard the pair is one no more; without a relay, a daemon or a member of etcd it stays one."""
    name, owner, backup = guarded
    host = owner if side == "owner" else backup
    generation = protecting.status(name, owner).generation
    with protecting.clients() as clients:
        if program == "guard":
            protecting.kill(host, "utsusu-move")
            protecting.await_alone(name)
        elif program == "relay":
            protecting.kill(host, "utsusu-arbiter")
        elif program == "daemon":
            protecting.kill_daemon(host)
        else:
            protecting.etcd[host].kill()
        clients.await_answers(20)
        if program != "guard":
            now = protecting.status(name, owner)
            assert (now.mode, now.generation) == ("protected", generation), now
        if program == "etcd":
            protecting.etcd.start(host)
        if program == "relay":
            protecting.await_mode(name, owner, "protected")
            protecting.wait_for(lambda: protecting.sides[host].pids("utsusu-arbiter"), 60, lambda: "nobody starts the relay again")
    protecting.check(clients, name)


@LONG
def test_backups_vm_that_is_killed_leaves_the_owner_alone(protecting, guarded):
    name, owner, backup = guarded
    with protecting.clients() as clients:
        protecting.kill_vm(backup)
        protecting.await_mode(name, owner, "solo")
        clients.await_answers(10)
    protecting.check(clients, name)


def test_owners_vm_that_is_killed_goes_on_at_the_backup(protecting, guarded):
    """Its process is all that it was: the host around it is sound."""
    name, owner, backup = guarded
    with protecting.clients() as clients:
        protecting.kill_vm(owner)
        protecting.await_owner(name, backup)
        clients.await_answers(10)
    protecting.check(clients, name)


# Standing still

@pytest.mark.parametrize("how", ["stop", pytest.param("qmp", marks=LONG)])
def test_owner_that_stood_still_and_wakes_up_says_nothing_new(protecting, guarded, how):
    """Long enough to be taken over. What it still sends, the one who runs sent or sends as well; then it ends by itself."""
    name, owner, backup = guarded
    with protecting.wiretap(owner) as here, protecting.wiretap(backup) as there, protecting.clients() as clients:
        clients.await_answers(10)
        protecting.lab[owner].freeze(qmp=how == "qmp")
        protecting.await_owner(name, backup)
        time.sleep(5)
        clients.await_answers(5)
        protecting.lab[owner].thaw()
        for _ in range(10):
            protecting.never_two(name)
            time.sleep(0.3)
        protecting.await_gone(name, owner)
        clients.await_answers(10)
    protecting.check(clients, name)
    if how == "stop":       # a machine that QMP stopped knows of no gap, so that its frames of before and of after look alike
        before, after = here.after_a_gap(3)
        assert before, "the tap saw the owner at work"
        known = [frame for _, frame in there.frames()]
        assert not strangers(after, before, known), "the one that was deposed said something of its own"


@LONG
def test_owner_that_stands_still_for_five_seconds(protecting, guarded):
    """Whether that is long enough is the detection's business: there is one afterwards, and nobody has lost anything."""
    name, owner, _ = guarded
    with protecting.clients() as clients:
        clients.await_answers(5)
        protecting.lab[owner].freeze()
        time.sleep(5)
        protecting.lab[owner].thaw()
        protecting.await_one_owner(name)
        clients.await_answers(20)
    protecting.check(clients, name)


@LONG
def test_backup_that_stood_still_is_no_backup_any_more_or_still_one(protecting, guarded):
    name, owner, backup = guarded
    with protecting.clients() as clients:
        protecting.lab[backup].freeze()
        time.sleep(5)
        protecting.lab[backup].thaw()
        clients.await_answers(20)
        assert protecting.await_one_owner(name) == owner
    protecting.check(clients, name)


# The wire, and the arbiter

@LONG
@pytest.mark.parametrize("wire", ["AB", pytest.param("AC", marks=LONG), pytest.param("BC", marks=LONG)])
def test_wire_that_is_cut_leaves_one(protecting, guarded, wire):
    """Between the pair: one of them wins, and has all. To the witness: etcd's majority decides, or nobody needs to."""
    name, _, _ = guarded
    with protecting.clients() as clients:
        clients.await_answers(5)
        protecting.lab.wires.cut(wire)
        if wire == "AB":
            protecting.await_one_owner(name)
            clients.await_answers(10)
        else:
            time.sleep(10)
        protecting.never_two(name)
        protecting.lab.wires.heal(wire)
        owner = protecting.await_one_owner(name)
        clients.await_answers(10)
        protecting.protect_again(name, owner)
    protecting.check(clients, name)


@LONG
def test_pair_carries_on_without_a_majority(protecting, guarded):
    name, owner, _ = guarded
    generation = protecting.status(name, owner).generation
    with protecting.clients() as clients:
        protecting.etcd["A"].kill()
        protecting.etcd["C"].kill()
        clients.await_answers(50)
        now = protecting.status(name, owner)
        assert (now.mode, now.generation) == ("protected", generation), now
        protecting.etcd.start("A", "C")
        clients.await_answers(5)
    protecting.check(clients, name)
    protecting.etcd.lead("C")


def test_failover_waits_for_a_majority_and_then_happens(protecting, guarded):
    name, owner, backup = guarded
    protecting.etcd.lead("C")
    with protecting.clients() as clients:
        clients.await_answers(5)
        protecting.etcd["C"].kill()
        protecting.cut_power(owner)
        time.sleep(15)
        assert protecting.who_runs(name) == [] and protecting.status(name, backup).mode in ("backup", "claims")
        before = len(clients.history().ok)
        protecting.etcd["C"].launch(protecting.etcd.members.values())
        protecting.await_owner(name, backup)
        clients.await_answers(10)
        assert len(clients.history().ok) > before
    protecting.check(clients, name)


@LONG
def test_owner_that_loses_its_backup_waits_for_a_majority(protecting, guarded):
    """It may not go on alone before the record says so: its backup might have been given the VM."""
    name, owner, backup = guarded
    protecting.etcd.lead("C")
    with protecting.clients() as clients:
        clients.await_answers(5)
        protecting.etcd["C"].kill()
        protecting.cut_power(backup)
        time.sleep(10)
        before = len(clients.history().ok)
        time.sleep(3)
        assert len(clients.history().ok) == before, "it puts out what nobody acknowledged"
        protecting.etcd["C"].launch(protecting.etcd.members.values())
        protecting.await_mode(name, owner, "solo")
        clients.await_answers(10)
    protecting.check(clients, name)


@LONG
def test_redis_is_protected(protecting):
    """An unmodified database in memory: each key that it acknowledged is there after the power cut."""
    run = "load & redis-server --bind 0.0.0.0 --protected-mode no --save '' --appendonly no >/dev/null &"
    vm = protecting.start("A", guest="redis", memory="512M", run=run)
    protecting.protect(vm.name, "A")
    with protecting.clients("redis:0.02", "redis:0.05", "sequence") as clients:
        clients.await_answers(20)
        protecting.cut_power("A")
        protecting.await_owner(vm.name, "B")
        clients.await_answers(20)
    protecting.check(clients, vm.name, disk=False)
    protecting.end(vm.name)


def test_nothing_is_left_when_protection_ends(protecting, guarded):
    name, owner, _ = guarded
    protecting.unprotect(name, owner)
    protecting.end(name)
    protecting.forget_kept()
    protecting.check_nothing_left()
    assert moves.GUEST not in protecting.outside.run("ss -Htn").text
