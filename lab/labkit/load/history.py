#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Clients of a guest that log every operation: runs in a machine that is not the VM's host.

history.py ADDRESS KIND[:SECONDS]...    one client each, an operation every so many seconds (0.05), until its input ends

    sequence    load.c's "next": in the guest's memory only
    count       load.c's "count": durable before it is acknowledged
    redis       in turn, of a Redis: INCR of a counter of its own, SET of a new key, GET of an older one that was acknowledged

A JSON line for each operation, when what became of it is known; judge.py reads them:

    {"client":, "id":, "asked":, "start":, "end":, "outcome":, "reply":, "connection":, "port":}

`outcome` is ok (with the reply's bytes, but for the end of the line), fail (it certainly was not done: no byte of it left) or unknown,
with `why`. A client keeps its connection for as long as it lives; `connection` counts them, `port` is its own end, so that a reset
shows in two ways. Times are seconds of this machine's CLOCK_MONOTONIC.
"""

import json
import os
import random
import socket
import sys
import threading
import time
import zlib

PORT, REDIS_PORT = 7000, 6379
ANSWER_SECONDS = 120    # a VM that waits for its arbiter is silent, and its connection lives
CONNECT_SECONDS = 10
LINE_MAX = 4096
MASK = (1 << 64) - 1


def value_of(number):
    """Of a key of Redis: whoever knows the key knows what must be there."""
    return f"{zlib.crc32(b'%d' % number):08x}" * 8


class Sequence:
    """What is asked, and how the end of an answer is known."""
    port = PORT

    def ask(self, number):
        return f"next {number}", f"next {number}\n".encode()

    def took(self, asked, reply):
        pass


class Count(Sequence):
    def ask(self, number):
        return f"count {number}", f"count {number}\n".encode()


class Redis(Sequence):
    """An answer of GET has two lines, of which the first tells how long the second is."""
    port = REDIS_PORT

    def __init__(self):
        self._known = []    # numbers of keys that were acknowledged
        self._random = random.Random(1)

    def ask(self, number):
        words = ["INCR", "history"]
        if number % 3 == 1:
            words = ["SET", f"h{number}", value_of(number)]
        elif number % 3 == 2 and self._known:
            words = ["GET", f"h{self._random.choice(self._known)}"]
        text = b"".join(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in words)
        return " ".join(words[:2]), b"*%d\r\n%s" % (len(words), text)

    def took(self, asked, reply):
        if asked.startswith("SET") and reply == "+OK":
            self._known.append(int(asked.split()[1][1:]))


KINDS = {"sequence": Sequence, "count": Count, "redis": Redis}


class Client(threading.Thread):
    """One operation at a time, on one connection; a new one only when that is broken."""

    def __init__(self, address, name, pause, say):
        super().__init__(daemon=True)
        self.name, self._address, self._pause, self._say = name, address, pause, say
        self._kind = KINDS[name.split(".")[0]]()
        self._socket, self._buffer, self._connections = None, b"", 0
        self.ending = threading.Event()

    def run(self):
        number = 0
        while not self.ending.is_set():
            number += 1
            self._operate(number)
            self.ending.wait(self._pause)
        if self._socket:
            self._socket.close()

    def _operate(self, number):
        asked, data = self._kind.ask(number)
        entry = {"client": self.name, "id": number, "asked": asked, "start": time.monotonic()}
        try:
            self._connect()
        except OSError as error:
            self._say(**entry, end=time.monotonic(), outcome="fail", why=str(error) or type(error).__name__)
            return
        entry.update(connection=self._connections, port=self._socket.getsockname()[1])
        try:
            self._socket.sendall(data)
            reply = self._reply()
        except OSError as error:
            self._say(**entry, end=time.monotonic(), outcome="unknown", why=str(error) or type(error).__name__)
            self._socket.close()
            self._socket = None
            return
        self._kind.took(asked, reply)
        self._say(**entry, end=time.monotonic(), outcome="ok", reply=reply)

    def _connect(self):
        if self._socket:
            return
        self._socket = socket.create_connection((self._address, self._kind.port), timeout=CONNECT_SECONDS)
        self._socket.settimeout(ANSWER_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""
        self._connections += 1

    def _reply(self):
        line = self._line()
        if line.startswith("$") and line != "$-1":
            line += " " + self._line()
        return line

    def _line(self):
        while b"\n" not in self._buffer:
            data = self._socket.recv(LINE_MAX)
            if not data:
                raise ConnectionError("the connection was closed")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.rstrip(b"\r").decode("latin-1")


def main(address, *kinds):
    lock = threading.Lock()

    def say(**entry):
        with lock:
            print(json.dumps(entry), flush=True)

    clients = []
    for number, word in enumerate(kinds):
        kind, _, pause = word.partition(":")
        clients.append(Client(address, f"{kind}.{number}", float(pause or 0.05), say))
    for client in clients:
        client.start()
    while os.read(0, 4096):
        pass
    for client in clients:
        client.ending.set()
    for client in clients:
        client.join(ANSWER_SECONDS + CONNECT_SECONDS)
    say(ended=True, whole=not any(client.is_alive() for client in clients))


if __name__ == "__main__":
    main(*sys.argv[1:])
