#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Stands in for utsusu-vm: takes the same arguments, serves the same socket, runs no guest.

What it does is said by the configuration's "cmdline": dump (print the configuration), refuse, die, hang (with a child), crash (once it runs),
deaf (does not hear its power button), linger (its name is held for a moment after its end), fixed (does not want to move), or nothing. With --incoming it waits for fake_move.py, which also does
the guest's part of a move.
"""

import json
import os
import signal
import socket
import struct
import sys
import threading
import time

NAME = sys.argv[1]
FDS = {word[2:-len("-fd")]: int(number)
       for word, number in (option.split("=") for option in sys.argv[2:] if "=" in option)
       for word in [word]}
INCOMING = "--incoming" in sys.argv


def read_config():
    size = os.fstat(FDS["config"]).st_size
    return json.loads(os.pread(FDS["config"], size, 0))


def ready(word):
    if "ready" in FDS:
        os.write(FDS["ready"], word.encode())
        os.close(FDS["ready"])


def end(linger=False):
    directory = FDS["dir"]
    if linger:
        os.unlink("socket", dir_fd=directory)
        if os.fork():
            os._exit(0)
        time.sleep(0.5)
    for name in sorted(os.listdir(directory), key="lock".__eq__):   # that one last: without it this one is gone for others
        os.unlink(name, dir_fd=directory)
    os.rmdir(NAME, dir_fd=FDS["root"])
    os._exit(0)


class Machine:
    def __init__(self, config):
        self.config = config
        self.state = "running"
        self.stage = "arriving" if INCOMING else "idle"
        self.given, self.returned = None, None

    def facts(self):
        size = 64 << 20
        given = {"given": self.given} if self.stage == "given" else {}
        return {"ok": True, "name": NAME, **given, "uuid": self.config["uuid"], "config": self.config, "ram_bytes": size,
                "hugepages": "thp", "banks": [{"start": 0, "len": size, "offset": 0}], "stage": self.stage,
                "state_min": 1, "state_max": 2}

    def move(self, request):
        """Commands of a move; None: it is none."""
        if not request["command"].startswith(("move-", "fake-")):
            return None
        import fake_marks  # pylint: disable=import-outside-toplevel  (beside this file only where VMs move)
        command = request["command"]
        if command == "move-facts":
            return self.facts(), False
        if command == "move-check":
            fixed = [{"message": "cpus: this one stays; run it with another", "status": 3}]
            return {"ok": True, "problems": fixed if self.config.get("cmdline") == "fixed" else []}, False
        if command == "fake-given":
            self.stage, self.given = "given", {key: request[key] for key in ("peer", "token", "generation", "time")}
            return {"ok": True}, False
        if command == "fake-ran":
            self.stage = "ran"
            return {"ok": True}, False
        if command == "move-never":
            if self.returned == request["token"]:       # told twice
                return {"ok": True}, False
            if self.stage != "given" or self.given["token"] != request["token"]:
                return {"error": {"message": f"{NAME}: is not given away by a move with this token", "status": 1}}, False
            self.stage, self.returned = "idle", request["token"]
            fake_marks.take_back(NAME)
            return {"ok": True}, False
        if command == "move-ran":
            fake_marks.settle(NAME, "ran")
            return {"ok": True}, True
        return None

    def answer(self, request):
        """(answer, whether the machine ends after it)"""
        command = request["command"]
        status = {"ok": True, "name": NAME, "state": self.state, "pid": os.getpid(), "uptime_ms": 61000}
        if command == "info":
            return dict(status, config=self.config, memory_populated=1 << 20), False
        if moved := self.move(request):
            return moved
        if command == "status":
            return status, False
        if command in ("pause", "resume"):
            self.state = "paused" if command == "pause" else "running"
            return {"ok": True}, False
        if command == "stop":
            deaf = self.config.get("cmdline") == "deaf"
            if deaf and not request["force"]:
                threading.Timer(int(request["timeout"][:-2]) / 1000, end).start()
            return {"ok": True, "button": not deaf}, request["force"] or not deaf
        return {"error": {"message": f"command: '{command}' is unknown", "status": 2}}, False

    def serve(self, client):
        for line in client.makefile("r"):
            answer, ends = self.answer(json.loads(line))
            client.sendall((json.dumps(answer) + "\n").encode())
            if ends:
                end(self.config.get("cmdline") == "linger")


def listen(name):
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(f"/proc/self/fd/{FDS['dir']}/{name}")
    listening.listen()
    return listening


def serve_console(listening):
    while True:
        client, _ = listening.accept()
        client.sendall(b"login: ")
        while data := client.recv(100):
            client.sendall(data.upper())


def serve_keeper(listening):
    """host/keeper.h: a number comes, a result goes with the file of RAM."""
    ram = os.memfd_create("ram")
    os.ftruncate(ram, 64 << 20)
    while True:
        client, _ = listening.accept()
        client.recv(4)
        socket.send_fds(client, [struct.pack("i", 0)], [ram])
        client.close()


def main():
    config = read_config()
    behaviour = config.get("cmdline", "")
    if behaviour == "dump":
        print(json.dumps(config))
        end()
    if behaviour == "refuse":
        ready("7 guest: cannot boot; give another kernel")
        end()
    if behaviour == "hang":
        if os.fork() == 0:
            signal.pause()
        os.wait()
    if behaviour == "die":
        print("its last words", file=sys.stderr)
        sys.exit(1)
    machine, listening, console = Machine(config), listen("socket"), listen("console")
    threading.Thread(target=serve_console, args=(console,), daemon=True).start()
    threading.Thread(target=serve_keeper, args=(listen("keeper"),), daemon=True).start()
    ready("0 ")
    if behaviour == "crash":
        print("its last words", file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)
    while True:
        client, _ = listening.accept()
        threading.Thread(target=machine.serve, args=(client,), daemon=True).start()


main()
