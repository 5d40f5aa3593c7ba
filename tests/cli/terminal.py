# SPDX-License-Identifier: Apache-2.0
"""A program on a pseudo terminal, and the screen that its user would see. Needs python3-pyte."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time

import pyte

ENDS_SOON = 60  # seconds; most take a fraction of one


class Terminal:
    """A program on a terminal of its own, and that terminal's screen."""

    def __init__(self, command, environment, rows=24, columns=80):
        self.output = b""
        self.screen = pyte.Screen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.master, self.slave = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(command, env=environment, stdin=self.slave, stdout=self.slave,
                                        stderr=subprocess.PIPE, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))

    def close(self):
        self.process.kill()
        self.process.communicate()
        self.hang_up()

    def hang_up(self):
        """The terminal goes away."""
        for end in (self.master, self.slave):
            if end is not None:
                os.close(end)
        self.master = self.slave = None

    def resize(self, rows, columns):
        self.screen.resize(rows, columns)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, seconds):
        if select.select([self.master], [], [], seconds)[0]:
            data = os.read(self.master, 65536)
            self.output += data
            self.stream.feed(data)

    def press(self, keys):
        os.write(self.master, keys.encode())

    def lines(self):
        return [line.rstrip() for line in self.screen.display]

    def wait(self, what):
        """Until a line of the screen matches; the line."""
        end = time.monotonic() + ENDS_SOON
        while time.monotonic() < end:
            for line in self.lines():
                if re.search(what, line):
                    return line
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode} before '{what}'")
            self.read(0.05)
        raise AssertionError("\n".join([f"no '{what}' on the screen:", *self.lines()]))

    def end(self):
        """Its status and standard error, once all it wrote is read."""
        end = time.monotonic() + ENDS_SOON
        while self.process.poll() is None and time.monotonic() < end:
            self.read(0.05)
        self.read(0.05)
        return self.process.wait(timeout=1), self.process.stderr.read().decode()

    def is_as_before(self):
        return termios.tcgetattr(self.slave) == self.before
