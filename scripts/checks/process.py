# SPDX-License-Identifier: Apache-2.0
"""Children that never outlive the check: started, watched, and ended with all their descendants."""

import ctypes
import os
import signal
import subprocess
import threading
import time

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36

_libc = ctypes.CDLL(None, use_errno=True)


def adopt_descendants():
    """From here on, a descendant that loses its parent becomes our child, so that it can be found.

    Hang-ups and requests to end are the same exception as Ctrl-C, also where a shell's background
    job has Ctrl-C ignored: one way out.
    """
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupted)


def _interrupted(_number, _frame):
    raise KeyboardInterrupt


def _end_with_parent():
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)


def stream(command, show, env=None, timeout=None, silence=None, ask=signal.SIGTERM):
    """Runs to the end and passes each line of output to show() as it comes; returns the status.

    The child has no standard input and a session of its own. One that takes longer than `timeout`
    seconds, or writes nothing for `silence` seconds, is asked to end by the signal `ask`, then forced;
    a last line says so and the status is 124.
    """
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, bufsize=1, text=True, errors="replace",
                             env=dict(os.environ, **(env or {})), start_new_session=True,
                             preexec_fn=_end_with_parent)
    started = time.monotonic()
    heard = [started]
    stopped = []

    def watch():
        while child.poll() is None and not stopped:
            time.sleep(0.2)
            now = time.monotonic()
            if timeout and now - started > timeout:
                stopped.append(f"stopped: it took longer than {timeout} s")
            elif silence and now - heard[0] > silence:
                stopped.append(f"stopped: it said nothing for {silence} s")
        if stopped:
            _end(child, ask)

    threading.Thread(target=watch, daemon=True).start()
    try:
        for line in child.stdout:
            heard[0] = time.monotonic()
            show(line.rstrip("\n"))
        status = child.wait()
        if stopped:
            show(stopped[0])
        return 124 if stopped else status
    finally:
        _end(child, ask)


def run(command, env=None, timeout=None):
    """Runs to the end; (status, output of both streams)."""
    lines = []
    status = stream(command, lines.append, env, timeout)
    return status, "\n".join(lines)


def _end(child, ask=signal.SIGTERM, patience=20):
    """Asks the child's session to end, then forces it."""
    for number, seconds in ((ask, patience), (signal.SIGKILL, 5)):
        if child.poll() is not None:
            return
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + seconds
        while child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)


def sweep():
    """Ends every descendant that is still there; returns their command lines."""
    left = _descendants()
    if left:
        time.sleep(1)   # a process that is about to end gets the time to do so
        left = _descendants()
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
    return sorted(left.values())


def _descendants():
    """Living processes below us, as {pid: command line}."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            children.setdefault(_parent(entry), []).append(int(entry))
    found, queue = {}, [os.getpid()]
    while queue:
        for pid in children.get(queue.pop(), []):
            queue.append(pid)
            found[pid] = _read(f"/proc/{pid}/cmdline").replace("\0", " ").strip()
    # One without a command line has ended and only waits to be reaped.
    return {pid: command for pid, command in found.items() if command}


def _parent(pid):
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return int(fields[1]) if fields else 0


def _read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
