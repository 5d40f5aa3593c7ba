#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What a host believes, of another that forgot and of its own notes; how long it keeps what it knows. test_peer_trust.py UTSUSU UTSUSUD

Hosts are those of peer_hosts.py.
"""

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import fake_marks  # noqa: E402  pylint: disable=wrong-import-position
from peer_hosts import BUSY, HOST, USAGE, WAIT, Known, Peer, start, wait_until  # noqa: E402  pylint: disable=wrong-import-position

IN_OPEN = 0x20  # inotify(7)


class Trust(Known):
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

    def test_a_vm_that_went_on_has_not_ended(self):
        gamma = self.third_host(self.beta)
        start(self.alpha)
        for host, to in ((self.alpha, self.beta), (self.beta, gamma)):
            self.good(host, "move", "web", to.name)
            wait_until(lambda host=host: host.states() == {}, "it is left where it was")
        self.assertNotIn("has ended", self.good(self.alpha, "resolve", "web").stdout)
        self.bad(USAGE, "beta answers (ran)", self.alpha, "resolve", "web", "--run-here")
        self.assertEqual(gamma.states(), {"web": "running"})


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
