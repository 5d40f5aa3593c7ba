#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Stands in for utsusu-move: takes the same job, says three words over the first stream, and keeps to the order of marks.

What goes wrong is said by STATE/failpoint, which the daemon puts into the job: die (before giving), die-given, die-committed, slow (until
it is cancelled), mute (destination: takes the commit, says nothing). The job is left in STATE/job for the test to look at.
"""

import json
import os
import signal
import socket
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import fake_marks  # noqa: E402  pylint: disable=wrong-import-position

FD = int(sys.argv[1].split("=")[1])
JOB = json.loads(os.pread(FD, os.fstat(FD).st_size, 0))
STREAMS = [socket.socket(fileno=fd) for fd in JOB["streams"]]
VM = socket.socket(fileno=JOB["vm"])
ANSWERS = VM.makefile("r")


def ask(command, **more):
    VM.sendall((json.dumps({"command": command, **more}) + "\n").encode())
    answer = json.loads(ANSWERS.readline())
    assert answer.get("ok"), answer
    return answer


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def tell(**line):
    if "progress" in JOB:
        try:
            os.write(JOB["progress"], (json.dumps(line) + "\n").encode())
        except OSError:
            pass


def hear(stream):
    return stream.recv(1)


def wait_for_cancel():
    os.set_blocking(JOB["progress"], True)
    os.read(JOB["progress"], 100)
    tell(end="cancelled", message=f"{JOB['name']}: the move was cancelled; it runs here as before", status=1)
    sys.exit(1)


def source():
    point = JOB["failpoint"]
    facts = ask("move-facts")
    tell(phase="memory", round=1, sent=1 << 20, left=0, rate=1 << 20, why="the guest runs")
    for index, stream in enumerate(STREAMS):
        stream.sendall(bytes([index]))
    if point == "die":
        die()
    if point == "slow":
        wait_for_cancel()
    os.pwrite(JOB["mark"], fake_marks.given(JOB, facts["uuid"]), 0)
    ask("fake-given", peer=JOB["peer"], token=JOB["token"], generation=JOB["generation"], time=time.time_ns())
    if point == "die-given":
        die()
    STREAMS[0].sendall(b"C")
    if point == "die-committed":
        hear(STREAMS[0])
        die()
    if hear(STREAMS[0]) != b"R":
        tell(end="in-doubt", message=f"{JOB['name']}: not known yet", status=1)
        sys.exit(1)
    ask("move-ran", token=JOB["token"], where=JOB["peer"])
    tell(end="ran", total_ms=1500, down_ms=42, bytes=1 << 20, wire_bytes=1 << 20, rounds=1, streams=len(STREAMS))


def destination():
    for index, stream in enumerate(STREAMS):
        if hear(stream) != bytes([index]):
            sys.exit(1)
    if hear(STREAMS[0]) != b"C":
        sys.exit(1)
    os.pwrite(JOB["mark"], fake_marks.taken(JOB["token"], "ran"), fake_marks.RECORD_BYTES)
    ask("fake-ran")
    if JOB["failpoint"] == "mute":
        sys.exit(1)
    STREAMS[0].sendall(b"R")


def owner():
    ask("protect-begin", session=JOB["token"], peer=JOB["peer"])
    tell(phase="fill-memory", sent=1 << 20, left=0, rate=1 << 20)
    STREAMS[0].sendall(b"H")
    if JOB["failpoint"] == "die":
        die()
    if JOB["failpoint"] == "slow":
        wait_for_cancel()
    assert hear(STREAMS[0]) == b"A"
    ask("protect-gate")
    while ask("protect-facts")["role"] != "protected":
        time.sleep(0.02)
    tell(phase="protected")
    json.loads(ANSWERS.readline())      # protect-off, or the VM's end


def backup():
    ask("backup-begin", session=JOB["token"], peer=JOB["peer"])
    assert hear(STREAMS[0]) == b"H"
    STREAMS[0].sendall(b"A")
    hear(STREAMS[0])


PLACE = os.path.join(os.environ["UTSUSU_STATE_DIR"], "job")
with open(f"{PLACE}.new", "w", encoding="utf-8") as left:
    json.dump(JOB, left)
os.rename(left.name, PLACE)     # who waits for it finds it whole
{"source": source, "destination": destination, "owner": owner, "backup": backup}[JOB["role"]]()
