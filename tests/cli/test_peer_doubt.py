#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A VM that was given away, and may run there: how daemons find out, and what a person may say. test_peer_doubt.py UTSUSU UTSUSUD

Hosts are those of peer_hosts.py.
"""

import os
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import fake_marks  # noqa: E402  pylint: disable=wrong-import-position
from peer_hosts import BUSY, FAILED, HOST, USAGE, WAIT, Known, start, wait_until  # noqa: E402  pylint: disable=wrong-import-position


class Doubt(Known):
    def test_a_doubt_that_ends_with_never(self):
        start(self.alpha)
        self.alpha.break_at("die-given")
        done = self.alpha.utsusu("move", "web", "beta")
        self.assertEqual(done.returncode, FAILED, done.stderr)
        wait_until(lambda: self.alpha.says("resolve", "web")["state"] == "here", "it is not settled")
        self.assertEqual((self.alpha.states(), self.beta.states()), ({"web": "running"}, {}))

    def test_a_doubt_that_ends_with_ran(self):
        start(self.alpha)
        self.alpha.break_at("die-committed")
        self.good(self.alpha, "move", "web", "beta")
        wait_until(lambda: self.alpha.states() == {}, "it stands here still")
        self.assertEqual(self.beta.states(), {"web": "running"})
        answer = self.alpha.says("resolve", "web")
        self.assertEqual((answer["state"], answer["there"]), ("there", {"vm": True, "result": "ran"}))
        self.bad(USAGE, "beta answers (ran)", self.alpha, "resolve", "web", "--run-here")
        self.good(self.beta, "stop", "web", "--force")
        self.assertIn("It has ended there", self.good(self.alpha, "resolve", "web").stdout)
        self.good(self.alpha, "resolve", "web", "--run-here")
        start(self.alpha)

    def doubt_without_answer(self):
        """The destination cannot be asked, whatever it did."""
        start(self.alpha)
        self.alpha.break_at("die-given")
        os.rename(os.path.join(self.alpha.bin, "utsusu-move"), os.path.join(self.alpha.bin, "real"))
        with open(os.path.join(self.alpha.bin, "utsusu-move"), "w", encoding="utf-8") as file:
            # Its daemon goes in the moment in which it would be asked: not before the streams have come to it.
            file.write(f"#!/bin/sh\n{self.alpha.bin}/real \"$@\"\nkill {self.beta.daemon.pid}\n"
                       f"while grep -q '^State:.[^Z]' /proc/{self.beta.daemon.pid}/status; do sleep 0.01; done\nkill -9 $$\n")
        os.chmod(os.path.join(self.alpha.bin, "utsusu-move"), 0o755)
        done = self.alpha.utsusu("move", "web", "beta")
        self.assertEqual(done.returncode, FAILED, done.stderr)
        self.assertIn("utsusu resolve web", done.stderr)
        self.beta.daemon.wait(WAIT)
        answer = self.alpha.says("resolve", "web")
        self.assertEqual((answer["state"], answer["here"]["given"]), ("doubt", "open"))
        self.assertIn("error", answer["there"])
        text = self.good(self.alpha, "resolve", "web").stdout
        self.assertIn("Only if beta is gone for good", text)

    def test_the_word_that_it_runs_here(self):
        self.doubt_without_answer()
        self.good(self.alpha, "resolve", "web", "--run-here")
        self.assertEqual(self.alpha.says("resolve", "web")["state"], "here")
        self.bad(USAGE, "nothing to declare", self.alpha, "resolve", "web", "--run-here")

    def test_the_word_that_it_is_lost_here(self):
        self.doubt_without_answer()
        self.good(self.alpha, "resolve", "web", "--declare-lost-here")
        wait_until(lambda: self.alpha.states() == {}, "it stands here still")
        self.assertEqual(self.alpha.says("resolve", "web")["state"], "there")

    def test_a_doubt_is_settled_when_the_host_is_back(self):
        self.doubt_without_answer()
        self.beta.start()
        wait_until(lambda: self.alpha.says("resolve", "web")["state"] == "here", "it is not settled")
        self.assertEqual((self.alpha.states(), self.beta.states()), ({"web": "running"}, {}))

    def test_a_vm_that_cannot_be_looked_at_is_not_passed_over(self):
        """It stands until it is told: its mark is not settled without it."""
        self.doubt_without_answer()
        place, aside = os.path.join(self.alpha.runtime, "web"), os.path.join(self.alpha.folder, "aside")
        os.rename(place, aside)
        with open(place, "wb"):
            pass
        try:
            self.bad(HOST, "cannot be told whether its process is here", self.alpha, "resolve", "web")
            self.beta.start()
            wait_until(lambda: "could not be told here" in self.alpha.logged(), "it is not asked")
            self.assertEqual(self.given(self.alpha)["result"], "open")
        finally:
            os.unlink(place)
            os.rename(aside, place)
        wait_until(lambda: self.alpha.says("resolve", "web")["state"] == "here", "it is not settled")
        self.assertEqual(self.alpha.states(), {"web": "running"})

    def test_a_doubt_outlives_its_vm(self):
        self.doubt_without_answer()
        self.good(self.alpha, "stop", "web", "--force")
        self.bad(BUSY, "not known yet whether it ran there", self.alpha, "run", "web", "--kernel",
                 os.path.join(self.alpha.folder, "vmlinuz"), "--detach")
        self.beta.start()
        wait_until(lambda: self.alpha.says("resolve", "web")["state"] == "none", "it is not settled")
        start(self.alpha)

    def test_a_damaged_mark_is_settled_by_what_the_vm_knows(self):
        self.doubt_without_answer()
        with open(os.path.join(self.alpha.state, "given", "web"), "r+b") as mark:
            mark.write(b"utsusu-damaged")
        answer = self.alpha.says("resolve", "web")
        self.assertEqual((answer["state"], answer["peer"]), ("doubt", "beta"))
        self.beta.start()
        wait_until(lambda: self.alpha.says("resolve", "web")["state"] == "here", "it is not settled")
        self.assertEqual(self.alpha.states(), {"web": "running"})

    def test_the_word_about_a_damaged_mark_of_a_vm_that_runs(self):
        start(self.alpha)
        mark = os.path.join(self.alpha.state, "given", "web")
        os.makedirs(os.path.dirname(mark), mode=0o700, exist_ok=True)
        with open(mark, "wb") as file:
            file.write(b"x" * 512)
        self.bad(HOST, "cannot be read", self.alpha, "move", "web", "beta")
        shown = self.good(self.alpha, "resolve", "web").stdout
        self.assertIn("which is damaged and not so", shown)
        self.assertIn("utsusu resolve web --run-here", shown)
        self.good(self.alpha, "resolve", "web", "--run-here")
        self.assertEqual(self.alpha.says("resolve", "web")["state"], "here")
        self.good(self.alpha, "move", "web", "beta")
        self.lives_on(self.beta)

    def test_a_mark_of_a_gift_that_failed_is_settled(self):
        """Neither its writing nor its taking back was told to have worked: the VM runs on, and the mark may stand all the same."""
        start(self.alpha)
        self.alpha.break_at("die")
        self.alpha.utsusu("move", "web", "beta")
        wait_until(lambda: self.beta.states() == {}, "it is left there")
        with open(os.path.join(self.alpha.state, "given", "web"), "r+b") as mark:
            mark.write(fake_marks.given(self.alpha.job(), self.alpha.says("info", "web")["config"]["uuid"]))
        wait_until(lambda: self.alpha.says("resolve", "web")["state"] == "here", "it is not settled")
        self.assertEqual(self.alpha.states(), {"web": "running"})
        self.alpha.break_at("")
        self.good(self.alpha, "move", "web", "beta")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
