# SPDX-License-Identifier: Apache-2.0
"""A VM with a disk of its host's own moves, and the disk with it, while the guest writes to it and a client outside looks.

The disk is a file on each machine's state disk, which forgets at a power cut what was not flushed.
"""

import re
import time

import pytest
from labkit.hosts import LISTS, STATE

import moves

LONG = pytest.mark.long
PATH = f"{STATE}/own.img"
DEVICE = "/dev/ram0"
SIZE = 48 << 20
AREA = 2 << 20      # at the beginning: the guest's
OWN = {"path": PATH, "copy": True, "overwrite": True}


def lists(**own):
    return {**LISTS, "disks": {**LISTS["disks"], "own": {**OWN, **own}}}


def set_lists(side, **own):
    side.peer.lists = lists(**own)
    side.peer.write_lists()


def make_empty(side):
    side.machine.run(f"rm -f {PATH} {STATE}/ballast && truncate -s {SIZE} {PATH} && rm -rf {STATE}/copies")


@pytest.fixture
def local(moving):
    """The hosts, each with a disk of its own; the VM's is at A, with holes between random bytes."""
    for side in moving.sides.values():
        set_lists(side)
        make_empty(side)
    moving["A"].machine.run(
        f"for at in 4 9 10 11 20 31 40 47; do dd if=/dev/urandom of={PATH} bs=1M count=1 seek=$at conv=notrunc status=none; done; sync")
    yield moving
    for side in moving.sides.values():
        for name in side.vms.list():
            moving.end(name)
        if side.machine.alive():
            side.machine.run(f"rm -rf {PATH} {STATE}/ballast {STATE}/copies")
            side.peer.lists = LISTS
            side.peer.write_lists()


@pytest.fixture
def disk_vm(local):
    return local.start("A", disk=PATH)


def digest(side, skip=0, path=PATH):
    return side.machine.run(f"tail -c +{skip + 1} {path} | sha256sum").text.split()[0]


def allocated(side):
    """Bytes that are no holes."""
    return 512 * int(side.machine.run(f"stat -c %b {PATH}").text)


def counted(side):
    return moves.newest_count(side.machine.run(f"dd if={PATH} bs=128k count=1 iflag=direct status=none").stdout)


def intact(local):
    status = local.ask("check", "status")
    assert status[0] == ["checked", "0"] and status[1][-1] == "0", status


def copy(local, vm, source, *options, **how):
    return local.move(vm.name, source, "--copy-disks", *options, **how)


def test_disk_comes_along_there_and_back(local, disk_vm):
    """The guest writes from beginning to end; what it does not touch is the same on both, and as sparse."""
    with local.client() as client:
        for source in "AB":
            here, there = local[source], local[local.other(source)]
            outcome = copy(local, disk_vm, source)
            assert outcome.end["disk_bytes"] >= 8 << 20, outcome
            client.await_answers(5)
            assert digest(here, AREA) == digest(there, AREA)
            assert allocated(there) <= allocated(here) + (4 << 20)
    client.check()
    intact(local)
    assert counted(local["A"]) >= client.log().last()


def test_quiet_disk_is_the_same_byte_for_byte(local, disk_vm):
    local.ask("disk 0")
    time.sleep(1)
    copy(local, disk_vm, "A", "--streams", "4")
    assert digest(local["A"]) == digest(local["B"])
    local.ask("disk 1")
    intact(local)


@pytest.fixture
def devices(local):
    """The same with block devices: disks in the machines' memory, random but for a hole, which the copy over rubbish must clear."""
    for side in local.sides.values():
        set_lists(side, path=DEVICE)
        side.machine.run(f"modprobe brd rd_nr=1 rd_size={SIZE >> 10} && dd if=/dev/urandom of={DEVICE} bs=1M status=none || test -b {DEVICE}")
    local["A"].machine.run(f"dd if=/dev/zero of={DEVICE} bs=1M seek=20 count=8 conv=fsync status=none")
    yield local
    for side in local.sides.values():
        for name in side.vms.list():
            local.end(name)
        side.machine.run("rmmod brd")


def test_block_devices_come_along_as_well(devices):
    vm = devices.start("A", disk=DEVICE)
    with devices.client() as client:
        for source in "AB":
            copy(devices, vm, source)
            client.await_answers(5)
            assert len({digest(side, AREA, DEVICE) for side in devices.sides.values()}) == 1
    client.check()
    intact(devices)


def begin_slowly(local, vm, *options):
    """A move whose disks take a while; returns while they are under way."""
    local.lab.wires.slow("AB", rate="10mbit")
    running = local.start_move(vm.name, "A", "--copy-disks", "--compress", "off", *options)
    running.expect('"phase":"disks"', 120)
    time.sleep(2)       # of seven
    return running


def stays_at_the_source(local, vm):
    local.lab.wires.heal("AB")
    assert local.await_settled(vm.name) == "A"
    intact(local)


def cannot_be_run(side):
    """What is left of a copy is no disk for a VM."""
    result = side.peer.utsusu("run", "other", "--detach", "--disk", f"path={PATH}", "--kernel", "/dev/null", check=False)
    assert result.returncode != 0 and b"part of a copy" in result.stderr, result


def test_cancelled_copy_is_never_run_from_and_can_be_tried_again(local, disk_vm):
    with local.client() as client:
        running = begin_slowly(local, disk_vm)
        running.send_signal(2)
        assert running.wait(60) != 0
        stays_at_the_source(local, disk_vm)
        cannot_be_run(local["B"])
        client.await_answers(3)
        copy(local, disk_vm, "A")
        client.await_answers(3)
    client.check()
    assert digest(local["A"], AREA) == digest(local["B"], AREA)


@LONG
def test_copy_whose_mover_is_killed_there_can_be_tried_again(local, disk_vm):
    set_lists(local["B"], overwrite=False)      # the rest of a copy may be written over all the same
    with local.client() as client:
        running = begin_slowly(local, disk_vm)
        local["B"].machine.run(f"kill -9 {' '.join(local['B'].pids('utsusu-move'))}")
        assert running.wait(120) != 0
        stays_at_the_source(local, disk_vm)
        cannot_be_run(local["B"])
        copy(local, disk_vm, "A")
        client.await_answers(3)
    client.check()
    assert digest(local["A"], AREA) == digest(local["B"], AREA)


def test_disk_that_fills_up_there_leaves_the_vm_here(local, disk_vm):
    running = begin_slowly(local, disk_vm)
    local["B"].machine.run(f"dd if=/dev/zero of={STATE}/ballast bs=1M status=none; sync", check=False)
    local.lab.wires.heal("AB")
    assert running.wait(120) != 0
    assert re.search(r"disk\[0\].*No space left on device", bytes(running.stdout + running.stderr).decode()), running.stderr
    stays_at_the_source(local, disk_vm)
    local["B"].machine.run(f"rm {STATE}/ballast")
    copy(local, disk_vm, "A")


# Of these each has a VM of its own; test_peer_check.py and test_peer_move.py ask the same of daemons alone.
@pytest.mark.parametrize("make, own, said", [
    pytest.param(f"truncate -s {SIZE // 2} {PATH}", {}, f"has {SIZE} bytes there and {SIZE // 2} here", id="other-size", marks=LONG),
    pytest.param(f"rm {PATH}", {}, "truncate -s", id="missing", marks=LONG),
    pytest.param(f"echo something >{PATH} && truncate -s {SIZE} {PATH}", {"overwrite": False}, "\"overwrite\": true", id="not-empty",
                 marks=LONG),
    pytest.param("true", {"copy": False}, "\"copy\": true", id="not-allowed", marks=LONG),
    pytest.param(f"dd if=/dev/zero of={STATE}/ballast bs=1M status=none; sync", {}, "has room for", id="no-room"),
])
def test_check_names_what_forbids_a_copy(local, disk_vm, make, own, said):
    set_lists(local["B"], **own)
    local["B"].machine.run(make, check=False)
    result = local["A"].peer.utsusu("move", disk_vm.name, "B", "--copy-disks", "--check", check=False)
    assert result.returncode != 0 and said in result.stderr.decode(), result
    assert local.who_runs(disk_vm.name) == ["A"]


@LONG
def test_check_tells_what_would_be_copied(local, disk_vm):
    result = local["A"].peer.utsusu("move", disk_vm.name, "B", "--copy-disks", "--check")
    assert re.search(rf"disk own: is copied: \d+ MiB of {SIZE >> 20} MiB", result.stderr.decode()), result
    without = local["A"].peer.utsusu("move", disk_vm.name, "B", "--check", check=False)
    assert without.returncode != 0 and b"--copy-disks" in without.stderr, without


def test_power_cut_behind_the_commit_loses_nothing_that_was_acknowledged(local, disk_vm):
    client = local.client()
    with client:
        copy(local, disk_vm, "A")
        client.await_answers(2)
        local["B"].machine.kill()
        client.give_up()
    last = client.log().last()
    local.power_on("B")
    set_lists(local["B"])
    assert counted(local["B"]) >= last > 0
    assert digest(local["A"], AREA) == digest(local["B"], AREA)
