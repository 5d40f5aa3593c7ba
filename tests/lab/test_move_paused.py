# SPDX-License-Identifier: Apache-2.0
"""A VM that its user paused moves as any other, and nowhere does it go on before its user says so."""

import time


def say(moving, host, *words):
    return moving[host].peer.utsusu(*words)


def assert_paused(moving, name, host):
    """What there was of it at the other host ends soon after."""
    deadline = time.monotonic() + 20
    while moving.states(name) != {host: "paused", moving.other(host): None}:
        assert time.monotonic() < deadline and not moving.who_runs(name), moving.states(name)
        time.sleep(0.3)


def test_it_arrives_paused_and_goes_on_when_told(moving, vm):
    """There and back, while it stands all the time."""
    source = moving.here(vm.name)
    target = moving.other(source)
    moving.ask("fill 8", "dirty 1024 4")
    with moving.client() as client:
        say(moving, source, "pause", vm.name)
        answers = len(client.log().answers)
        assert moving.check_only(vm.name, source) == []
        said = say(moving, source, "move", vm.name, target, "--plain").text
        assert f"{vm.name} is paused on {target}: " in said, said
        assert_paused(moving, vm.name, target)
        assert moving.move(vm.name, target, check=False).end["end"] == "ran"
        assert_paused(moving, vm.name, source)
        assert len(client.log().answers) <= answers + 1
        say(moving, source, "resume", vm.name)
        client.await_answers(5)
    client.check()
    moving.ask("dirty 0 0")
    moving.check_intact()
    assert moving.here(vm.name) == source


def test_a_pause_while_it_moves_goes_along(moving, vm):
    source = moving.here(vm.name)
    target = moving.other(source)
    moving.ask("fill 16")
    moving.lab.wires.slow("AB", rate="50mbit")
    try:
        running = moving.start_move(vm.name, source)
        running.expect('"phase":"memory"', 60)
        say(moving, source, "pause", vm.name)
        assert running.wait(120) == 0
    finally:
        moving.lab.wires.heal("AB")
    assert_paused(moving, vm.name, target)
    say(moving, target, "resume", vm.name)
    moving.check_intact()
    assert moving.here(vm.name) == target


def test_a_cancelled_move_leaves_it_paused(moving, vm):
    source = moving.here(vm.name)
    moving.ask("fill 16")
    say(moving, source, "pause", vm.name)
    moving.cancel_amid_memory(vm.name, source)
    assert_paused(moving, vm.name, source)
    say(moving, source, "resume", vm.name)
    moving.check_intact()
