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


class Protection:
    """What the VM's process does about its record, without ever failing: the owner becomes solo; protected when its guard says so."""

    def __init__(self):
        self.me, self.role, self.record, self.wanted = os.urandom(16).hex(), "none", None, None
        self.relay, self.guard, self.peer, self.session = None, None, "", ""

    def facts(self):
        record = self.record or {}
        return {"ok": True, "role": self.role, "mode": record.get("mode", "none"), "generation": record.get("generation", 0),
                "revision": record.get("revision", 0), "session": self.session, "instance": self.me, "gated": self.role == "protected",
                "foreign": self.role == "has-ended", "cut": 7, "acked": 5, "released": 5, "held_items": 2, "held_bytes": 4096,
                "hold_p50_ns": 12_100_000, "hold_p99_ns": 20_000_000, "last_pause_ns": 3_100_000, "pause_p50_ns": 2_900_000,
                "pause_p99_ns": 4_400_000, "pages": 512, "state_len": 65536, "epochs": 7, "relay": bool(self.relay),
                "guard": bool(self.guard), "peer": self.peer, "waits_for": "", "disks": 0}

    def want(self, mode, **more):
        record = self.record or {"revision": 0, "generation": 0}
        self.wanted = {"version": 1, "generation": record["generation"] + 1, "mode": mode, "owner": self.me,
                       "revision": record["revision"], **more}
        self.tell(self.relay, event="arbiter-swap", want=self.wanted)

    @staticmethod
    def tell(client, **line):
        client.sendall((json.dumps(line) + "\n").encode())

    def attach(self, request, client):
        self.relay, self.record = client, request.get("record")
        if self.role in ("none", "has-ended") and self.peer == "":
            mine = not self.record or self.record["owner"] in (self.me, request.get("dead"))
            self.role = "starts" if mine else "has-ended"
            if mine:
                threading.Timer(0.05, self.want, ("solo",)).start()

    def swapped(self, request):
        if request["outcome"] == "won":
            self.record = request["record"]
            self.role = self.record["mode"]

    def command(self, request, client):
        """An answer, or None: it is no such command."""
        command = request["command"]
        if command == "protect-facts":
            return self.facts()
        if command == "protect-check":
            return {"ok": True, "problems": [{"message": f"{NAME}: is the backup of the VM on {self.peer}", "status": 5}]
                    if self.role == "backs-up" else []}
        if command in ("protect-begin", "backup-begin"):
            self.guard, self.peer, self.session = client, request["peer"], request["session"]
            if command == "backup-begin":
                self.role = "backs-up"
            return {"ok": True}
        if command == "protect-gate":
            self.want("protected", backup=self.session)
        elif command == "protect-off":
            self.tell(self.guard, event="protect-off", why="")
            self.want("solo")
        elif command == "arbiter-attach":
            self.attach(request, client)
            return {"ok": True, "instance": self.me}
        elif command == "arbiter-swapped":
            self.swapped(request)
        elif command == "arbiter-stands":
            self.record = request["record"]
        else:
            return None
        return {"ok": True}

    def forget(self, client):
        """Whether the VM ends: a backup is nothing without its guard."""
        if client is self.relay:
            self.relay = None
        if client is not self.guard:
            return False
        self.guard = None
        return self.role == "backs-up"


class Machine:
    def __init__(self, config):
        self.config = config
        self.state = "running"
        self.stage = "arriving" if INCOMING else "idle"
        self.given, self.returned = None, None
        self.protection = Protection()

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
            request = json.loads(line)
            answer, ends = self.protection.command(request, client), False
            if not answer:
                answer, ends = self.answer(request)
            if "id" in request:
                answer["id"] = request["id"]
            client.sendall((json.dumps(answer) + "\n").encode())
            if ends:
                end(self.config.get("cmdline") == "linger")
        if self.protection.forget(client):
            end()


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
