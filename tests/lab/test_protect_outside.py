# SPDX-License-Identifier: Apache-2.0
"""What judges failovers, over VMs that nobody protects: clean where nothing happens or it moves, and not where its power is cut."""

import time

import pytest
from labkit import LabError

import outside
from protecting import FILES

LONG = pytest.mark.long


@pytest.fixture
def open_vm(protecting):
    """A VM on A, without protection."""
    vm = protecting.start("A")
    yield vm
    protecting.end(vm.name)


@LONG
def test_clients_of_a_vm_that_is_left_alone_are_content(protecting, open_vm):
    protecting.ask("fill 8", "dirty 512 8")
    with protecting.wiretap("A") as tap, protecting.clients() as clients:
        clients.await_answers(20)
    protecting.ask("dirty 0 0")
    protecting.check(clients, open_vm.name)
    frames = [frame for _, frame in tap.frames()]
    assert len(frames) > 60 and any(b"next " in frame for frame in frames), "the tap sees what leaves"


@LONG
def test_clients_of_a_vm_that_moves_are_content(protecting, open_vm):
    with protecting.wiretap("A") as here, protecting.wiretap("B") as there, protecting.clients() as clients:
        protecting.move(open_vm.name, "A", "--copy-disks")
        moment = clients.clock()
        clients.await_answers(20)
    protecting.check(clients, open_vm.name)
    history = clients.history()
    assert history.next_after(moment) and 0 < history.longest() < 60
    # Each host's frames are its own: a move repeats nothing.
    assert not set(frame for _, frame in there.frames()) & set(frame for _, frame in here.frames() if b"next " in frame)


@LONG
def test_vm_whose_power_is_cut_is_seen_to_be_lost(protecting, open_vm):
    """And the log of those that were under way is not lost with it."""
    with protecting.clients() as clients:
        protecting.cut_power("A")
        with pytest.raises(LabError, match="no 2 more answers"):
            clients.await_answers(2, timeout=10)
        clients.give_up()
    assert clients.history().problems() == [], "until then all was well: silence is no problem of the log's"
    assert not clients.history().whole


@LONG
def test_vm_that_starts_anew_has_lost_what_was_in_its_memory(protecting, open_vm):
    """As if a backup had nothing: the durable counts are there, the others are not, and the connections are gone."""
    with protecting.clients() as clients:
        clients.await_answers(10)
        protecting.end(open_vm.name)
        arguments = protecting["A"].vms.arguments(["--memory", "256M", "--disk", "path=/var/lib/utsusu/data.img", "--net",
                                                   f"tap={protecting['A'].tap()}"], "load",
                                                  'utsusu.ip=10.77.0.100/24 utsusu.run="load &" utsusu.then=shell')
        protecting.order("A", "run", f"{open_vm.name}-2", "--detach", *arguments)
        protecting.outside.run("ip neigh flush to 10.77.0.100")
        clients.await_answers(10)
    try:
        problems = clients.history().problems()
        assert any("its connection did not last" in one for one in problems), problems
        assert any("sequence" in one or "next" in one for one in clients.history().problems(connections=2)), "lost counts are seen"
        assert not any("counted" in one for one in problems), "durable ones are not lost"
    finally:
        protecting.end(f"{open_vm.name}-2")


def test_gap_and_strangers_are_found_among_frames():
    frames = [(1.0, b"a"), (1.1, b"b"), (6.3, b"b"), (6.4, b"c"), (6.5, b"d")]
    before, after = outside.split_at_gap(frames, 3)
    assert (before, after) == ([b"a", b"b"], [b"b", b"c", b"d"])
    assert outside.split_at_gap(frames, 9) == ([frame for _, frame in frames], [])
    assert outside.strangers(after, before, [b"c"]) == [b"d"]


@LONG
def test_partition_of_two_machines_leaves_the_third_with_both(protecting, open_vm):
    """The wires of the lab as failovers need them."""
    protecting.lab.wires.cut("AB")
    with protecting.clients() as clients:
        clients.await_answers(5)
    assert protecting.etcd.status()["A"] and protecting.etcd.status()["B"]
    protecting.lab.wires.heal("AB")
    time.sleep(0.1)
    clients.history().check()


@LONG
def test_files_of_a_guest_are_sound_on_its_second_disk(protecting):
    vm = protecting.start("A", "--disk", f"path={FILES}")
    vm.sh("mke2fs /dev/vdb >/dev/null && mkdir -p /m && mount -t ext4 /dev/vdb /m && head -c 300000 /dev/urandom >/m/1 && umount /m")
    protecting.end(vm.name)
    protecting.lab["A"].run(["/sbin/e2fsck", "-fn", FILES])


@LONG
def test_host_that_stood_still_shows_where_it_did(protecting, open_vm):
    """Its own clock went on, so its frames of before and of after can be told apart; the clients wait and lose nothing."""
    with protecting.wiretap("A") as tap, protecting.clients() as clients:
        clients.await_answers(10)
        protecting.lab["A"].freeze()
        assert not protecting.answers("A") and protecting.answers("B")
        time.sleep(5)
        protecting.lab["A"].thaw()
        clients.await_answers(10)
    before, after = tap.after_a_gap(3)
    assert len(before) > 10 and len(after) > 10
    assert outside.strangers(after, before, []), "it has said something new, which nobody else did"
    clients.history().check()
    assert clients.history().longest() > 4


@LONG
def test_redis_has_clients_as_well(protecting):
    run = "load & redis-server --bind 0.0.0.0 --protected-mode no --save '' --appendonly no >/dev/null &"
    vm = protecting.start("A", guest="redis", memory="512M", run=run)
    with protecting.clients("redis:0.02", "redis:0.05", "sequence") as clients:
        clients.await_answers(30)
    protecting.check(clients, vm.name, disk=False)
    assert {one["asked"].split()[0] for one in clients.history().ok} > {"INCR", "SET", "GET"}
    protecting.end(vm.name)
