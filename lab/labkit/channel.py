# SPDX-License-Identifier: Apache-2.0
"""Commands in a machine: the client's side of the frames that agent/agent.c describes.

A machine has a fixed number of ports, each a UNIX socket of the emulator. Whoever runs a command
holds the lock of one port. The lock file says "busy" while a command runs, so that the next
holder knows when the last one died half way through a frame, and flushes it. A file "slow-line"
says that there is a serial line behind the port.
"""

import contextlib
import fcntl
import os
import secrets
import select
import signal
import socket
import struct
import threading
import time

from .errors import LabError

PORTS = 16
FRAME_MAX = 128 * 1024
CHUNK = 64 * 1024
GREET_SECONDS = 4
HEAD = struct.Struct("<BxxxI")
EXEC_HEAD = struct.Struct("<BxHHHI")
HELLO, EXEC, STDIN, CLOSE, RESIZE, KILL, BYE, STDOUT, STDERR, EXIT = range(1, 11)
FLAG_TTY = 1
ENVIRONMENT = {
    # The last folder holds busybox's tools, for what the host does not have.
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/lab/bin",
    "HOME": "/root", "USER": "root", "LANG": "C.UTF-8",
}


def frame(kind, payload=b""):
    return HEAD.pack(kind, len(payload)) + payload


class Port:
    """One locked port of a machine, with a fresh session on it."""

    def __init__(self, folder, timeout=30):
        self._deadline = time.monotonic() + timeout
        self._lock = self._take(folder)
        slow = (folder / "slow-line").exists()
        self.chunk = 512 if slow else CHUNK
        self._flush = 4096 if slow else FRAME_MAX + HEAD.size
        self._sending = threading.Lock()
        self._said_bye = False
        try:
            self._meet()
        except OSError as error:
            self.close()
            raise LabError(f"machine {folder.name}", f"its agent does not answer ({error})",
                           "see 'lab status' and the machine's console.log")

    def _take(self, folder):
        while True:
            for number in range(PORTS):
                self._path = str(folder / f"port.{number}")
                try:
                    lock = open(self._path + ".lock", "r+b", buffering=0)
                except FileNotFoundError:
                    break
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self._dirty = lock.read(4) == b"busy"
                    return lock
                except BlockingIOError:
                    lock.close()
            if time.monotonic() > self._deadline:
                raise LabError(f"machine {folder.name}", f"{number} commands run in it already",
                               "end one of them")
            time.sleep(0.02)

    def _mark(self, text):
        self._lock.seek(0)
        self._lock.write(text)

    def _meet(self):
        """Connects and greets. Where the last client was killed just as it came, a greeting may stay without
        an answer: it is said again, on a new connection."""
        while True:
            self._socket = socket.socket(socket.AF_UNIX)
            self._buffer = bytearray()
            try:
                self._socket.connect(self._path)
                self._greet(min(self._deadline, time.monotonic() + GREET_SECONDS))
                return
            except TimeoutError:
                if time.monotonic() >= self._deadline:
                    raise
                self._socket.close()
                self._dirty = True

    def _greet(self, deadline):
        token = secrets.token_bytes(16)
        hello = frame(HELLO, token)
        was_dirty = self._dirty
        self._mark(b"busy")
        self.send((bytes(self._flush) if was_dirty else b"") + hello)
        while (at := self._buffer.find(hello)) < 0:
            if not self._receive(deadline - time.monotonic()):
                raise TimeoutError("no answer in time")
        del self._buffer[:at + len(hello)]

    def _receive(self, timeout):
        ready, _, _ = select.select([self._socket], [], [], max(timeout, 0))
        if not ready:
            return False
        data = self._socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the machine is gone")
        self._buffer += data
        return True

    def send(self, data):
        with self._sending:
            if not self._said_bye:
                self._socket.sendall(data)

    def bye(self):
        """The last that is sent: input that the command did not wait for stays here."""
        with self._sending:
            self._socket.sendall(frame(BYE))
            self._said_bye = True

    def frames(self):
        """Yields (kind, payload); ends when the machine goes away."""
        while True:
            at = 0
            while len(self._buffer) - at >= HEAD.size:
                kind, length = HEAD.unpack_from(self._buffer, at)
                if len(self._buffer) - at < HEAD.size + length:
                    break
                yield kind, bytes(self._buffer[at + HEAD.size:at + HEAD.size + length])
                at += HEAD.size + length
            del self._buffer[:at]
            try:
                self._receive(3600)
            except (OSError, ValueError):
                return

    def finished(self):
        """The session ended in good order: the next one need not flush anything."""
        self._mark(b"free")

    def shutdown(self):
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.shutdown()
        self._socket.close()
        self._lock.close()


class Process:
    """A command that runs in a machine. Its output is kept, and can be waited for."""

    def __init__(self, folder, arguments, *, tty=False, cwd="/", env=None, size=(24, 80),
                 sink=None, connect_timeout=30):
        self.arguments = [os.fspath(a) for a in arguments]
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.returncode = None
        self._machine = folder.name
        self._sink = sink
        self._changed = threading.Condition()
        self._ended = False
        self._port = Port(folder, connect_timeout)
        self._port.send(frame(EXEC, self._exec(tty, cwd, env or {}, size)))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _exec(self, tty, cwd, env, size):
        everything = {**ENVIRONMENT, **env}
        strings = [os.fspath(cwd), *(f"{k}={v}" for k, v in everything.items()), *self.arguments]
        payload = EXEC_HEAD.pack(FLAG_TTY if tty else 0, *size, len(everything),
                                 len(self.arguments))
        payload += b"".join(os.fsencode(s) + b"\0" for s in strings)
        if len(payload) > FRAME_MAX:
            raise LabError("command", f"it is longer than {FRAME_MAX} bytes",
                           "give it on standard input")
        return payload

    def _read(self):
        for kind, payload in self._port.frames():
            if kind == EXIT:
                self.returncode = os.waitstatus_to_exitcode(struct.unpack("<I", payload)[0])
                with contextlib.suppress(OSError):
                    self._port.bye()
            elif kind == BYE:
                self._port.finished()
                break
            elif kind in (STDOUT, STDERR):
                self._output(kind, payload)
        self._port.close()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _output(self, kind, payload):
        if self._sink:
            self._sink(kind, payload)
            return
        with self._changed:
            (self.stdout if kind == STDOUT else self.stderr).extend(payload)
            self._changed.notify_all()

    def _say(self, kind, payload=b""):
        with contextlib.suppress(OSError):
            self._port.send(frame(kind, payload))

    def write(self, data):
        for at in range(0, len(data), self._port.chunk):
            self._say(STDIN, data[at:at + self._port.chunk])

    def close_stdin(self):
        self._say(CLOSE)

    def resize(self, rows, columns):
        self._say(RESIZE, struct.pack("<HH", rows, columns))

    def send_signal(self, number):
        """To the command and all of its process group."""
        self._say(KILL, bytes([number]))

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def _wait_until(self, condition, timeout, what):
        with self._changed:
            if self._changed.wait_for(lambda: condition() or self._ended, timeout):
                return
        tail = bytes((self.stdout + self.stderr)[-300:]).decode(errors="replace")
        raise TimeoutError(f"{' '.join(self.arguments)[:200]}: {what} after {timeout} s; "
                           f"its output ends with: {tail!r}")

    def expect(self, text, timeout=60, start=0):
        """Waits until the bytes stand in its standard output, from `start` on; returns the output so far."""
        text = text.encode() if isinstance(text, str) else text
        self._wait_until(lambda: self.stdout.find(text, start) >= 0, timeout, f"no {text!r}")
        if self.stdout.find(text, start) < 0:
            raise LabError(" ".join(self.arguments)[:200],
                           f"ended ({self.returncode}) without {text!r}: "
                           f"{bytes(self.stdout[-500:])!r} {bytes(self.stderr[-500:])!r}")
        return bytes(self.stdout)

    def running(self):
        return not self._ended

    def wait(self, timeout=None):
        """Returns its exit status; negative for the signal that ended it."""
        self._wait_until(lambda: self._ended, timeout, "still running")
        if self.returncode is None:
            raise LabError(f"machine {self._machine}",
                           "went away while the command ran", "see its console.log")
        return self.returncode

    def disconnect(self):
        """Leaves at once; the agent ends the command."""
        self._port.shutdown()
