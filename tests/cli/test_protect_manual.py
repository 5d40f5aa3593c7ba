#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Protection without etcd, for real, between two daemons of one computer: test_protect_manual.py UTSUSU UTSUSUD ARBITER

As test_protect_guest.py, whose guest this is; in the arbiter's place stand two records and a person's words.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import sys
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import peer_hosts  # noqa: E402  pylint: disable=wrong-import-position
from peer_hosts import BUSY, HOST, USAGE, Host, wait_until  # noqa: E402  pylint: disable=wrong-import-position

PROGRAM = sys.argv[1] if len(sys.argv) > 1 else ""
BASE = 0x100000
CODE = bytes.fromhex("b800002000 ff00 8b18 b900000100 e2fe 66baf803 89d8 243f 0440 ee b800002000 ebe3")
UUID = "01234567-89ab-cdef-0123-456789abcdef"


def kernel():
    note = struct.pack("<III", 4, 4, 18) + b"Xen\0" + struct.pack("<I", BASE)
    start_at = 64 + 2 * 56
    code = CODE.ljust(64, b"\x90")
    return (b"\x7fELF\x02\x01\x01" + bytes(9)
            + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, BASE, 64, 0, 0, 64, 56, 2, 0, 0, 0)
            + struct.pack("<IIQQQQQQ", 1, 7, start_at, BASE, BASE, len(code), len(code), 4096)
            + struct.pack("<IIQQQQQQ", 4, 4, start_at + len(code), 0, 0, len(note), len(note), 4) + code + note)


class RealHost(Host):
    """With the programs as they were built."""

    def __init__(self, work, name):
        super().__init__(work, name)
        for program in "utsusu-vm", "utsusu-move":
            shutil.copy(os.path.join(os.path.dirname(PROGRAM), program), self.bin)


@unittest.skipUnless(peer_hosts.HAS_KVM, "needs /dev/kvm")
class Manual(peer_hosts.Case):
    def setUp(self):
        peer_hosts.Host = RealHost
        super().setUp()
        self.introduce()
        for host in self.hosts:
            host.lists(arbiter="manual")
        with open(os.path.join(self.work, "kernel"), "wb") as file:
            file.write(kernel())

    def tearDown(self):
        for host in self.hosts:
            for pid in self.find(host, "utsusu-move", "utsusu-vm"):     # nobody gives a word for what is left
                os.kill(pid, signal.SIGKILL)
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
                  "--kernel", os.path.join(self.work, "kernel"))

    def status(self, host):
        return host.says("status", "web")

    def has(self, host, key, value):
        """Also while it is not there."""
        done = host.utsusu("status", "web", "--json")
        return done.returncode == 0 and json.loads(done.stdout).get(key) == value

    def records(self, host):
        with open(os.path.join(host.state, "arbiter", UUID + ".manual"), encoding="utf-8") as file:
            return [(one["generation"], one["mode"]) for one in json.load(file)["records"]]

    @staticmethod
    def console(host, seconds=1):
        with socket.socket(socket.AF_UNIX) as console:
            console.connect(os.path.join(host.runtime, "web", "console"))
            console.settimeout(0.2)
            due, printed = time.monotonic() + seconds, b""
            while time.monotonic() < due:
                with contextlib.suppress(TimeoutError):
                    printed += console.recv(4096)
        return printed

    def assert_counts(self, host):
        printed = self.console(host)[-40:]
        self.assertGreater(len(printed), 5, host.logged())
        for one, next_one in zip(printed, printed[1:]):
            self.assertEqual((next_one - one) % 64, 1, printed)

    @staticmethod
    def find(host, *programs):
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                with open(f"/proc/{pid}/comm", encoding="ascii") as file:
                    is_wanted = file.read().strip() in programs
                with open(f"/proc/{pid}/environ", "rb") as file:
                    if is_wanted and f"UTSUSU_RUNTIME_DIR={host.runtime}".encode() in file.read().split(b"\0"):
                        found.append(int(pid))
        return found

    def kill(self, host, *programs):
        found = self.find(host, *programs)
        self.assertTrue(found)
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

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
        self.bad(BUSY, "is protected by beta", self.alpha, "run", "web", "--kernel", os.path.join(self.work, "kernel"))
        self.protect(self.beta, "alpha")
        self.good(self.beta, "failover", "web")
        wait_until(lambda: self.has(self.alpha, "role", "solo"), "it does not come back")
        self.assert_counts(self.alpha)
        self.assertEqual(self.records(self.alpha)[-1], (7, "solo"))

    def test_its_host_is_lost(self):
        self.run_guest()
        self.protect()
        self.kill(self.alpha, "utsusu-move", "utsusu-vm")
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
        self.bad(BUSY, "is protected by beta", self.alpha, "run", "web", "--kernel", os.path.join(self.work, "kernel"))
        self.protect(self.beta, "alpha")

    def test_its_backup_is_lost(self):
        self.run_guest()
        self.protect()
        self.kill(self.beta, "utsusu-move", "utsusu-vm")
        wait_until(lambda: self.has(self.alpha, "wants", "solo"), "it does not notice")
        left = self.console(self.alpha, 0.5)       # each client is shown what left before, too
        time.sleep(2)
        self.assertEqual(self.console(self.alpha, 0.5), left, "what nobody acknowledged leaves")
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
                self.kill(self.alpha, "utsusu-move", "utsusu-vm")
                wait_until(lambda: self.has(self.beta, "wants", "claimed"), "the backup does not notice")
            time.sleep(2.5)
            self.assertEqual(self.status(self.beta)["role"], "backs-up", wrong)
        with open(path, "w", encoding="utf-8") as file:
            json.dump({**word, "generation": 2}, file)
        wait_until(lambda: self.has(self.beta, "role", "solo"), "the word is not taken")

    def test_a_relay_that_ends_forgets_nothing(self):
        self.run_guest()
        self.protect()
        self.kill(self.alpha, "utsusu-move", "utsusu-vm")
        wait_until(lambda: self.has(self.beta, "wants", "claimed"), "the backup does not notice")
        self.kill(self.beta, "utsusu-arbiter")
        wait_until(lambda: self.has(self.beta, "relay", False), "it is not missed")
        wait_until(lambda: self.has(self.beta, "relay", True), "no other one comes")
        self.good(self.beta, "failover", "web", "--owner-is-dead", "--yes")
        self.assert_counts(self.beta)

    def test_two_that_were_both_let_go_on_are_told(self):
        self.run_guest()
        self.protect()
        self.kill(self.alpha, "utsusu-move")      # as if the wire were cut
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
