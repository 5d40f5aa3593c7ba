# SPDX-License-Identifier: Apache-2.0
"""A VM that writes faster than the wire carries runs at the destination before all of its memory is there."""

import re
import time

import pytest

from moves import SLOW, in_two_places, lines_of

LONG = pytest.mark.long


def wait_for_window(running, timeout=120):
    """Until the source says that memory is in two places."""
    deadline = time.monotonic() + timeout
    while not in_two_places(bytes(running.stdout).decode()):
        assert running.running(), bytes(running.stdout)[-500:]
        assert time.monotonic() < deadline, bytes(running.stdout)[-500:]
        time.sleep(0.02)


@pytest.mark.parametrize("options", [
    pytest.param((), id="tls"),
    pytest.param(("--plain", "--streams", "1"), id="plain", marks=LONG),
    pytest.param(("--streams", "4"), id="streams", marks=LONG),
])
def test_it_runs_before_its_memory_is_there(moving, vm, options):
    source = moving.here(vm.name)
    moving.write_much()
    with moving.client() as client:
        outcome = moving.move(vm.name, source, "--allow-postcopy", *SLOW, *options, plain=False)
        client.await_answers(5)
    client.check()
    moving.ask("dirty 0 0")
    moving.check_intact()
    assert in_two_places(outcome.said), outcome
    assert outcome.end["wanted_pages"] > 0, outcome


@LONG
def test_not_unless_it_is_allowed(moving, vm):
    source = moving.here(vm.name)
    moving.write_much()
    outcome = moving.move(vm.name, source, *SLOW)
    moving.ask("dirty 0 0")
    moving.check_intact()
    assert not in_two_places(outcome.said)


def test_a_cut_wire_is_waited_for(moving, vm):
    """The guest stands, and goes on when the wire does."""
    source = moving.here(vm.name)
    moving.write_much()
    with moving.client() as client:
        running = moving.start_move(vm.name, source, "--allow-postcopy", *SLOW)
        wait_for_window(running)
        moving.lab.wires.cut("AB")
        time.sleep(20)
        moving.lab.wires.heal("AB")
        assert running.wait(180) == 0, bytes(running.stdout)[-500:]
        client.await_answers(5)
    client.check()
    moving.ask("dirty 0 0")
    moving.check_intact()
    assert moving.who_runs(vm.name) == [moving.other(source)]


def test_who_ends_it_meanwhile_loses_nothing(moving, vm):
    """Its memory is whole nowhere, and nobody needs it any more."""
    source = moving.here(vm.name)
    target = moving.other(source)
    moving.write_much()
    running = moving.start_move(vm.name, source, "--allow-postcopy", *SLOW)
    wait_for_window(running)
    moving[target].peer.utsusu("stop", vm.name, "--force")
    status = running.wait(60)
    said = lines_of(bytes(running.stdout).decode())[-1]
    assert (status, said["end"], said["ended"]) == (0, "ran", "ended by force"), (status, said)
    assert moving.states(vm.name) == {source: None, target: None}
    assert moving.resolve(vm.name, source)["state"] == "there"
    moving.forget(vm.name)


@LONG
@pytest.mark.parametrize("side", ["source", "destination"])
def test_it_is_lost_with_either_mover(moving, vm, side):
    """Its owner then is the destination, which may start it from its disks."""
    source = moving.here(vm.name)
    target = moving.other(source)
    moving.write_much()
    with moving.client() as client:
        running = moving.start_move(vm.name, source, "--allow-postcopy", *SLOW)
        wait_for_window(running)
        host = source if side == "source" else target
        for pid in moving[host].pids("utsusu-move"):
            moving[host].machine.run(["kill", "-9", pid])
        status = running.wait(60)
        client.give_up()
    said = lines_of(bytes(running.stdout).decode())[-1]
    assert (status, said["end"], said["status"]) == (1, "failed", 1), (status, said)
    if side == "source":    # its daemon knows that it ran there, and nobody knows how much came
        assert f"went to {target}, and its mover was killed before it told" in said["message"], said
    else:
        assert re.search(rf"lost in post-copy, with [1-9]\d* MiB .*to be started from its disks there: utsusu run {vm.name}",
                         said["message"]), said
    log = client.log()
    deadline = time.monotonic() + 60
    while moving.who_runs(vm.name):
        assert time.monotonic() < deadline, moving.states(vm.name)
        time.sleep(0.3)
    assert not moving[source].state_of(vm.name), moving.states(vm.name)
    assert moving.counted_on_disk() >= log.last(), "what was acknowledged is not on the disk"
    moving.forget(vm.name)
