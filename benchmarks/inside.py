#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs in the machine: starts monitors, notes when their guests say what, and measures around it.

Reads one JSON object from standard input and writes one to standard output:

    {"commands": [[...], ...], "until": "regex", "times": 1, "timeout": 60, "entry": true, "memory": 256}
 -> {"start": t, "entry": t or null, "memory": bytes or null,
     "guests": [{"status": "reached", "ended" or "timeout", "lines": [[t, text], ...]}, ...]}

A guest is done when "until" has matched "times" of its lines. Times are seconds of CLOCK_MONOTONIC.
"entry" asks for the moment of the first entry into a guest, by KVM's own tracepoint; "memory" (the MiB
of one guest) for the host memory of all monitors beyond their guests' RAM, when all are done. "request"
is a line for the UNIX socket "socket", sent "after" seconds later; its answer comes back as "reply".
"""

import ctypes
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time

TRACING = "/sys/kernel/tracing"
PR_SET_CHILD_SUBREAPER = 36


class Guest:
    """One monitor's process, and what its guest wrote to the console so far."""

    def __init__(self, command, until, times):
        # Two pipes, no terminal: the monitor takes them as the guest's serial line.
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)
        self.output = self.process.stdout.fileno()
        self.until, self.missing = re.compile(until), times
        self.lines, self._rest, self.status = [], b"", "timeout"

    def read(self):
        """Takes what is there; False when nothing more is to be waited for."""
        data = os.read(self.output, 65536)
        now = time.monotonic()
        *complete, self._rest = (self._rest + data).split(b"\n")
        for line in complete:
            text = line.decode(errors="replace").rstrip("\r")
            self.lines.append([now, text])
            self.missing -= bool(self.until.search(text))
        if self.missing <= 0:
            self.status = "reached"
        elif not data:
            self.status = "ended"
        return self.status == "timeout"


def main():
    order = json.load(sys.stdin)
    # What a monitor leaves behind becomes ours: it is counted, and ended, with the rest.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    if order.get("entry"):
        trace_first_entry()
    result = {"start": time.monotonic(), "entry": None, "memory": None}
    try:
        guests = [Guest(command, order["until"], order.get("times", 1))
                  for command in order["commands"]]
        wait(guests, result["start"] + order.get("timeout", 60))
        if order.get("entry"):
            result["entry"] = first_entry(result["start"])
        if order.get("memory"):
            result["memory"] = memory_beyond(order["memory"])
        if order.get("request") and all(guest.status == "reached" for guest in guests):
            time.sleep(order["after"])
            result["reply"] = ask(order["socket"], order["request"])
    finally:
        end_all()
    result["guests"] = [{"status": guest.status, "lines": guest.lines} for guest in guests]
    json.dump(result, sys.stdout)


def wait(guests, deadline):
    waiting = {guest.output: guest for guest in guests}
    while waiting and time.monotonic() < deadline:
        for output in select.select(list(waiting), [], [], deadline - time.monotonic())[0]:
            if not waiting[output].read():
                del waiting[output]


def ask(path, request):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(path)
        connection.sendall(json.dumps(request).encode() + b"\n")
        with connection.makefile() as answers:
            return json.loads(answers.readline() or '{"error": "no answer"}')


def end_all():
    """Power cuts, until none is left: one that dies may hand us its children."""
    while descendants():
        for pid in descendants():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def descendants():
    found, queue = [], [os.getpid()]
    while queue:
        pid = queue.pop()
        try:
            for task in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{task}/children", encoding="utf-8") as file:
                    children = [int(child) for child in file.read().split()]
                found += children
                queue += children
        except FileNotFoundError:
            pass
    return found


def trace_first_entry():
    """The first kvm_entry is recorded, and turns the trace off by itself."""
    write("tracing_on", "0")
    write("events/kvm/kvm_entry/trigger", "!traceoff:1", may_fail=True)
    write("trace_clock", "mono")
    write("trace", "")
    write("events/kvm/kvm_entry/enable", "1")
    write("events/kvm/kvm_entry/trigger", "traceoff:1")
    write("tracing_on", "1")


def first_entry(start):
    """Seconds of CLOCK_MONOTONIC; None when no guest was entered."""
    with open(f"{TRACING}/trace", encoding="utf-8") as file:
        times = [float(moment) for moment in re.findall(r"(\d+\.\d+): kvm_entry:", file.read())]
    write("events/kvm/kvm_entry/enable", "0")
    return min((moment for moment in times if moment >= start), default=None)


def write(name, text, may_fail=False):
    try:
        with open(f"{TRACING}/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        if not may_fail:
            raise


def memory_beyond(guest_mebibytes):
    """Proportional share of the memory of all monitors' processes, without their guests' RAM.

    The guest's RAM is every mapping of the file named so, and the private one that is as large as the guest.
    """
    total = 0
    for pid in descendants():
        ram = False
        with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as file:
            for line in file:
                if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
                    ram = "guest-ram" in line
                elif line.startswith("Size:"):
                    ram = ram or int(line.split()[1]) == guest_mebibytes * 1024
                elif line.startswith("Pss:") and not ram:
                    total += int(line.split()[1]) * 1024
    return total


if __name__ == "__main__":
    main()
