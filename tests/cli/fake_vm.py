#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Stands in for utsusu-vm: takes the same arguments, serves the same socket, runs no guest.

What it does is said by the configuration's "cmdline": dump (print the configuration), refuse, die, hang (with a child), crash (once it runs),
deaf (does not hear its power button), or nothing.
"""

import json
import os
import signal
import socket
import sys
import threading

NAME = sys.argv[1]
FDS = {word[2:-len("-fd")]: int(number)
       for word, number in (option.split("=") for option in sys.argv[2:])
       for word in [word]}


def read_config():
    size = os.fstat(FDS["config"]).st_size
    return json.loads(os.pread(FDS["config"], size, 0))


def ready(word):
    if "ready" in FDS:
        os.write(FDS["ready"], word.encode())
        os.close(FDS["ready"])


def end():
    directory = FDS["dir"]
    for name in os.listdir(directory):
        os.unlink(name, dir_fd=directory)
    os.rmdir(NAME, dir_fd=FDS["root"])
    os._exit(0)


class Machine:
    def __init__(self, config):
        self.config = config
        self.state = "running"

    def answer(self, request):
        """(answer, whether the machine ends after it)"""
        command = request["command"]
        status = {"ok": True, "name": NAME, "state": self.state, "pid": os.getpid(), "uptime_ms": 61000}
        if command == "info":
            return dict(status, config=self.config), False
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
    ready("0 ")
    if behaviour == "crash":
        print("its last words", file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)
    while True:
        client, _ = listening.accept()
        threading.Thread(target=machine.serve, args=(client,), daemon=True).start()


main()
