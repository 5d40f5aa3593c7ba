# SPDX-License-Identifier: Apache-2.0
"""Whatever breaks at whatever moment of a move: what is left is what docs/moving.md says; never two, nothing acknowledged is lost,
nothing is left over.

A schedule is a place (a failpoint of either mover, where that process stops itself), what then breaks, and how the move was
asked for. ./check takes some, chosen by the commit; --long takes many, in an order of its own, and goes on where it was ended
(UTSUSU_SEED is another order). What failed is repeated by its name alone:

    pytest tests/lab/test_move_faults.py --long -k 'source.given-kill_vm-destination-plain'
"""

import contextlib
import itertools
import random
import re
import subprocess
import time
from dataclasses import dataclass

import pytest
from conftest import TREE
from labkit.paths import build_directory

import cells
from schedules import Done, as_parameters, commit

N_SHORT, N_LONG = 12, 1500
STANDS_STILL = 2        # seconds: much less than the movers' patience
PATIENCE = 6            # seconds: theirs, where a fault is to last longer
PATIENT = ("--downtime", "30s")    # a busy computer's wire may be too slow for less, which is another test's business
OPTIONS = ((), ("--plain",), ("--streams", "1"), ("--streams", "4"))


@dataclass(frozen=True)
class Schedule:
    place: str          # of base/failpoint.h; "source..." or "destination..."
    fault: str          # a function of FAULTS
    side: str           # "source", "destination" or ""
    options: tuple

    def __str__(self):
        return "-".join(filter(None, [self.place, self.fault, self.side, *self.options])).replace("--", "")


class Broken:
    """A move that stands at its place, and what can be done to it there."""

    def __init__(self, moving, vm, source):
        self.moving, self.vm = moving, vm
        self.source, self.target = source, moving.other(source)
        self.off = set()        # hosts whose power is cut, or that stand still

    def host(self, side):
        return self.source if side == "source" else self.target

    def side(self, which):
        return self.moving[self.host(which)]

    def signal(self, side, program, number):
        """To every process of that program there."""
        if self.host(side) in self.off:
            return
        for pid in self.side(side).pids(program):
            self.side(side).machine.run(["kill", f"-{number}", pid], check=False)

    def let_go(self):
        """Movers that stand at their place go on."""
        for side in ("source", "destination"):
            self.signal(side, "utsusu-move", "CONT")


# What breaks. Each is given the move that stands and a side, and does the first half; what it yields to is the time that
# passes meanwhile (seconds; STANDS_STILL when it yields none), and what follows heals.

def cancel(move, _side):
    move.command.send_signal(2)
    time.sleep(0.5)     # until it is told: whether it comes in time is the place's business
    move.let_go()
    yield


def kill_mover(move, side):
    move.signal(side, "utsusu-move", "KILL")
    move.let_go()
    yield


def kill_vm(move, side):
    pids = move.moving[move.host(side)].vms.run("pgrep -f 'utsusu-vm.*' || true").text.split()
    for pid in pids:
        move.side(side).machine.run(["kill", "-9", pid], check=False)
    move.let_go()
    yield


def kill_daemon(move, side):
    move.side(side).peer.end_daemon("KILL")
    move.let_go()
    yield
    move.side(side).peer.start_daemon()


def freeze(move, side, qmp=False):
    """A mover that stands at its place there does so until it is thawed, and does not pass it before."""
    move.side(side).machine.freeze(qmp=qmp)
    move.off.add(move.host(side))
    move.let_go()
    yield
    move.side(side).machine.thaw()
    move.off.clear()


def pause(move, side):
    yield from freeze(move, side, qmp=True)


def power(move, side):
    move.side(side).machine.kill()
    move.off.add(move.host(side))
    move.let_go()
    yield
    move.moving.power_on(move.host(side))
    move.off.clear()


def freeze_long(move, side):
    yield from longer(move, freeze(move, side), move.host(side))


def cut_long(move, side):
    yield from longer(move, cut(move, side))


def longer(move, fault, frozen=None):
    """Until the movers that can, have lost their patience."""
    next(fault)
    deadline = time.monotonic() + 180
    while any(side.pids("utsusu-move") for name, side in move.moving.sides.items() if name != frozen):
        assert time.monotonic() < deadline, "a mover has all the patience of the world"
        time.sleep(0.3)
    yield 0.1
    next(fault, None)


def cut(move, _side):
    move.moving.lab.wires.cut("AB")
    move.let_go()
    yield
    move.moving.lab.wires.heal("AB")


def slow(move, _side):
    move.moving.lab.wires.slow("AB", rate="40mbit", delay="20ms", loss="1%")
    move.let_go()
    yield
    move.moving.lab.wires.heal("AB")


# Faults by the rows of the document; "{}" is the side.
ROWS = {
    cancel: "nothing; cancelled",
    kill_mover: "mover {} is killed",
    kill_vm: "VM's process {} is killed",
    kill_daemon: "daemon of either host is killed, restarted",
    freeze: "host {} stands still for less than 30 s",
    pause: "host {} stands still for less than 30 s",
    freeze_long: "host {} stands still for longer",
    power: "power of the host {}",
    cut: "wire is cut for less than 30 s",
    cut_long: "wire is cut for longer, and healed",
    slow: "wire is slow, loses packets",
}
FAULTS = {one.__name__: one for one in ROWS}
OF_NO_SIDE = {"cancel", "cut", "cut_long", "slow"}
LONGER = {"freeze_long", "cut_long"}
# Rows that other tests bring about.
ELSEWHERE = {
    "wire is cut for good": "test_move_faults.py: test_wire_that_is_cut_for_good_leaves_it_to_the_operator",
    "no room for the notes there": "test_move_faults.py: test_no_room_there_is_a_refusal; test_move_cells.c: the result cannot be written",
    "no room there for a disk that is copied, or that disk fails":
        "test_move_disks.py: test_disk_that_fills_up_there_leaves_the_vm_here; test_move_disks.c: a_disk_that_changes_what_it_holds_is_refused",
    "a byte is changed on the wire": "test_move_whole.c: a_flipped_bit_leaves_one",
}


def row_of(schedule):
    return ROWS[FAULTS[schedule.fault]].format({"source": "here", "destination": "there"}.get(schedule.side, ""))


def places():
    """As the mover that was built lists them, for moves."""
    mover = build_directory() / "src/programs/utsusu-move"
    if not mover.exists():
        return ["source.start"]     # the fixture that needs the programs says what is missing
    listed = subprocess.run([str(mover), "--failpoints"], check=True, capture_output=True, text=True).stdout.split()
    return [place for place in listed if place.startswith(("source.", "destination."))]


def all_schedules():
    for place, fault, options in itertools.product(places(), FAULTS, OPTIONS):
        for side in [""] if fault in OF_NO_SIDE else ["source", "destination"]:
            yield Schedule(place, fault, side, options)


def chosen():
    """Each fault is among the short ones."""
    every = sorted(all_schedules(), key=str)
    random.Random(commit()).shuffle(every)
    first = {}
    for one in every:
        first.setdefault(one.fault, one)
    rest = [one for one in every if one not in first.values()]
    return as_parameters([*first.values(), *rest], N_SHORT, N_LONG)


def start_and_wait_at(moving, vm, source, schedule):
    """A move that stands at its place, or has ended because it does not come there."""
    return moving.start_stopped(vm.name, source, schedule.place, *PATIENT, *schedule.options, plain=False)


def column_now(moving, vm, source):
    """Which one it is, by both hosts' notes, when all that goes on by itself has come to stand."""
    before = None
    while True:
        notes = moving.resolve(vm.name, source)
        here, there = (notes.get(side, {}) for side in ("here", "there"))
        now = (here.get("given"), there.get("result"))
        if now == before:
            break
        before = now
        time.sleep(1)
    if now[0] == "ran" or notes.get("state") == "there":
        return cells.AFTER
    if now[0] is None:
        return cells.BEFORE
    return cells.RAN if now[1] == "ran" else cells.COMMIT


def moved_on(moving, vm, source, move):
    """Into the commit, while the fault lasts: what the source does next there does not wait for the destination."""
    return source not in move.off and moving.sides[source].state_of(vm.name) == "given"


def ending_of(moving, vm, source, runs):
    if runs:
        return cells.HERE if runs == source else cells.THERE
    # Where it is not to be started it is refused.
    starts = [host for host in (source, moving.other(source)) if moving.start_anew(vm.name, host)]
    assert len(starts) == 1, f"lost, and starts on {starts}"
    return cells.LOST_HERE if starts == [source] else cells.LOST_THERE


@pytest.mark.parametrize("schedule", chosen(), ids=str)
def test_fault(moving, vm, schedule, long):
    if long:
        Done().skip(schedule)
    source = moving.who_runs(vm.name)[0]
    moving.ask("fill 8", "dirty 1024 8")
    for side in moving.sides.values():
        side.patience(PATIENCE * 1000 if schedule.fault in LONGER else 0)
    move = Broken(moving, vm, source)
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(moving.client())
        move.command = start_and_wait_at(moving, vm, source, schedule)
        assert move.command.running(), f"{schedule.place} was not passed: {bytes(move.command.stdout)[-400:]}"
        column = column_now(moving, vm, source)
        fault = FAULTS[schedule.fault](move, schedule.side)
        pause_for = next(fault) or STANDS_STILL
        never_two(moving, vm, move)
        time.sleep(pause_for)
        never_two(moving, vm, move)
        if schedule.fault in LONGER and column == cells.BEFORE and moved_on(moving, vm, source, move):
            column = cells.COMMIT
        next(fault, None)
        move.let_go()
        runs = moving.await_settled(vm.name)
        if runs:
            client.await_answers(5)
        else:
            client.give_up()
    log = client.log()
    if runs:
        log.check(stood_still=schedule.fault in ("freeze", "pause", "freeze_long"))
        status = moving.ask("check", "status", "dirty 0 0")
        assert status[0] == ["checked", "0"] and status[1][-1] == "0", status
    ending = ending_of(moving, vm, source, runs)
    if not runs:
        moving.forget(vm.name)
    cell = cells.text(row_of(schedule), column)
    assert ending in cells.expected(row_of(schedule), column), \
        f"{ending}; the document says '{cell}' ({row_of(schedule)}, {cells.COLUMNS[column]}); {bytes(move.command.stdout)[-600:]}"
    assert moving.counted_on_disk() >= log.last(), "what was acknowledged is not on the disk"
    moving.check_nothing_left()
    if long:
        Done().add(schedule)


def never_two(moving, vm, move):
    """Of the machines that can be asked."""
    runs = [name for name, side in moving.sides.items() if name not in move.off
            and side.machine.state_of_process() == "running" and side.machine.state() == "running"
            and side.state_of(vm.name) == "running"]
    assert len(runs) < 2, f"{vm.name} runs twice"


def test_each_row_of_the_document_is_brought_about():
    """And each of its cells has words that are understood."""
    rows = {row_of(one) for one in all_schedules()} | set(ELSEWHERE)
    assert rows == set(cells.read())
    for name, where in ELSEWHERE.items():
        for one in where.split("; "):
            file, test = one.split(": ")
            path = next(path for path in (TREE / "tests/lab" / file, TREE / "tests/unit" / file) if path.exists())
            assert test in path.read_text(), f"{name}: there is no {test} in {file}"
    for row, words in cells.read().items():
        assert len(words) == len(cells.COLUMNS) and set(words) <= set(cells.WORDS), f"{row}: {words}"


PHASES = {"check": "source.start", "reserve": "source.hello", "rehearse": "source.rehearse", "disks": "source.disks",
          "memory": "source.round", "stop": "source.stopped", "state": "source.state"}


# ./check looks at the first, the longest and the last; one process does all of them: test_move_whole.c.
@pytest.mark.parametrize("phase", [one if one in ("check", "memory", "state") else pytest.param(one, marks=pytest.mark.long) for one in PHASES])
def test_cancel_at_each_phase_leaves_all_as_it_was(moving, vm, phase):
    source = moving.who_runs(vm.name)[0]
    with moving.client() as client:
        running = start_and_wait_at(moving, vm, source, Schedule(PHASES[phase], "", "", ("--plain",)))
        assert f'"phase":"{phase}"'.encode() in bytes(running.stdout), bytes(running.stdout)[-300:]
        running.send_signal(2)
        time.sleep(0.5)
        Broken(moving, vm, source).let_go()
        assert running.wait(120) != 0
        client.await_answers(3)
    client.check()
    assert moving.states(vm.name) == {source: "running", moving.other(source): None}
    moving.check_nothing_left()


def test_no_room_there_is_a_refusal(moving, vm):
    """For the note that the commit will be written to: it is made whole before the token is told."""
    source = moving.who_runs(vm.name)[0]
    target = moving[moving.other(source)].machine
    target.run("mount -t tmpfs -o size=4k tmpfs /var/lib/utsusu/taken && echo full >/var/lib/utsusu/taken/.full")
    try:
        with moving.client() as client:
            refused = moving.move(vm.name, source, check=False)
            client.await_answers(3)
    finally:
        target.run("umount /var/lib/utsusu/taken")
    assert refused.status != 0 and moving.other(source) in refused.errors, refused
    client.check()
    assert moving.states(vm.name) == {source: "running", moving.other(source): None}
    moving.check_nothing_left()


def test_wire_that_is_cut_for_good_leaves_it_to_the_operator(moving, vm):
    """It stands here until somebody says that it runs there; nothing else ends that, and the healed wire changes nothing of it."""
    source = moving.who_runs(vm.name)[0]
    for side in moving.sides.values():
        side.patience(PATIENCE * 1000)
    running = start_and_wait_at(moving, vm, source, Schedule("destination.ran", "", "", ("--plain",)))
    moving.lab.wires.cut("AB")
    Broken(moving, vm, source).let_go()
    running.expect('"in-doubt"', 120)
    here = moving[source]
    assert here.state_of(vm.name) not in ("running", None) and moving.resolve(vm.name, source)["state"] == "doubt"
    assert moving[moving.other(source)].state_of(vm.name) == "running"
    here.peer.end_daemon()
    here.peer.start_daemon()
    assert moving.resolve(vm.name, source)["state"] == "doubt"
    here.peer.utsusu("resolve", vm.name, "--declare-lost-here")
    assert here.state_of(vm.name) is None
    moving.lab.wires.heal("AB")
    assert moving.await_settled(vm.name) == moving.other(source)
    moving.ask("check", "status")
    moving.check_nothing_left()


def test_each_place_of_both_sides_is_passed(moving, vm):
    """The source's mover tells of it in its progress, the destination's has only the daemon's log."""
    source = moving.who_runs(vm.name)[0]
    target = moving[moving.other(source)]
    for side in moving.sides.values():
        side.failpoint("*:tell")
    before = len(target.peer.daemon_said())
    outcome = moving.move(vm.name, source, *PATIENT)
    passed = {*outcome.failpoints, *re.findall(r"failpoint (\S+)", target.peer.daemon_said()[before:])}
    assert passed == set(places())
