#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Protection without etcd, for real, between two daemons of one computer: test_protect_manual.py UTSUSU UTSUSUD ARBITER

As test_protect_guest.py, whose guest this is; in the arbiter's place stand two records and a person's words.
"""

import json
import os
import shutil
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import peer_hosts  # noqa: E402  pylint: disable=wrong-import-position
import real_hosts  # noqa: E402  pylint: disable=wrong-import-position
from peer_hosts import BUSY, HOST, USAGE, wait_until  # noqa: E402  pylint: disable=wrong-import-position

UUID = "01234567-89ab-cdef-0123-456789abcdef"


@unittest.skipUnless(peer_hosts.HAS_KVM, "needs /dev/kvm")
class Manual(real_hosts.Case):
    def setUp(self):
        super().setUp()
        for host in self.hosts:
            host.lists(arbiter="manual")

    def tearDown(self):
        for host in self.hosts:
            host.kill("utsusu-move", "utsusu-vm")       # nobody gives a word for what is left
        for host in self.hosts:
            host.stop()
        wait_until(lambda: self.processes() == [], "processes are left")
        for host in self.hosts:
            shutil.rmtree(host.runtime)
            os.mkdir(host.runtime, 0o700)
            os.mkdir(os.path.join(host.runtime, ".utsusud"), 0o700)
        super().tearDown()

    def run_guest(self, host=None):
        self.good(host or self.alpha, "run", "web", "--detach", "--memory", "64M", "--uuid", UUID,
                  "--kernel", self.kernel)

    def has(self, host, key, value):
        """Also while it is not there."""
        done = host.utsusu("status", "web", "--json")
        return done.returncode == 0 and json.loads(done.stdout).get(key) == value

    def records(self, host):
        with open(os.path.join(host.state, "arbiter", UUID + ".manual"), encoding="utf-8") as file:
            return [(one["generation"], one["mode"]) for one in json.load(file)["records"]]

    def protect(self, owner=None, backup="beta"):
        done = self.good(owner or self.alpha, "protect", "web", backup)
        self.assertIn(f"web is protected by {backup}", done.stdout)
        other = self.beta if backup == "beta" else self.alpha
        wait_until(lambda: self.has(other, "mode", "protected"), "the backup does not hear of the record")

    def test_off_needs_no_word(self):
        self.run_guest()
        self.protect()
        self.assertEqual(self.records(self.alpha), [(1, "solo"), (2, "protected")])
        self.assertEqual(self.records(self.beta), [(2, "protected")])
        self.bad(BUSY, "is heard", self.beta, "failover", "web", "--owner-is-dead", "--yes")
        self.bad(USAGE, "utsusu failover web there", self.beta, "failover", "web")
        self.assert_counts(self.alpha)
        self.good(self.alpha, "protect", "web", "--off")
        self.assertEqual(self.records(self.alpha), [(1, "solo"), (2, "protected"), (3, "solo")])
        self.assertEqual(self.beta.states(), {}, "the backup ends before its owner goes on alone")
        self.assert_counts(self.alpha)
        self.protect()

    def test_a_failover_that_is_wanted_and_back(self):
        self.run_guest()
        self.protect()
        self.good(self.alpha, "failover", "web")
        wait_until(lambda: self.has(self.beta, "role", "solo"), "it does not run there")
        self.assertEqual(self.alpha.states(), {})
        self.assert_counts(self.beta)
        self.assertEqual(self.records(self.beta), [(2, "protected"), (3, "claimed"), (4, "solo")])
        self.bad(BUSY, "is protected by beta", self.alpha, "run", "web", "--kernel", self.kernel)
        self.protect(self.beta, "alpha")
        self.good(self.beta, "failover", "web")
        wait_until(lambda: self.has(self.alpha, "role", "solo"), "it does not come back")
        self.assert_counts(self.alpha)
        self.assertEqual(self.records(self.alpha)[-1], (7, "solo"))

    def test_its_host_is_lost(self):
        self.run_guest()
        self.protect()
        self.assertTrue(self.alpha.kill("utsusu-move", "utsusu-vm"))
        wait_until(lambda: self.has(self.beta, "wants", "claimed"), "the backup does not notice")
        time.sleep(3)
        facts = self.status(self.beta)
        self.assertEqual((facts["role"], self.records(self.beta)), ("backs-up", [(2, "protected")]))
        self.assertIn("utsusu failover web --owner-is-dead (generation 2)", facts["waits_for"])
        self.bad(USAGE, "--yes", self.beta, "failover", "web", "--owner-is-dead")
        self.assertEqual(self.status(self.beta)["role"], "backs-up")
        self.assertIn("web runs here", self.good(self.beta, "failover", "web", "--owner-is-dead", "--yes").stdout)
        self.assert_counts(self.beta)
        self.assertEqual(self.records(self.beta), [(2, "protected"), (3, "claimed"), (4, "solo")])
        self.assertFalse(os.path.exists(os.path.join(self.beta.state, "arbiter", UUID + ".word")))
        self.bad(BUSY, "is protected by beta", self.alpha, "run", "web", "--kernel", self.kernel)
        self.protect(self.beta, "alpha")

    def test_its_backup_is_lost(self):
        self.run_guest()
        self.protect()
        self.assertTrue(self.beta.kill("utsusu-move", "utsusu-vm"))
        wait_until(lambda: self.has(self.alpha, "wants", "solo"), "it does not notice")
        left = self.alpha.printed(wanted=1 << 30, seconds=0.5)       # each client is shown what left before, too
        time.sleep(2)
        self.assertEqual(self.alpha.printed(wanted=1 << 30, seconds=0.5), left, "what nobody acknowledged leaves")
        facts = self.status(self.alpha)
        self.assertEqual((facts["mode"], facts["gated"]), ("protected", True))
        self.assertIn("--backup-is-dead", facts["waits_for"])
        self.good(self.alpha, "protect", "web", "--off", "--backup-is-dead", "--yes")
        self.assert_counts(self.alpha)
        self.assertEqual(self.records(self.alpha)[-1], (3, "solo"))
        self.protect()

    def test_a_word_counts_once(self):
        self.run_guest()
        self.protect()
        path = os.path.join(self.beta.state, "arbiter", UUID + ".word")
        with open(os.path.join(self.beta.state, "arbiter", UUID + ".manual"), encoding="utf-8") as file:
            record = json.load(file)["records"][-1]
        word = {"version": 1, "generation": 1, "says": "owner-is-dead", "owner": record["owner"], "who": "test", "time": 1}
        for wrong in ({}, {"generation": 2, "owner": "00" * 16}, {"generation": 2, "says": "backup-is-dead"}):
            with open(path, "w", encoding="utf-8") as file:
                json.dump({**word, **wrong}, file)
            if not wrong:
                self.assertTrue(self.alpha.kill("utsusu-move", "utsusu-vm"))
                wait_until(lambda: self.has(self.beta, "wants", "claimed"), "the backup does not notice")
            time.sleep(2.5)
            self.assertEqual(self.status(self.beta)["role"], "backs-up", wrong)
        with open(path, "w", encoding="utf-8") as file:
            json.dump({**word, "generation": 2}, file)
        wait_until(lambda: self.has(self.beta, "role", "solo"), "the word is not taken")

    def test_a_relay_that_ends_forgets_nothing(self):
        self.run_guest()
        self.protect()
        self.assertTrue(self.alpha.kill("utsusu-move", "utsusu-vm"))
        wait_until(lambda: self.has(self.beta, "wants", "claimed"), "the backup does not notice")
        self.assertTrue(self.beta.kill("utsusu-arbiter"))
        wait_until(lambda: self.has(self.beta, "relay", False), "it is not missed")
        wait_until(lambda: self.has(self.beta, "relay", True), "no other one comes")
        self.good(self.beta, "failover", "web", "--owner-is-dead", "--yes")
        self.assert_counts(self.beta)

    def test_two_that_were_both_let_go_on_are_told(self):
        self.run_guest()
        self.protect()
        self.assertTrue(self.alpha.kill("utsusu-move"))      # as if the wire were cut
        wait_until(lambda: self.has(self.alpha, "wants", "solo") and self.has(self.beta, "wants", "claimed"), "they do not part")
        self.good(self.alpha, "protect", "web", "--off", "--backup-is-dead", "--yes")
        self.good(self.beta, "failover", "web", "--owner-is-dead", "--yes")       # one of them lied
        self.good(self.alpha, "stop", "web", "--force")
        wait_until(lambda: self.alpha.states() == {}, "it stays")
        self.bad(BUSY, "do not follow from each other", self.beta, "protect", "web", "alpha")

    def test_both_hosts_need_the_same(self):
        self.run_guest()
        self.beta.lists(arbiter={"endpoints": ["http://127.0.0.1:1"]})
        done = self.alpha.utsusu("protect", "web", "beta", "--check")
        self.assertIn("is \"manual\" there and an etcd here", done.stderr)
        self.beta.lists()
        self.bad(HOST, "no arbiter is named", self.alpha, "protect", "web", "beta")

    def test_a_guest_that_is_stopped(self):
        self.run_guest()
        self.protect()
        self.good(self.alpha, "stop", "web", "--force")
        wait_until(lambda: self.alpha.states() == {} and self.beta.states() == {}, "it does not end")
        self.assertEqual(self.records(self.alpha)[2:], [(3, "solo"), (4, "stopped")])


unittest.main(argv=[sys.argv[0], *sys.argv[4:]])
