# SPDX-License-Identifier: Apache-2.0
"""A client of an NBD server on a UNIX socket, as small as tests of a disk need it.

The protocol: github.com/NetworkBlockDevice/nbd, doc/proto.md.
"""

import socket
import struct
import time

READ, WRITE, DISCONNECT, FLUSH = range(4)
FUA = 1
OPT_EXPORT_NAME = 1


class NbdError(Exception):
    """The errno that the server answered."""


class Nbd:
    def __init__(self, path, export):
        self._socket = self._connect(str(path))
        magic, option_magic, flags = struct.unpack(">8s8sH", self._take(18))
        assert magic == b"NBDMAGIC" and option_magic == b"IHAVEOPT" and flags & 3 == 3
        name = export.encode()
        self._socket.sendall(struct.pack(">I8sII", 3, b"IHAVEOPT", OPT_EXPORT_NAME, len(name)) + name)
        self.size, self.flags = struct.unpack(">QH", self._take(10))

    @staticmethod
    def _connect(path, seconds=20):
        """Also to a server that has its socket, and does not listen yet."""
        due = time.monotonic() + seconds
        while True:
            client = socket.socket(socket.AF_UNIX)
            client.settimeout(10)
            try:
                client.connect(path)
                return client
            except (ConnectionRefusedError, FileNotFoundError):
                client.close()
                if time.monotonic() > due:
                    raise
                time.sleep(0.05)

    def _take(self, length):
        data = b""
        while len(data) < length:
            more = self._socket.recv(length - len(data))
            if not more:
                raise ConnectionError("the server closed the connection")
            data += more
        return data

    def _ask(self, kind, offset=0, length=0, data=b"", flags=0):
        self._socket.sendall(struct.pack(">IHHQQI", 0x25609513, flags, kind, 0, offset, length) + data)
        magic, error, _ = struct.unpack(">IIQ", self._take(16))
        assert magic == 0x67446698
        if error:
            raise NbdError(error)

    def write(self, offset, data, fua=False):
        self._ask(WRITE, offset, len(data), data, FUA if fua else 0)

    def read(self, offset, length):
        self._ask(READ, offset, length)
        return self._take(length)

    def flush(self):
        self._ask(FLUSH)

    def cut(self):
        """As an emulator goes that is killed: without a word."""
        self._socket.close()
