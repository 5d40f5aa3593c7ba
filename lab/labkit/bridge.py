#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Joins a machine's serial line to a UNIX socket, for one client after the other.

bridge.py SOCKET FD: FD is the terminal whose other side is the emulator's serial port; the bridge
ends with the emulator.
"""

import os
import select
import socket
import sys


def from_line(line, client):
    """Whether the line goes on. What comes while no client is there is dropped."""
    try:
        data = os.read(line, 4096)
        if client:
            client.sendall(data)
        return True
    except (BrokenPipeError, ConnectionError):
        return True
    except OSError:
        return False


def from_client(client, line):
    """Whether the client goes on."""
    try:
        data = client.recv(256)
    except OSError:
        return False
    rest = data
    while rest:
        rest = rest[os.write(line, rest):]
    return bool(data)


def main(path, line):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    listener.listen(8)
    client = None
    while True:
        ready, _, _ = select.select([line, client or listener], [], [])
        if line in ready and not from_line(line, client):
            return
        if listener in ready:
            client = listener.accept()[0]
        elif client in ready and not from_client(client, line):
            client.close()
            client = None


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
