# SPDX-License-Identifier: Apache-2.0
"""What judges failovers is judged here: histories with a known fault in them, and a server that has each of these faults. No machine."""

import contextlib
import json
import socketserver
import subprocess
import sys
import threading
import time

import pytest
from labkit.load import HISTORY, history
from labkit.load.judge import History, mix


def sequence(number, value=None, chain=None, **other):
    """The reply to the number-th operation of a client that is alone."""
    if chain is None:
        chain = 0
        for one in range(1, number + 1):
            chain = mix(chain ^ one)
    base = {"client": "sequence.0", "id": number, "asked": f"next {number}", "start": number, "end": number + 0.5, "outcome": "ok",
            "reply": f"next {value or number} {number} {chain:016x}", "connection": 1, "port": 4000}
    return {**base, **other}


def count(number, value=None, clock=None, errors=0, **other):
    clock = clock or 10**9 * number
    return {"client": "count.1", "id": number, "asked": f"count {number}", "start": number, "end": number + 0.5, "outcome": "ok",
            "reply": f"counted {value or number} {number} {clock} {clock + 5} {errors}", "connection": 1, "port": 4001, **other}


def redis(number, asked, reply, **other):
    return {"client": "redis.2", "id": number, "asked": asked, "start": number, "end": number + 0.5, "outcome": "ok", "reply": reply,
            "connection": 1, "port": 4002, **other}


def get(number, key, reply=None):
    value = history.value_of(key)
    return redis(number, f"GET h{key}", reply or f"${len(value)} {value}")


def unknown(entry, why="Connection reset by peer"):
    return {key: value for key, value in {**entry, "outcome": "unknown", "why": why}.items() if key != "reply"}


GOOD = [*(sequence(number) for number in range(1, 6)), *(count(number) for number in range(1, 6)),
        redis(1, "SET h1", "+OK"), redis(2, "GET h1", get(2, 1)["reply"]), redis(3, "INCR history", ":1"), redis(4, "INCR history", ":2")]


def test_good_history_has_no_problem():
    one = History(GOOD)
    assert one.problems() == []
    one.check()
    assert one.last_durable() == 5 and one.longest() == 0.5
    assert one.next_after(2.5, "count.1") == 3.5 and one.longest("count.1", after=5.25) == 0.25


@pytest.mark.parametrize("bad, said", [
    ([], "nothing was acknowledged"),
    # The backup did not have what was acknowledged: its counter is that of an older epoch.
    ([sequence(1), sequence(2), sequence(3), sequence(4, value=3)], "next 3 was acknowledged twice"),
    ([sequence(1), sequence(2), sequence(3), sequence(4, value=2)], "next went back: 2 was asked for when 3"),
    ([sequence(1), sequence(2, value=3)], "1 were done that nobody asked for"),
    ([sequence(1), sequence(2, chain=77)], "does not know what was asked before"),
    ([sequence(1), sequence(2, reply="next 2 1 0000000000000000")], "was answered 'next 2 1"),
    ([sequence(1), unknown(sequence(2)), sequence(3, chain=mix(3), connection=2, port=4009)], "its connection did not last"),
    ([sequence(1), sequence(2, port=4009)], "its connection did not last"),
    ([sequence(1), {**sequence(2), "outcome": "fail", "why": "refused"}], "nobody took its connection: refused"),
    ([count(1), count(2, value=1)], "counted 1 was acknowledged twice"),
    ([count(1), count(2), count(3, clock=10**9)], "a clock of the guest's went back"),
    ([count(1), count(2, errors=1)], "the guest saw 1 errors"),
    ([redis(1, "SET h1", "+OK"), redis(2, "GET h1", "$-1")], "what was acknowledged is lost: GET h1"),
    ([redis(1, "SET h1", "+OK"), get(2, 1, reply="$4 abcd")], "what was acknowledged is lost"),
    ([redis(1, "SET h1", "-MISCONF"), ], "SET h1 was answered '-MISCONF'"),
    ([redis(1, "INCR history", ":5"), redis(2, "INCR history", ":5")], "INCR 5 was acknowledged twice"),
])
def test_each_fault_is_found(bad, said):
    problems = History(bad).problems()
    assert any(said in one for one in problems), problems


def test_two_clients_share_a_counter_in_the_order_of_time():
    def of(client, number, value, start, end):
        return sequence(number, value=value, client=client, start=start, end=end)

    # At the same time, either order will do; one after the other, only one does.
    assert History([of("sequence.0", 1, 2, 1.0, 2.0), of("sequence.1", 1, 1, 1.5, 2.5)]).problems() == []
    problems = History([of("sequence.0", 1, 2, 1.0, 2.0), of("sequence.1", 1, 1, 2.1, 2.5)]).problems()
    assert any("went back" in one for one in problems), problems


def test_unknown_outcome_may_have_been_done_or_not():
    for value in (2, 3):
        after = sequence(3, value=value, chain=mix(3), connection=2, port=4009)
        assert History([sequence(1), unknown(sequence(2)), after]).problems(connections=2) == []
    after = sequence(3, value=4, chain=mix(3), connection=2, port=4009)
    assert History([sequence(1), unknown(sequence(2)), after]).problems(connections=2)


def test_line_that_was_cut_short_is_left_out():
    assert len(History.of_lines(json.dumps(sequence(1)) + "\n" + json.dumps(sequence(2))[:-5]).ok) == 1


# The clients themselves, against a server that answers as load.c does, and with a fault.

class Server(socketserver.ThreadingTCPServer):
    """`fault`: what it does wrong from its tenth reply on."""
    allow_reuse_address = daemon_threads = True

    def __init__(self, fault):
        super().__init__(("127.0.0.1", 0), Handler)
        self.fault, self.sequence, self.replies, self.lock = fault, 0, 0, threading.Lock()


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        chain = 0
        for line in self.rfile:
            number = int(line.split()[1])
            chain = mix(chain ^ number)
            with self.server.lock:
                self.server.replies += 1
                self.server.sequence += 1
                if self.server.replies == 10:
                    if self.server.fault == "reset":
                        return
                    if self.server.fault == "rollback":
                        self.server.sequence -= 3
                    if self.server.fault == "stranger":
                        chain ^= 1
                value = self.server.sequence
            with contextlib.suppress(OSError):
                self.wfile.write(f"next {value} {number} {chain:016x}\n".encode())


@pytest.mark.parametrize("fault, said", [(None, None), ("rollback", "acknowledged twice"), ("reset", "did not last"),
                                         ("stranger", "does not know what was asked before")])
def test_clients_see_what_a_server_does_wrong(fault, said):
    with Server(fault) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        driver = f"import history; history.PORT = history.Sequence.port = {server.server_address[1]}; history.main(*{['127.0.0.1', 'sequence:0.001', 'sequence:0.002']})"
        client = subprocess.Popen([sys.executable, "-B", "-c", driver], cwd=HISTORY.parent, stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 20
        while server.replies < 30 and time.monotonic() < deadline:
            time.sleep(0.01)
        said_all, _ = client.communicate("", timeout=30)
        server.shutdown()
    seen = History.of_lines(said_all)
    assert client.returncode == 0 and seen.whole and seen.clients() == ["sequence.0", "sequence.1"]
    problems = seen.problems()
    if said:
        assert any(said in one for one in problems), problems
    else:
        assert problems == [] and len(seen.ok) >= 30
