#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The other side of load.c, and of a Redis: runs in a machine that is not the VM's host.

client.py ask ADDRESS COMMAND...       one command each, on one connection: the answers
client.py count ADDRESS [SECONDS]      counts every so many seconds (0.05) on one connection until its input ends: a JSON
                                       line for each answer, and for each connection that broke: it then connects again
client.py gap ADDRESS [SECONDS]        a packet every so many seconds (0.005) until its input ends; then the longest silence
client.py redis ADDRESS [SECONDS]      SETs without a pause until its input ends; then how many in each so many seconds (0.1)

Times are seconds of this machine's CLOCK_MONOTONIC.
"""

import json
import os
import random
import select
import socket
import sys
import time

PORT = 7000
REDIS_PORT = 6379
ANSWER_SECONDS = 120    # a VM that stands still in doubt is silent, and its connection lives
BATCH = 16              # SETs under way


def say(**what):
    print(json.dumps(what), flush=True)


def input_ended():
    return bool(select.select([0], [], [], 0)[0]) and not os.read(0, 4096)


class Connection:
    def __init__(self, address, port=PORT):
        self._socket = socket.create_connection((address, port), timeout=10)
        self._socket.settimeout(ANSWER_SECONDS)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = self._socket.makefile("rb")

    def send(self, data):
        self._socket.sendall(data)

    def line(self):
        line = self._lines.readline()
        if not line.endswith(b"\n"):
            raise ConnectionError("the connection was closed")
        return line.decode().strip()

    def ask(self, command):
        self.send(command.encode() + b"\n")
        return self.line()

    def close(self):
        self._lines.close()
        self._socket.close()


def ask(address, *commands):
    connection = Connection(address)
    for command in commands:
        print(connection.ask(command), flush=True)


def count(address, pause="0.05"):
    number, connection = 0, None
    while not input_ended():
        number += 1
        try:
            connection = connection or Connection(address)
            sent = time.monotonic()
            words = connection.ask(f"count {number}").split()
            say(at=time.monotonic(), took=time.monotonic() - sent, number=number, count=int(words[1]),
                echoed=int(words[2]), monotonic=int(words[3]), realtime=int(words[4]), errors=int(words[5]))
        except OSError as error:
            say(at=time.monotonic(), number=number, broken=str(error) or type(error).__name__)
            if connection:
                connection.close()
            connection = None
        time.sleep(float(pause))
    say(at=time.monotonic(), ended=True)


def gap(address, pause="0.005"):
    """A silence counts from one answer to the next, whichever packet was answered."""
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.connect((address, PORT))
    sender.setblocking(False)
    last, silences, sent, received = None, [], 0, 0
    next_send = time.monotonic()
    while True:
        wait = next_send - time.monotonic()
        if wait <= 0:
            if sent % 20 == 0 and input_ended():
                break
            next_send += float(pause) - (0 if wait > -1 else wait)
            sent += 1
            try:
                sender.send(b"ping")
            except OSError:     # refused, or no way there for the moment
                pass
            continue
        if select.select([sender], [], [], wait)[0]:
            try:
                sender.recv(2048)
            except OSError:
                continue
            now = time.monotonic()
            received += 1
            if received == 1:
                say(answered=now)
            elif now - last > 4 * float(pause):
                silences.append((now - last, last))
            last = now
    silences.sort(reverse=True)
    say(sent=sent, received=received, last=last, silences=silences[:10])


def redis(address, interval="0.1"):
    connection = Connection(address, REDIS_PORT)
    value = os.urandom(512).hex().encode()
    series, start = [], time.monotonic()
    while not input_ended():
        batch = b""
        for _ in range(BATCH):
            key = b"key%09d" % random.randrange(50000)
            batch += b"*3\r\n$3\r\nSET\r\n$12\r\n%s\r\n$%d\r\n%s\r\n" % (key, len(value), value)
        connection.send(batch)
        for _ in range(BATCH):
            if connection.line() != "+OK":
                raise RuntimeError("Redis did not take it")
        slot = int((time.monotonic() - start) / float(interval))
        series += [0] * (slot + 1 - len(series))
        series[slot] += BATCH
    say(start=start, interval=float(interval), series=series)


if __name__ == "__main__":
    {"ask": ask, "count": count, "gap": gap, "redis": redis}[sys.argv[1]](*sys.argv[2:])
