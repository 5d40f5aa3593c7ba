#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a host believes: of another that forgot, of requests that want too much. test_peer_trust.py UTSUSU UTSUSUD

Hosts are those of test_peer.py.
"""

import contextlib
import ctypes
import json
import os
import resource
import select
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
from test_peer import BUSY, HAS_KVM, HOST, USAGE, WAIT, Case, Host, start, wait_until  # noqa: E402  pylint: disable=wrong-import-position

IN_OPEN = 0x20  # inotify(7)


class Peer:
    """Alpha as its owner may change it: its key, and any request."""

    def __init__(self, host, to):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(os.path.join(host.state, "host.crt"), os.path.join(host.state, "host.key"))
        self.stream = context.wrap_socket(socket.create_connection(("127.0.0.1", to.port), WAIT))
        self.lines = self.stream.makefile("r")
        self.greeting = json.loads(self.lines.readline())

    def ask(self, **request):
        self.stream.sendall((json.dumps(request) + "\n").encode())
        return json.loads(self.lines.readline())

    def close(self):
        self.lines.close()
        self.stream.close()


@unittest.skipUnless(HAS_KVM, "needs /dev/kvm: hosts are judged as for a real VM")
class Trust(Case):
    def setUp(self):
        super().setUp()
        self.introduce()

    def move_in_doubt(self):
        """It runs on beta, and alpha could not hear it."""
        start(self.alpha)
        self.alpha.break_at("die-committed")
        self.beta.break_at("mute")
        real = os.path.join(self.alpha.bin, "utsusu-move")
        os.rename(real, real + "-real")
        with open(real, "w", encoding="utf-8") as file:
            # Its daemon goes in the moment in which it would be asked.
            file.write(f"#!/bin/sh\nkill {self.beta.daemon.pid}\nexec {real}-real \"$@\"\n")
        os.chmod(real, 0o755)
        self.alpha.utsusu("move", "web", "beta")
        self.beta.daemon.wait(WAIT)
        self.assertEqual(self.alpha.says("resolve", "web")["state"], "doubt")
        wait_until(lambda: "web: from alpha: runs here" in self.beta.logged(), "it does not run there")

    def test_a_host_that_forgot_is_not_believed(self):
        self.move_in_doubt()
        shutil.rmtree(os.path.join(self.beta.state, "taken"))
        self.beta.start()
        wait_until(lambda: "does not know this move" in self.alpha.logged(), "it is not asked")
        answer = self.alpha.says("resolve", "web")
        self.assertEqual((answer["state"], answer["here"]["given"]), ("doubt", "open"))
        self.assertIn("does not know this move", answer["there"]["error"])
        self.assertEqual(self.beta.states(), {"web": "running"})
        # Nobody can answer any more: a person can.
        self.good(self.alpha, "resolve", "web", "--declare-lost-here")
        wait_until(lambda: self.alpha.states() == {}, "it stands here still")

    def stop_between(self, command):
        """Stopped when it has read the marks and has not claimed its name: True; or it was faster."""
        libc = ctypes.CDLL(None, use_errno=True)
        watch = libc.inotify_init1(os.O_NONBLOCK)
        libc.inotify_add_watch(watch, os.path.join(self.alpha.state, "arrivals").encode(), IN_OPEN)
        self.running = self.alpha.background(*command)
        select.select([watch], [], [], WAIT)
        self.running.send_signal(signal.SIGSTOP)
        os.close(watch)
        return "web" not in os.listdir(self.alpha.runtime)

    def test_a_vm_that_leaves_while_it_is_started_anew(self):
        start(self.alpha)           # makes its kernel, and the folders of marks
        self.good(self.alpha, "stop", "web", "--force")
        wait_until(lambda: self.alpha.states() == {}, "it does not end")
        command = ["run", "web", "--kernel", os.path.join(self.alpha.folder, "vmlinuz"), "--memory", "64M", "--detach"]
        for i in range(6):
            disk = os.path.join(self.alpha.folder, f"disk{i}")
            with open(disk, "wb") as file:
                file.truncate(1 << 20)
            command += ["--disk", f"path={disk}"]
        for _ in range(20):
            if self.stop_between(command):
                break
            self.running.send_signal(signal.SIGCONT)
            self.running.communicate(timeout=WAIT)
            self.good(self.alpha, "stop", "web", "--force")
            wait_until(lambda: self.alpha.states() == {}, "it does not end")
        else:
            self.skipTest("this machine is too fast to be stopped in time")
        job = {"name": "web", "generation": 1, "token": "ab" * 16, "peer": "beta"}
        with open(os.path.join(self.alpha.state, "given", "web"), "wb") as file:
            file.write(fake_marks.given(job, "11111111-2222-4333-8444-555555555555", "ran"))
        self.running.send_signal(signal.SIGCONT)
        _, errors = self.running.communicate(timeout=WAIT)
        self.assertEqual(self.running.returncode, BUSY, errors)
        self.assertIn("moved to beta and lives there", errors)
        self.assertEqual(self.alpha.states(), {})

    def test_a_note_that_cannot_be_read_is_no_leave_to_run(self):
        """It says whether a VM that was to come did, and only there."""
        start(self.alpha)
        self.alpha.break_at("die")
        self.alpha.utsusu("move", "web", "beta")
        wait_until(lambda: self.beta.states() == {}, "it is left there")
        note = os.path.join(self.beta.state, "arrivals", "web")
        os.truncate(note, os.path.getsize(note) - 1)
        self.bad(BUSY, "was to come here from another host", self.beta, "run", "web", "--kernel", self.alpha.config)
        self.good(self.beta, "resolve", "web", "--run-here")
        start(self.beta)

    def test_a_note_that_cannot_be_read_lets_nobody_in(self):
        """It may know of a later owner than the one that asks."""
        start(self.alpha)
        self.good(self.alpha, "move", "web", "beta")
        wait_until(lambda: self.alpha.states() == {}, "it is left where it was")
        note = os.path.join(self.beta.state, "arrivals", "web")
        os.truncate(note, os.path.getsize(note) - 1)
        self.bad(HOST, "notes of its former owners cannot be read", self.beta, "move", "web", "alpha", "--check")
        self.good(self.beta, "stop", "web", "--force")
        wait_until(lambda: self.beta.states() == {}, "it does not end")
        self.good(self.alpha, "resolve", "web", "--run-here")
        start(self.alpha)
        self.bad(HOST, "notes of its former owners cannot be read", self.alpha, "move", "web", "beta")
        self.good(self.beta, "resolve", "web", "--run-here")
        self.good(self.alpha, "move", "web", "beta")

    def test_a_vm_that_lives_elsewhere_keeps_its_name(self):
        """One that comes under it would end the only word of where that one lives."""
        start(self.alpha)
        job = {"name": "web", "generation": 1, "token": "ab" * 16, "peer": "gamma"}
        mark = os.path.join(self.beta.state, "given", "web")
        os.makedirs(os.path.dirname(mark), mode=0o700, exist_ok=True)
        with open(mark, "wb") as file:
            file.write(fake_marks.given(job, "11111111-2222-4333-8444-555555555555", "ran"))
        self.bad(BUSY, "another VM of this name moved from this host to gamma", self.alpha, "move", "web", "beta")
        self.bad(BUSY, "moved to gamma and lives there", self.beta, "run", "web", "--kernel", self.alpha.config)
        self.assertEqual(self.alpha.states(), {"web": "running"})
        self.good(self.beta, "resolve", "web", "--run-here")
        self.good(self.alpha, "move", "web", "beta")
        wait_until(lambda: self.alpha.states() == {}, "it is left where it was")

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

    def look_back(self):
        """Beta's tokens are old, and it looks which of them it may forget: those that it keeps."""
        folder = os.path.join(self.beta.state, "sources")
        self.beta.stop()
        for name in os.listdir(folder):
            os.utime(os.path.join(folder, name), (1, 1))
        self.beta.start()
        pid = self.beta.daemon.pid
        self.good(self.beta, "peer", "show")    # of a later turn than the one in which it began to look
        wait_until(lambda: self.processes_of(self.beta) == [pid], "it looks for too long")
        return os.listdir(os.path.join(self.beta.state, "taken"))

    def processes_of(self, host):
        """Its daemon, and what that is doing now."""
        found = []
        for pid in self.processes_with("utsusud"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
                if host.bin.encode() in file.read():
                    found.append(pid)
        return found

    def test_a_result_is_kept_while_somebody_may_ask(self):
        self.move_in_doubt()
        token = self.alpha.job()["token"]
        self.alpha.stop()                       # it asks nothing, and answers nothing
        self.assertEqual(self.look_back(), [token])
        self.alpha.start()
        wait_until(lambda: self.alpha.says("resolve", "web")["state"] == "there", "it is not settled")
        wait_until(lambda: self.alpha.states() == {}, "it stands here still")
        # Now it is known there, durably. What hangs on the result besides is settled first: a copied disk is whole.
        copy = os.path.join(self.beta.state, "copies", "own")
        os.makedirs(os.path.dirname(copy), mode=0o700, exist_ok=True)
        with open(copy, "w", encoding="utf-8") as file:
            json.dump({"vm": "web", "source": "alpha", "token": token, "device": False, "number": 1, "inode": 2}, file)
        self.assertEqual(self.look_back(), [])
        self.assertEqual(os.listdir(os.path.join(self.beta.state, "sources")), [])
        self.assertFalse(os.path.exists(copy))
        # What it said is known all the same.
        self.good(self.beta, "stop", "web", "--force")
        wait_until(lambda: self.beta.states() == {}, "it does not end")
        start(self.beta)

    def test_a_doubt_keeps_the_result(self):
        """Alpha answers: its mark is open, because its VM cannot be told."""
        self.move_in_doubt()
        token = self.alpha.job()["token"]
        place, aside = os.path.join(self.alpha.runtime, "web"), os.path.join(self.alpha.folder, "aside")
        os.rename(place, aside)
        with open(place, "wb"):
            pass
        try:
            self.assertEqual(self.look_back(), [token])
        finally:
            os.unlink(place)
            os.rename(aside, place)
        wait_until(lambda: self.alpha.states() == {}, "it is not settled")

    def test_a_move_that_is_at_work_keeps_the_result(self):
        start(self.alpha)
        self.alpha.break_at("slow")
        moving = self.alpha.background("move", "web", "beta")
        wait_until(lambda: os.path.exists(os.path.join(self.alpha.state, "job")), "no move")
        self.beta.stop()
        os.utime(os.path.join(self.beta.state, "sources", self.alpha.job()["token"]), (1, 1))
        self.beta.start()
        peer = Peer(self.beta, self.alpha)
        self.assertTrue(peer.ask(command="still", name="web", token=self.alpha.job()["token"])["open"])
        moving.send_signal(signal.SIGINT)
        moving.communicate(timeout=WAIT)
        wait_until(lambda: not peer.ask(command="still", name="web", token=self.alpha.job()["token"])["open"],
                   "it is open still")
        peer.close()
        wait_until(lambda: self.beta.states() == {}, "it is left there")

    def test_a_former_vm_of_a_name_stays_known(self):
        """Another came under it: an old copy of the first is an old copy all the same."""
        uuid = "11111111-2222-4333-8444-555555555555"
        start(self.alpha, "--uuid", uuid)
        for host, to in ((self.alpha, self.beta), (self.beta, self.alpha), (self.alpha, self.beta)):
            self.good(host, "move", "web", to.name)
            wait_until(lambda host=host: host.states() == {}, "it is left where it was")
        self.good(self.beta, "stop", "web", "--force")
        wait_until(lambda: self.beta.states() == {}, "it does not end")
        self.good(self.alpha, "resolve", "web", "--run-here")
        start(self.alpha)
        self.good(self.alpha, "move", "web", "beta")
        wait_until(lambda: self.alpha.states() == {}, "it is left where it was")
        machine = self.machine(dict(self.config_of(self.beta), name="other", uuid=uuid))
        peer = Peer(self.alpha, self.beta)
        for generation, stale in ((3, True), (4, False)):
            answer = peer.ask(command="check", machine=dict(machine, generation=generation))
            self.assertEqual("a later owner" in json.dumps(answer), stale, (generation, answer))
        peer.close()

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

    def test_no_address_has_many_strangers(self):
        with contextlib.ExitStack() as strangers:
            for _ in range(200):
                one = strangers.enter_context(socket.create_connection(("127.0.0.1", self.beta.port), WAIT, ("127.0.0.2", 0)))
                with contextlib.suppress(OSError):
                    one.sendall(b"\x16\x03\x01")   # as if it began to say who it is
                if "from one address" in self.beta.logged():
                    break
            wait_until(lambda: "from one address" in self.beta.logged(), "it may have any number")

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
        self.addCleanup(lambda: [one.close() for one in (listening, *kept)])
        return asked

    def mark(self, name, token, peer):
        job = {"name": name, "generation": 1, "token": token, "peer": peer}
        with open(os.path.join(self.alpha.state, "given", name), "wb") as file:
            file.write(fake_marks.given(job, "11111111-2222-4333-8444-555555555555"))

    def test_a_silent_host_keeps_no_other_waiting(self):
        gamma = Host(self.work, "gamma")
        gamma.init()
        gamma.start()
        self.hosts += (gamma,)
        for host, other in ((self.alpha, gamma), (gamma, self.alpha)):
            self.good(host, "peer", "add", other.name, f"127.0.0.1:{other.port}", "--fingerprint", other.fingerprint)
        start(self.alpha)
        self.good(self.alpha, "move", "web", "gamma")       # makes the folders of marks
        wait_until(lambda: self.alpha.states() == {}, "it is left where it was")
        self.alpha.stop()
        self.beta.stop()
        asked = self.silent_host(self.beta)
        for i in range(20):             # whichever order they are found in, some stand before the other
            self.mark(f"lost{i}", f"{i:032x}", "beta")
        token = "cd" * 16
        with open(os.path.join(gamma.state, "taken", token), "wb") as file:
            file.write(fake_marks.taken(token, "prepared") + fake_marks.taken(token, "never"))
        self.mark("found", token, "gamma")
        self.alpha.start()
        wait_until(lambda: not os.path.exists(os.path.join(self.alpha.state, "given", "found")), "it is not settled", 20)
        self.assertLessEqual(len(asked), 1, "the silent one was waited for")
        self.alpha.stop()
        for i in range(20):
            os.unlink(os.path.join(self.alpha.state, "given", f"lost{i}"))
        wait_until(lambda: self.processes_with("utsusud") == [gamma.daemon.pid], "it waits still")

    def test_a_vm_that_went_on_has_not_ended(self):
        gamma = Host(self.work, "gamma")
        gamma.init()
        gamma.start()
        self.hosts += (gamma,)
        for host, other in ((self.beta, gamma), (gamma, self.beta)):
            self.good(host, "peer", "add", other.name, f"127.0.0.1:{other.port}", "--fingerprint", other.fingerprint)
        start(self.alpha)
        for host, to in ((self.alpha, self.beta), (self.beta, gamma)):
            self.good(host, "move", "web", to.name)
            wait_until(lambda host=host: host.states() == {}, "it is left where it was")
        self.assertNotIn("has ended", self.good(self.alpha, "resolve", "web").stdout)
        self.bad(USAGE, "beta answers (ran)", self.alpha, "resolve", "web", "--run-here")
        self.assertEqual(gamma.states(), {"web": "running"})

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

    def processes_with(self, word):
        found = []
        for pid in self.processes():
            with contextlib.suppress(OSError), open(f"/proc/{pid}/comm", encoding="ascii") as file:
                if word in file.read():
                    found.append(pid)
        return found

    def config_of(self, host):
        config = host.says("info", "web")["config"]
        for key in ("kernel", "initrd"):
            config.pop(key, None)
        return config

    def machine(self, config):
        return {"config": config, "version_min": 1, "version": 1, "streams": 1, "generation": 1,
                "kernel": {"sha256": "ab" * 32, "size": 6}}

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
