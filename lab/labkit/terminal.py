# SPDX-License-Identifier: Apache-2.0
"""A command in a machine, on the terminal or the pipes of whoever asked for it."""

import contextlib
import os
import signal
import sys
import termios
import threading
import tty

from .channel import STDERR

CHUNK = 64 * 1024


def _write_all(fd, data):
    while data:
        data = data[os.write(fd, data):]


def _sink(kind, payload):
    try:
        _write_all(2 if kind == STDERR else 1, payload)
    except BrokenPipeError:
        os._exit(141)


@contextlib.contextmanager
def _raw(fd):
    before = termios.tcgetattr(fd)
    tty.setraw(fd)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _window():
    with contextlib.suppress(OSError):
        size = os.get_terminal_size(1)
        return size.lines, size.columns
    return 24, 80


def _forward_input(process):
    while True:
        data = os.read(0, CHUNK)
        if not data:
            process.close_stdin()
            return
        process.write(data)


def run(machine, arguments, with_tty):
    """Returns the exit status as a shell would see it."""
    cwd = os.getcwd()
    env = {"TERM": os.environ.get("TERM", "dumb")} if with_tty else {}
    process = machine.start_command(arguments, tty=with_tty, env=env, sink=_sink, size=_window(),
                                    cwd=cwd if machine.sees(cwd) else None)
    threading.Thread(target=_forward_input, args=(process,), daemon=True).start()
    with contextlib.ExitStack() as stack:
        if with_tty and sys.stdin.isatty():
            stack.enter_context(_raw(0))
            signal.signal(signal.SIGWINCH, lambda *_: process.resize(*_window()))
        status = process.wait()
    return 128 - status if status < 0 else status
