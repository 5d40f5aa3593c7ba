#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs in the machine that a VM leaves: has it moved, and notes what goes over the wire meanwhile.

Reads one JSON object from standard input and writes one to standard output. Either a command that moves and ends, or QEMU's
control socket, what to set there first, and where to (nowhere: that is all):

    {"command": [...], "cap": seconds, "until": text of its output}
    {"qmp": PATH, "before": [[COMMAND, {ARGUMENTS}], ...], "uri": URI, "cap": seconds}
 -> {"start": t, "end": t, "finished": bool, "samples": [[t, bytes sent on the wire], ...], "said": text, "until": t of that text}

`until` may be left out. What is not finished after `cap` seconds is cancelled. Times are seconds of CLOCK_MONOTONIC.
"""

import json
import socket
import subprocess
import sys
import tempfile
import time

WIRE = "/sys/class/net/wire0/statistics/tx_bytes"
PAUSE = 0.02


def sent():
    with open(WIRE, encoding="ascii") as file:
        return int(file.read())


class Command:
    """A program that ends when the VM has moved, or could not be."""

    def __init__(self, order):
        self._command = order["command"]
        self._output = tempfile.TemporaryFile()

    def begin(self):
        self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=self._output,
                                         stderr=self._output)

    def ended(self):
        return self._process.poll() is not None

    def finished(self):
        return self._process.poll() == 0

    def cancel(self):
        self._process.terminate()
        self._process.wait()

    def said(self):
        self._output.seek(0)
        return self._output.read().decode(errors="replace")


class Qmp:
    """A migration of QEMU."""

    def __init__(self, order):
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(order["qmp"])
        self._lines = self._socket.makefile("r")
        self._lines.readline()
        self._uri = order["uri"]
        self._execute("qmp_capabilities")
        for command, arguments in order["before"]:
            self._execute(command, **arguments)

    def _execute(self, command, **arguments):
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            answer = json.loads(self._lines.readline())
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def _state(self):
        return self._execute("query-migrate")

    def begin(self):
        self._execute("migrate", uri=self._uri)

    def ended(self):
        return self._state().get("status") in ("completed", "failed", "cancelled")

    def finished(self):
        return self._state().get("status") == "completed"

    def cancel(self):
        self._execute("migrate_cancel")

    def said(self):
        return json.dumps(self._state())


def main():
    order = json.load(sys.stdin)
    mover = Qmp(order) if "qmp" in order else Command(order)
    if "qmp" in order and not order["uri"]:
        return
    start = time.monotonic()
    samples = [[start, sent()]]
    until = None
    mover.begin()
    while not mover.ended() and time.monotonic() - start < order["cap"]:
        time.sleep(PAUSE)
        samples.append([time.monotonic(), sent()])
        if not until and order.get("until") and order["until"] in mover.said():
            until = samples[-1][0]
    end = time.monotonic()
    samples.append([end, sent()])
    result = {"start": start, "end": end, "finished": mover.finished(), "samples": samples, "until": until}
    if not mover.ended():
        mover.cancel()
    json.dump({**result, "said": mover.said()}, sys.stdout)


if __name__ == "__main__":
    main()
