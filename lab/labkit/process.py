# SPDX-License-Identifier: Apache-2.0
"""Processes of the host: named so that a reused number is not mistaken, tied to their starter."""

import ctypes
import os
import signal
import subprocess
import time

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None, use_errno=True)


def start_time(pid):
    """In clock ticks since boot; None when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return int(stat.read().rpartition(")")[2].split()[19])
    except (OSError, IndexError):
        return None


def identity(pid):
    return {"pid": pid, "start": start_time(pid)}


def _state(who):
    """The letter that /proc shows; None when the process is gone."""
    if not who or who["start"] is None or start_time(who["pid"]) != who["start"]:
        return None
    try:
        with open(f"/proc/{who['pid']}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0]
    except OSError:
        return None


def alive(who):
    return _state(who) not in (None, "Z", "X")


def stopped(who):
    return _state(who) == "T"


def kill(who, number=signal.SIGKILL, wait=True):
    """Kills it if it is still the same process, and waits until it is gone."""
    if not alive(who):
        return
    try:
        os.kill(who["pid"], number)
    except ProcessLookupError:
        return
    deadline = time.monotonic() + 10
    while wait and alive(who) and time.monotonic() < deadline:
        time.sleep(0.005)


def stop(who, timeout=10):
    """Stops it, and waits until all of it stands."""
    os.kill(who["pid"], signal.SIGSTOP)
    deadline = time.monotonic() + timeout
    while alive(who) and not stopped(who) and time.monotonic() < deadline:
        time.sleep(0.002)


def start(command, log, bound, pass_fds=()):
    """Starts a process of a lab. With bound it dies with the thread that started it."""
    starter = os.getpid()

    def before_exec():
        if bound:
            LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != starter:
                os._exit(1)

    with open(log, "ab") as out:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                start_new_session=True, preexec_fn=before_exec,
                                pass_fds=pass_fds)
