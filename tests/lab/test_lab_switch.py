# SPDX-License-Identifier: Apache-2.0
"""The switch alone, with test frames instead of machines: fast enough to try its corners."""

import os
import socket
import struct
import subprocess
import time

import pytest
from labkit.programs import program

BROADCAST = b"\xff" * 6


def address(number):
    return bytes([0x52, 0x54, 0, 0, 0, number])


def frame(to, source, payload=b"", size=60):
    return (to + source + b"\x88\xb5" + payload).ljust(size, b"\0")


class End:
    """The emulator's end of one wire."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.socket.settimeout(2)

    def send(self, *frames):
        self.socket.sendall(b"".join(struct.pack(">I", len(f)) + f for f in frames))

    def exactly(self, size):
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            assert part, "the switch closed the wire"
            data += part
        return data

    def receive(self):
        return self.exactly(struct.unpack(">I", self.exactly(4))[0])

    def silent(self, seconds=0.2):
        self.socket.settimeout(seconds)
        try:
            return not self.socket.recv(1)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(2)


@pytest.fixture
def switch(tmp_path):
    child = subprocess.Popen([str(program("switch")), str(tmp_path), "3"])
    deadline = time.monotonic() + 5
    while not (tmp_path / "switch").exists() and time.monotonic() < deadline:
        time.sleep(0.01)

    def tell(line):
        with socket.socket(socket.AF_UNIX) as control:
            control.settimeout(5)
            control.connect(str(tmp_path / "switch"))
            control.sendall(line.encode() + b"\n")
            return control.recv(100).decode().strip()

    ends = [End(str(tmp_path / f"wire.{name}")) for name in "ABC"]
    yield ends, tell, tmp_path
    assert child.poll() is None, "the switch died"
    child.kill()
    child.wait()


def test_broadcast_reaches_all_and_learned_addresses_one(switch):
    (a, b, c), _tell, _ = switch
    a.send(frame(BROADCAST, address(1), b"hello"))
    assert b.receive() == c.receive() == frame(BROADCAST, address(1), b"hello")
    b.send(frame(address(1), address(2), b"answer"))
    assert a.receive() == frame(address(1), address(2), b"answer")
    assert c.silent()


def test_cut_path_is_cut_in_that_direction_only(switch):
    (a, b, c), tell, _ = switch
    assert tell("path A B 1 0 0 0") == "ok"
    a.send(frame(BROADCAST, address(1)))
    assert c.receive() and b.silent()
    b.send(frame(BROADCAST, address(2)))
    assert a.receive()
    assert tell("path A B 0 0 0 0") == "ok"
    a.send(frame(BROADCAST, address(1), b"again"))
    assert b.receive() == frame(BROADCAST, address(1), b"again")


def test_delay_and_rate_keep_the_order(switch):
    (a, b, _c), tell, _ = switch
    tell("path A B 0 100000 50000000 0")  # 100 kB/s, 50 ms
    start = time.monotonic()
    a.send(*(frame(BROADCAST, address(1), bytes([n]), 1000) for n in range(20)))
    assert [b.receive()[14] for _ in range(20)] == list(range(20))
    assert 0.24 < time.monotonic() - start < 0.6


def test_queue_goes_round_many_times_without_a_wrong_byte(switch):
    (a, b, _c), tell, _ = switch
    tell("path A C 1 0 0 0")
    sizes = [14, 60, 1514, 9000, 65000]
    for round_ in range(60):
        frames = [(BROADCAST + address(1) + os.urandom(size))[:max(size, 14)] for size in sizes * 2]
        a.send(*frames)
        for sent in frames:
            assert b.receive() == sent


def test_receiver_that_stops_reading_blocks_nobody(switch):
    (a, b, c), _tell, _ = switch
    flood = [frame(BROADCAST, address(1), b"x", 1500)] * 50
    received = 0
    for _ in range(100):
        a.send(*flood)  # C never reads; the sockets and its queue fill up
        for _ in flood:
            b.receive()
            received += 1
    assert received == 5000
    assert c.receive() == flood[0]


def test_wire_that_comes_again_starts_empty(switch):
    (a, b, _c), _tell, folder = switch
    b.socket.close()
    time.sleep(0.05)
    a.send(frame(BROADCAST, address(1), b"lost"))
    time.sleep(0.05)
    b = End(str(folder / "wire.B"))
    time.sleep(0.05)
    a.send(frame(BROADCAST, address(1), b"new"))
    assert b.receive() == frame(BROADCAST, address(1), b"new")


def test_nonsense_on_a_wire_or_the_control_socket_is_survived(switch):
    (a, b, c), tell, _ = switch
    a.socket.sendall(b"\xff\xff\xff\xff" + bytes(100))  # a frame of 4 GiB
    assert a.socket.recv(1) == b""
    assert tell("path A Z 0 0 0 0").startswith("error")
    assert tell("path A A 0 0 0 0").startswith("error")
    assert tell("hello").startswith("error")
    b.send(b"", frame(BROADCAST, address(2)))
    assert c.receive() == frame(BROADCAST, address(2))
