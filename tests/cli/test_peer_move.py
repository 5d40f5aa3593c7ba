#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Moves that succeed, and those that fail while the VM is still its source's. test_peer_move.py UTSUSU UTSUSUD

Hosts are those of peer_hosts.py.
"""

import fcntl
import os
import signal
import struct
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from peer_hosts import BUSY, FAILED, NOT_FOUND, RESOURCE, USAGE, WAIT, Known, start, wait_until  # noqa: E402  pylint: disable=wrong-import-position


class Move(Known):
    def test_a_move_and_back(self):
        start(self.alpha)
        done = self.good(self.alpha, "move", "web", "beta", "--streams", "3")
        self.assertIn("web runs on beta: 1.5 s in all, 42 ms standing still", done.stdout)
        self.lives_on(self.beta)
        here, there = self.alpha.job(), self.beta.job()
        self.assertEqual((here["role"], there["role"], here["told"]), ("source", "destination", True))
        self.assertEqual((len(here["streams"]), len(there["streams"])), (3, 3))
        self.assertEqual((here["token"], here["key"], here["generation"]), (there["token"], there["key"], 1))
        self.assertEqual(self.given(self.alpha)["result"], "ran")
        self.bad(BUSY, "moved to beta and lives there", self.alpha, "run", "web", "--kernel",
                 os.path.join(self.alpha.folder, "vmlinuz"), "--detach")
        self.bad(NOT_FOUND, "moved to beta and lives there", self.alpha, "info", "web")
        # Its kernel came with it, and stays what it is.
        config = self.beta.says("info", "web")["config"]
        with open(config["kernel"], "rb") as file:
            self.assertEqual(file.read(), b"kernel")
        self.good(self.beta, "move", "web", "alpha")
        self.lives_on(self.alpha)
        self.assertEqual((self.beta.job()["generation"], self.alpha.job()["known"]), (2, 1))
        self.assertNotEqual(self.beta.job()["key"], here["key"])
        self.assertEqual(self.alpha.says("resolve", "web")["state"], "here")
        self.good(self.alpha, "move", "web", "beta")
        self.assertEqual(self.alpha.job()["generation"], 3)

    def test_another_vm_of_the_same_name(self):
        """What is known of the one says nothing about the other: they have their own UUIDs."""
        for _ in range(2):
            start(self.alpha)
            self.good(self.alpha, "move", "web", "beta")
            self.lives_on(self.beta)
            self.good(self.beta, "move", "web", "alpha")
            self.lives_on(self.alpha)
            self.good(self.alpha, "stop", "web", "--force")
        start(self.alpha)
        self.good(self.alpha, "move", "web", "beta")
        self.assertEqual(self.alpha.job()["generation"], 1)
        self.bad(BUSY, "moved to beta and lives there", self.alpha, "run", "web", "--kernel",
                 os.path.join(self.alpha.folder, "vmlinuz"))

    def test_the_line_on_a_terminal(self):
        start(self.alpha)
        status, shown = self.alpha.on_terminal(b"", "move", "web", "beta")
        self.assertEqual(status, 0, shown)
        self.assertIn("\r\x1b[Kweb: memory 100 %, 1 MB/s: the guest runs", shown)
        self.assertTrue(shown.endswith("1 rounds\r\n"), shown)

    def test_local_disks_are_copied_where_the_list_allows_it(self):
        here, there = (os.path.join(self.work, f"disk-{host.name}") for host in self.hosts)
        for path in here, there:
            with open(path, "wb") as file:
                file.truncate(1 << 20)
        move = self.alpha, "move", "web", "beta"
        own = {"path": there, "copy": True}
        with open(here, "r+b") as lock:     # as the VM would have it, which the fake does not
            start(self.alpha, "--disk", f"path={here}")
            fcntl.fcntl(lock, fcntl.F_OFD_SETLK, struct.pack("hhqqixxxx", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
            self.alpha.lists(disks={"own": {"path": here}})
            self.beta.lists(disks={"own": {"path": there}})
            self.bad(RESOURCE, '"copy": true', *move, "--copy-disks")
            self.beta.lists(disks={"own": own})
            self.bad(RESOURCE, "utsusu move --copy-disks", *move)
            self.assertIn("disk own: is copied: 0 MiB of 1 MiB",
                          self.good(*move, "--copy-disks", "--check").stderr)
            with open(there, "r+b") as file:
                file.write(b"something")
            self.bad(RESOURCE, '"overwrite": true', *move, "--copy-disks")
            self.beta.lists(disks={"own": {**own, "overwrite": True}})
            self.alpha.break_at("die")
            self.bad(FAILED, "its mover was killed", *move, "--copy-disks")
            wait_until(lambda: self.beta.states() == {}, "it is left there")
            # What is left there is noted, is no disk for a VM, and may be written over by the next.
            self.assertEqual(os.listdir(os.path.join(self.beta.state, "copies")), ["own"])
            self.bad(RESOURCE, "part of a copy of web's disk from alpha", self.beta, "run", "other", "--kernel",
                     "/dev/null", "--disk", f"path={there}", "--check")
            self.beta.lists(disks={"own": own})
            self.alpha.break_at("")
            self.good(*move, "--copy-disks")
            self.assertEqual([disk[0] for disk in self.alpha.job()["disks"]], [0])
            self.assertEqual([disk[0] for disk in self.beta.job()["disks"]], [0])
        wait_until(lambda: os.listdir(os.path.join(self.beta.state, "copies")) == [], "the note stays")
        self.assertEqual((self.alpha.states(), self.beta.states()), ({}, {"web": "running"}))

    def test_a_vm_that_ends_is_not_called_silent(self):
        start(self.alpha, "--cmdline", "linger")
        self.good(self.alpha, "move", "web", "beta")
        seen = [self.alpha.states()]
        while seen[-1]:
            seen.append(self.alpha.states())
        self.assertNotIn({"web": "silent"}, seen)

    def test_two_at_once(self):
        start(self.alpha)
        self.alpha.break_at("slow")
        first = self.alpha.background("move", "web", "beta")
        wait_until(lambda: os.path.exists(os.path.join(self.alpha.state, "job")), "no move")
        self.bad(BUSY, "is being moved already", self.alpha, "move", "web", "beta")
        first.send_signal(signal.SIGINT)
        _, errors = first.communicate(timeout=WAIT)
        self.assertEqual(first.returncode, FAILED)
        self.assertIn("the move was cancelled; it runs here as before", errors)
        self.assertEqual(self.alpha.states(), {"web": "running"})
        wait_until(lambda: self.beta.states() == {}, "it is left there")

    def test_a_restart_disturbs_no_move(self):
        start(self.alpha)
        self.alpha.break_at("slow")
        first = self.alpha.background("move", "web", "beta")
        wait_until(lambda: os.path.exists(os.path.join(self.alpha.state, "job")), "no move")
        for host in self.hosts:
            host.stop()
            host.start()
        self.assertIsNone(first.poll())
        self.assertEqual((self.alpha.states(), self.beta.states()), ({"web": "running"}, {"web": "running"}))
        first.send_signal(signal.SIGINT)
        first.communicate(timeout=WAIT)
        wait_until(lambda: self.beta.states() == {}, "it is left there")

    def test_a_move_outlives_its_handler(self):
        """It is at work as long as its mover is, whoever began it: no second one of this VM begins meanwhile."""
        start(self.alpha)
        self.alpha.break_at("slow")
        first = self.alpha.background("move", "web", "beta")
        wait_until(lambda: os.path.exists(os.path.join(self.alpha.state, "job")), "no move")
        for pid in self.processes():
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if file.read().startswith(os.path.join(self.alpha.bin, "utsusud").encode()):
                    os.kill(pid, signal.SIGKILL)
        self.alpha.daemon.wait(WAIT)
        self.alpha.start()
        self.bad(BUSY, "is being moved already", self.alpha, "move", "web", "beta")
        first.send_signal(signal.SIGINT)
        self.assertIn("the move was cancelled", first.communicate(timeout=WAIT)[1])
        wait_until(lambda: self.beta.states() == {}, "it is left there")
        self.alpha.break_at("")
        self.good(self.alpha, "move", "web", "beta")
        self.lives_on(self.beta)

    def test_a_mover_that_dies_before_giving(self):
        start(self.alpha)
        self.alpha.break_at("die")
        self.bad(FAILED, "its mover was killed; it is this host's as before", self.alpha, "move", "web", "beta")
        self.assertEqual(self.alpha.states(), {"web": "running"})
        wait_until(lambda: self.beta.states() == {}, "it is left there")
        # It was to come there and did not: it is not started there by mistake.
        self.bad(BUSY, "was to come here from alpha and did not", self.beta, "run", "web", "--kernel", self.alpha.config)
        self.bad(USAGE, "alpha answers and has it", self.beta, "resolve", "web", "--run-here")
        self.good(self.alpha, "stop", "web", "--force")
        wait_until(lambda: self.alpha.states() == {}, "it does not end")
        self.good(self.beta, "resolve", "web", "--run-here")
        start(self.beta)

    def test_the_word_about_a_source_that_is_silent(self):
        """It cannot be asked whether it has the VM: a person knows."""
        start(self.alpha)
        self.alpha.break_at("die")
        self.alpha.utsusu("move", "web", "beta")
        wait_until(lambda: self.beta.states() == {}, "it is left there")
        self.alpha.stop()
        self.good(self.beta, "resolve", "web", "--run-here")
        start(self.beta)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
