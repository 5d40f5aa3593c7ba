# SPDX-License-Identifier: Apache-2.0
"""A VM moves between two machines while a client uses it from a third."""

import re
import time

import pytest

import moves

MOVES_IN_A_ROW = 10


def test_there_and_back(moving, vm):
    moving.ask("fill 16")
    with moving.client() as client:
        for _ in range(2):
            moving.move(vm.name, moving.here(vm.name), plain=False)
            client.await_answers(5)
    client.check()
    moving.check_intact()


def test_ten_in_a_row_keep_the_guests_clocks(moving, vm):
    """The hosts' wall clocks are hours apart."""
    times = [float(moving[name].machine.run("date +%s").text) for name in "AB"]
    assert abs(times[0] - times[1]) > 3600
    moving.ask("fill 8", "dirty 2048 8")
    with moving.client() as client:
        for _ in range(MOVES_IN_A_ROW):
            moving.move(vm.name, moving.here(vm.name))
        client.await_answers(5)
    client.check()
    moving.check_intact()


@pytest.mark.parametrize("options", [
    ["--plain"], ["--streams", "4"], pytest.param(["--streams", "1"], marks=pytest.mark.long),
    pytest.param(["--streams", "4", "--plain"], marks=pytest.mark.long)],
    ids=lambda options: "".join(options).strip("-"))
def test_each_kind_of_wire(moving, vm, options):
    moving.ask("fill 8")
    with moving.client() as client:
        outcome = moving.move(vm.name, moving.here(vm.name), *options, plain=False)
        client.await_answers(3)
    client.check()
    moving.check_intact()
    if "--streams" in options:
        assert outcome.end["streams"] == int(options[1])
    assert ("--plain" in options) == ("--plain" in outcome.errors), "a wire that others can read is named"


def test_what_is_sent_while_it_stands_waits_for_it(moving, vm):
    """Nothing that comes between the guest's stop and its first instruction is lost: networks send it to the new place already."""
    source = moving.here(vm.name)
    running = moving.start_stopped(vm.name, source, "source.stopped")
    pings = moving.outside.start_command(["ping", "-c", "12", "-i", "0.1", "-W", "60", moves.GUEST])
    time.sleep(1.5)
    moving[source].machine.run("kill -CONT $(pidof utsusu-move)")
    assert running.wait(120) == 0, bytes(running.stderr)[-500:]
    pings.wait(120)
    assert " 0% packet loss" in bytes(pings.stdout).decode(), bytes(pings.stdout).decode()
    assert moving.here(vm.name) == moving.other(source)


def test_one_that_goes_on_after_all_is_found_again(moving, vm):
    """The other host had announced it already."""
    source = moving.here(vm.name)
    moving[source].failpoint("source.stopped:error")
    assert moving.move(vm.name, source, check=False).status == 1
    moving[source].failpoint("")
    said = moving.outside.run(["ping", "-c", "5", "-i", "0.2", "-W", "10", moves.GUEST], check=False).text
    assert " 0% packet loss" in said, said
    assert moving.here(vm.name) == source


def test_untouched_memory_does_not_travel(moving, vm):
    outcome = moving.move(vm.name, moving.here(vm.name))
    memory = 256 << 20
    assert outcome.end["wire_bytes"] < 0.8 * memory
    assert (outcome.end["pages"] + outcome.end["zero_pages"]) * 4096 < 1.5 * memory


def test_move_tells_its_phases(moving, vm):
    phases = list(dict.fromkeys(moves.phases_of(moving.move(vm.name, moving.here(vm.name)).said)))
    order = ["check", "reserve", "rehearse", "memory", "stop", "state", "commit", "run"]
    assert [one for one in phases if one in order] == [one for one in order if one in phases]
    assert {"memory", "stop", "commit"} <= set(phases), phases


def test_written_memory_comes_to_its_end(moving, vm):
    """More is written than the wire carries: the guest is slowed, and told so."""
    moving.ask("dirty 200000 16")
    with moving.client() as client:
        # What packs well may fit through the wire all the same.
        outcome = moving.move(vm.name, moving.here(vm.name), "--compress", "off", "--max-bandwidth", "10M")
        client.await_answers(3)
    moving.ask("dirty 0 0")
    client.check()
    moving.check_intact()
    throttles = [int(one) for one in re.findall(r'"throttle": ?(\d+)', outcome.said)]
    assert max(throttles, default=0) > 0, outcome


def test_console_names_where_the_vm_went(moving):
    vm = moving.start("A")
    try:
        moving.move(vm.name, "A")
        vm.wait(60)
        assert "B" in vm.errors().splitlines()[-1], vm.errors()
        console = moving["B"].vms.console(vm.name)
        console.type("")
        console.type("echo on the $((1))st host")
        console.expect("on the 1st host")
    finally:
        moving.end(vm.name)
    moving.check_nothing_left()


def test_bound_of_the_bandwidth_holds(moving, vm):
    moving.ask("fill 8")
    started = time.monotonic()
    outcome = moving.move(vm.name, moving.here(vm.name), "--max-bandwidth", "8M")
    took = time.monotonic() - started
    assert outcome.end["wire_bytes"] / took < 9.5 * (1 << 20)


def test_cancelled_move_leaves_all_as_it_was(moving, vm):
    source = moving.here(vm.name)
    moving.ask("fill 16")
    with moving.client() as client:
        moving.cancel_amid_memory(vm.name, source)
        client.await_answers(5)
    client.check()
    assert moving.states(vm.name) == {source: "running", moving.other(source): None}
    assert moving[moving.other(source)].pids("utsusu-move") == []
    moving.move(vm.name, source)
    moving.check_intact()


def test_daemons_restart_disturbs_no_move(moving, vm):
    source = moving.here(vm.name)
    moving.ask("fill 16")
    with moving.client() as client:
        moving.lab.wires.slow("AB", rate="100mbit")
        try:
            running = moving.start_move(vm.name, source)
            running.expect('"phase":"memory"', 60)
            for side in moving.sides.values():
                side.peer.end_daemon()
                side.peer.start_daemon()
            running.wait(120)
        finally:
            moving.lab.wires.heal("AB")
        assert moving.await_settled(vm.name) == moving.other(source)
        client.await_answers(3)
    client.check()


def test_second_move_of_the_same_vm_is_refused(moving, vm):
    source = moving.here(vm.name)
    moving.lab.wires.slow("AB", rate="50mbit")
    try:
        running = moving.start_move(vm.name, source)
        running.expect('"phase":"memory"', 60)
        second = moving.move(vm.name, source, check=False)
        assert second.status != 0 and vm.name in second.errors, second
    finally:
        moving.lab.wires.heal("AB")
    assert running.wait(120) == 0
    assert moving.here(vm.name) == moving.other(source)


@pytest.mark.parametrize("where", ["itself", "nowhere"])
def test_move_to_whom_nobody_knows_is_refused(moving, vm, where):
    source = moving.here(vm.name)
    target = source if where == "itself" else "Z"
    result = moving[source].peer.utsusu("move", vm.name, target, check=False)
    assert result.returncode != 0 and result.stderr.count(b"\n") == 1, result
    assert moving.here(vm.name) == source


def test_check_finds_nothing_where_nothing_is_in_the_way(moving, vm):
    assert moving.check_only(vm.name, moving.here(vm.name)) == []


def test_check_names_all_that_is_in_the_way(moving, vm):
    """The other host has neither disk nor network of that name, and too little memory."""
    source = moving.here(vm.name)
    target = moving[moving.other(source)]
    target.machine.run("echo '{}' >/etc/utsusu/host.json")
    try:
        problems = moving.check_only(vm.name, source)
        assert any("shared" in one for one in problems) and any("wire" in one for one in problems), problems
        refused = moving.move(vm.name, source, check=False)
        assert refused.status != 0 and moving.here(vm.name) == source
    finally:
        target.peer.write_lists()
    assert moving.check_only(vm.name, source) == []


def test_vm_that_lives_elsewhere_is_not_started_here(moving, vm):
    source = moving.here(vm.name)
    moving.move(vm.name, source)
    result = moving[source].peer.utsusu("run", vm.name, "--detach", *moving[source].vms.arguments([], "load"), check=False)
    assert result.returncode != 0 and moving.other(source).encode() in result.stderr, result
    assert moving.who_runs(vm.name) == [moving.other(source)]


def test_nothing_is_left_when_the_vm_has_ended(moving):
    vm = moving.start("A")
    moving.move(vm.name, "A")
    moving.end(vm.name)
    moving.check_nothing_left()


def test_what_was_acknowledged_is_on_the_disk(moving, vm):
    with moving.client() as client:
        moving.move(vm.name, moving.here(vm.name))
        client.await_answers(5)
    assert moving.counted_on_disk() >= client.log().last()
