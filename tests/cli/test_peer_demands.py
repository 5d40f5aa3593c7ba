#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What others may demand of a host: its places, its time, its disk, its rights. test_peer_demands.py UTSUSU UTSUSUD

Hosts are those of peer_hosts.py.
"""

import contextlib
import json
import os
import resource
import shutil
import signal
import socket
import ssl
import sys
import threading
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import fake_marks  # noqa: E402  pylint: disable=wrong-import-position
from peer_hosts import WAIT, Known, Peer, start, wait_until  # noqa: E402  pylint: disable=wrong-import-position


class Demands(Known):
    def test_strangers_leave_room_for_peers(self):
        start(self.alpha)
        with contextlib.ExitStack() as strangers:
            for _ in range(100):
                strangers.enter_context(socket.create_connection(("127.0.0.1", self.beta.port), WAIT))
            self.good(self.alpha, "move", "web", "beta", "--check")
            self.assertIn("the oldest was closed", self.beta.logged())
            # Whoever is known is none of them, however long it lasts.
            self.alpha.break_at("slow")
            moving = self.alpha.background("move", "web", "beta")
            wait_until(lambda: os.path.exists(os.path.join(self.alpha.state, "job")), "no move")
            for _ in range(100):
                strangers.enter_context(socket.create_connection(("127.0.0.1", self.beta.port), WAIT))
            moving.send_signal(signal.SIGINT)
            self.assertIn("the move was cancelled", moving.communicate(timeout=WAIT)[1])
            wait_until(lambda: "web: from alpha: did not come" in self.beta.logged(), "its handler was killed")
        wait_until(lambda: self.beta.states() == {}, "it is left there")

    def test_no_address_has_many_strangers(self):
        with contextlib.ExitStack() as strangers:
            for _ in range(200):
                one = strangers.enter_context(socket.create_connection(("127.0.0.1", self.beta.port), WAIT, ("127.0.0.2", 0)))
                with contextlib.suppress(OSError):
                    one.sendall(b"\x16\x03\x01")   # as if it began to say who it is
                if "from one address" in self.beta.logged():
                    break
            wait_until(lambda: "from one address" in self.beta.logged(), "it may have any number")

    @contextlib.contextmanager
    def silent_host(self, host):
        """In place of its daemon: proves who it is, and answers nothing. A list of what was asked of it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(os.path.join(host.state, "host.crt"), os.path.join(host.state, "host.key"))
        asked, kept = [], []

        def serve(listening):
            while True:
                try:
                    one = context.wrap_socket(listening.accept()[0], server_side=True)
                    one.sendall(b'{"utsusu": "0.1.0", "host": "silent"}\n')
                    asked.append(one.recv(4096))
                    kept.append(one)
                except OSError:
                    return

        listening = socket.create_server(("127.0.0.1", host.port))
        threading.Thread(target=serve, args=(listening,), daemon=True).start()
        try:
            yield asked
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            for one in (listening, *kept):
                one.close()

    def mark(self, name, token, peer):
        job = {"name": name, "generation": 1, "token": token, "peer": peer}
        with open(os.path.join(self.alpha.state, "given", name), "wb") as file:
            file.write(fake_marks.given(job, "11111111-2222-4333-8444-555555555555"))

    def test_a_silent_host_keeps_no_other_waiting(self):
        gamma = self.third_host(self.alpha)
        start(self.alpha)
        self.good(self.alpha, "move", "web", "gamma")       # makes the folders of marks
        wait_until(lambda: self.alpha.states() == {}, "it is left where it was")
        self.alpha.stop()
        self.beta.stop()
        for i in range(20):             # whichever order they are found in, some stand before the other
            self.mark(f"lost{i}", f"{i:032x}", "beta")
        token = "cd" * 16
        with open(os.path.join(gamma.state, "taken", token), "wb") as file:
            file.write(fake_marks.taken(token, "prepared") + fake_marks.taken(token, "never"))
        self.mark("found", token, "gamma")
        with self.silent_host(self.beta) as asked:
            self.alpha.start()
            wait_until(lambda: not os.path.exists(os.path.join(self.alpha.state, "given", "found")), "it is not settled", 20)
            self.assertLessEqual(len(asked), 1, "the silent one was waited for")
            self.alpha.stop()
            for i in range(20):
                os.unlink(os.path.join(self.alpha.state, "given", f"lost{i}"))
        wait_until(lambda: self.processes_with("utsusud") == [gamma.daemon.pid], "it waits still")

    def slow_there(self):
        """A place for a VM takes beta three seconds."""
        real = os.path.join(self.beta.bin, "utsusu-vm")
        os.rename(real, real + "-real.py")
        with open(real, "w", encoding="utf-8") as file:
            file.write(f"#!/bin/sh\nsleep 3\nexec {real}-real.py \"$@\"\n")
        os.chmod(real, 0o755)

    def test_waiting_costs_nothing(self):
        start(self.alpha)
        self.slow_there()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.good(self.alpha, "move", "web", "beta", "--detach")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        self.assertLess(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 0.5)
        wait_until(lambda: self.alpha.states() == {}, "it is left where it was")

    def test_who_waits_can_always_leave(self):
        start(self.alpha)
        self.alpha.break_at("slow")
        moving = self.alpha.background("move", "web", "beta")
        wait_until(lambda: os.path.exists(os.path.join(self.alpha.state, "job")), "no move")
        frozen = self.processes_with("utsusu-move") + self.processes_with("utsusud")
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)
        try:
            moving.send_signal(signal.SIGINT)
            said = next((line for line in moving.stderr if "once more to leave" in line), None)
            self.assertIsNotNone(said, "it ended")
            self.assertIsNone(moving.poll())
            moving.send_signal(signal.SIGINT)
            self.assertEqual(moving.wait(WAIT), -signal.SIGINT)
        finally:
            moving.kill()
            moving.communicate(timeout=WAIT)
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)
        wait_until(lambda: self.beta.states() == {}, "it is left there")

    def test_files_are_kept_by_their_last_use(self):
        start(self.alpha)
        folder = os.path.join(self.beta.state, "files")
        os.makedirs(folder, mode=0o700)
        for age in range(1, 5):
            path = os.path.join(folder, f"{age:064x}")
            with open(path, "wb") as file:
                file.write(b"123456")
            os.utime(path, (time.time() - 3600 * age, time.time() - 3600 * age))
        self.beta.lists(moves={"kept_files": "20"})
        # The oldest of them is a VM's.
        self.good(self.beta, "run", "used", "--kernel", os.path.join(folder, f"{4:064x}"), "--memory", "64M", "--detach")
        self.good(self.alpha, "move", "web", "beta")
        left = sorted(int(name, 16) for name in os.listdir(folder) if int(name, 16) < 5)
        self.assertEqual(left, [1, 2, 3, 4])
        self.beta.lists(moves={"kept_files": "12"})
        self.good(self.beta, "move", "web", "alpha")
        wait_until(lambda: self.beta.states() == {"used": "running"}, "it is left where it was")
        self.good(self.alpha, "move", "web", "beta")
        left = sorted(int(name, 16) for name in os.listdir(folder) if int(name, 16) < 5)
        self.assertEqual(left, [1, 4])

    def judged(self, **changes):
        config = dict(self.config_of(self.alpha), name="other", **changes)
        peer = Peer(self.alpha, self.beta)
        answer = peer.ask(command="check", machine=self.machine(config))
        peer.close()
        return [problem["message"] for problem in answer["problems"]]

    def test_a_peer_cannot_open_the_sandbox(self):
        start(self.alpha)
        self.assertEqual(self.judged(uuid="11111111-2222-4333-8444-555555555555"), [])
        problems = self.judged(uuid="11111111-2222-4333-8444-555555555555", sandbox=False)
        self.assertEqual(len(problems), 1, problems)
        self.assertIn("sandbox", problems[0])

    def test_a_reservation_that_fails_ends_the_connection(self):
        """Asked again it would make another socket, and another."""
        start(self.alpha)
        machine = self.machine(dict(self.config_of(self.alpha), name="other", uuid="11111111-2222-4333-8444-555555555555"))
        peer = Peer(self.alpha, self.beta)
        self.assertEqual(peer.ask(command="check", machine=machine)["problems"], [])
        shutil.rmtree(os.path.join(self.beta.state, "taken"))
        self.assertIn("marks of moves", peer.ask(command="reserve", machine=machine)["error"]["message"])
        peer.stream.settimeout(5)
        self.assertEqual(peer.lines.readline(), "")
        peer.close()
        wait_until(lambda: self.left() == ["web"], "its socket is left")    # the VM that runs on alpha

    def test_a_vm_without_uuid_is_nobodys(self):
        start(self.alpha)
        config = self.config_of(self.alpha)
        del config["uuid"]
        peer = Peer(self.alpha, self.beta)
        answer = peer.ask(command="check", machine=self.machine(dict(config, name="other")))
        peer.close()
        self.assertIn("not whole", json.dumps(answer))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
