# SPDX-License-Identifier: Apache-2.0
"""What judges moves is judged here: logs, disks, rates. No machine."""

import json
import subprocess
import sys
import time

import pytest
from conftest import TREE
from labkit.programs import program

import moves

sys.path.append(str(TREE))

SECOND = 10**9


def answer(number, count=None, **other):
    base = {"at": 100 + number, "took": 0.01, "number": number, "count": count or number, "echoed": number,
            "monotonic": (5 + number) * SECOND, "realtime": (5000 + number) * SECOND, "errors": 0}
    return {**base, **other}


def log(*entries):
    return moves.Log(list(entries))


def test_good_log_has_no_problem():
    one = log(*(answer(number) for number in range(1, 9)))
    assert one.problems() == [] and one.last() == 8 and abs(one.drift()) < 1e-9
    one.check()


def test_empty_log_is_a_problem():
    assert log().problems() == ["nothing was acknowledged"]


@pytest.mark.parametrize("change, said", [
    ({"count": 2}, "count went from 2 to 2"),
    ({"count": 4}, "count went from 2 to 4"),
    ({"count": 1}, "count went from 2 to 1"),
    ({"echoed": 2}, "answer 2 to 3"),
    ({"monotonic": 6 * SECOND}, "clock went back"),
    ({"realtime": SECOND}, "wall clock went back"),
    ({"errors": 1}, "saw 1 errors"),
])
def test_each_wrong_answer_is_found(change, said):
    problems = log(answer(1), answer(2), answer(3, **change)).problems()
    assert len(problems) == 1 and said in problems[0], problems


def test_broken_connection_is_a_problem_unless_allowed():
    entries = answer(1), {"at": 102, "number": 2, "broken": "reset"}, answer(3, count=2)
    assert "broke 1 times" in log(*entries).problems()[0]
    assert log(*entries).problems(connections=2) == []


def test_count_on_a_broken_connection_may_have_been_done_or_not():
    for count in (2, 3):
        entries = answer(1), {"at": 102, "number": 2, "broken": "reset"}, answer(3, count=count)
        assert log(*entries).problems(connections=2) == []
    entries = answer(1), {"at": 102, "number": 2, "broken": "reset"}, answer(3, count=1)
    assert log(*entries).problems(connections=2), "what was acknowledged first is lost"


def test_vm_that_was_started_anew_may_have_a_new_clock_but_no_older_count():
    after = answer(2, monotonic=SECOND)
    assert log(answer(1), after).problems(lived=False) == []
    assert log(answer(1), after).problems()


def test_drift_is_what_the_guests_clock_gained():
    one = log(answer(1), answer(2, at=111, monotonic=16 * SECOND + SECOND // 2))
    assert abs(one.drift() - 0.5) < 1e-6
    with pytest.raises(AssertionError, match="drifted by 0.500 s"):
        one.check()


def test_phases_are_told_once_each():
    lines = '{"phase":"check"}\n{"phase":"memory","round":1}\n{"phase":"memory","round":2}\n{"phase": "stop"}\n'
    assert moves.phases_of(lines) == ["check", "memory", "stop"]


def test_bulk_rate_leaves_beginning_and_end_out():
    from benchmarks.pair import bulk_rate
    samples = [[t / 10, 0 if t < 20 else min((t - 20) * 100, 1000)] for t in range(61)]
    assert abs(bulk_rate(samples) - 1000) < 1


class Guest:
    """load.c on this computer: clients and checks meet the real thing."""

    def __init__(self):
        self.process = subprocess.Popen([str(program("load"))], stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        self.serves = line.startswith("load: serves")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()

    @staticmethod
    def client(*arguments, **options):
        return subprocess.Popen(["/usr/bin/python3", str(moves.CLIENT), *arguments], stdin=subprocess.PIPE,
                                stdout=subprocess.PIPE, text=True, **options)


@pytest.fixture
def guest():
    with Guest() as one:
        if not one.serves:
            pytest.skip("port 7000 of this computer is taken")
        yield one


def test_client_counts_and_its_log_is_right(guest):
    client = guest.client("count", "127.0.0.1", "0.01")
    time.sleep(0.7)
    output, _ = client.communicate(timeout=20)
    one = moves.Log.of_lines(output)
    assert len(one.answers) > 10
    one.check()


def test_client_tells_a_restarted_guest(guest):
    client = guest.client("count", "127.0.0.1", "0.01")
    time.sleep(0.5)
    guest.process.kill()
    guest.process.wait()
    with Guest():
        time.sleep(0.5)
        output, _ = client.communicate(timeout=20)
    problems = moves.Log.of_lines(output).problems(connections=1000)
    assert any("count went from" in one for one in problems), "without a disk, all is lost"


def test_silence_is_measured(guest):
    client = guest.client("gap", "127.0.0.1")
    client.stdout.readline()
    time.sleep(0.3)
    guest.process.send_signal(19)   # SIGSTOP
    time.sleep(0.4)
    guest.process.send_signal(18)   # SIGCONT
    time.sleep(0.3)
    output, _ = client.communicate(timeout=20)
    longest = json.loads(output.splitlines()[-1])["silences"][0][0]
    assert 0.35 < longest < 0.9


def test_work_is_done_and_checked(guest):
    client = guest.client("ask", "127.0.0.1", "fill 2", "dirty 4096 1", "check", "status", "nonsense")
    output, _ = client.communicate(timeout=20)
    words = [line.split() for line in output.splitlines()]
    assert words[:3] == [["filled", "2"], ["dirtying", "4096"], ["checked", "0"]]
    assert words[3][0] == "status" and words[3][-1] == "0"
    assert words[4] == ["no", "such", "command"]
