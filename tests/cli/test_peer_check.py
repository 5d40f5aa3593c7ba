#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What stands against a move, and how it is told before anything moves. test_peer_check.py UTSUSU UTSUSUD

Hosts are those of peer_hosts.py.
"""

import fcntl
import json
import os
import socket
import struct
import sys
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from peer_hosts import BUSY, HOST, RESOURCE, USAGE, Known, start, wait_until  # noqa: E402  pylint: disable=wrong-import-position


class Check(Known):
    def test_all_that_stands_against_it_is_told_at_once(self):
        disk = os.path.join(self.work, "disk.img")
        with open(disk, "wb") as file:
            file.truncate(1 << 20)
        start(self.alpha, "--cmdline", "fixed", "--disk", f"path={disk}")
        start(self.beta)
        done = self.bad(HOST, "disk[0]", self.alpha, "move", "web", "beta", "--check")
        self.alpha.lists(disks={"data": {"path": disk}})
        done = self.bad(HOST, "cpus: this one stays", self.alpha, "move", "web", "beta", "--check")
        self.assertIn("beta: disk data: is not in this host's list", done.stderr)
        self.assertIn("beta: web: a VM of this name runs", done.stderr)
        done = self.bad(HOST, "and 2 more: add --check", self.alpha, "move", "web", "beta")
        # The fake locks nothing, so its disk looks like another file there.
        self.beta.lists(disks={"data": {"path": disk}})
        self.bad(HOST, "the lock of the running VM is not seen", self.alpha, "move", "web", "beta", "--check")
        checked = self.alpha.says("move", "web", "beta", "--check")
        self.assertEqual((checked["ok"], len(checked["problems"])), (False, 3))
        self.assertEqual(os.listdir(os.path.join(self.beta.state, "taken")), [])

    @unittest.skipIf(os.geteuid(), "only root has a right to lose")
    def test_check_tells_of_a_host_that_cannot_do_post_copy(self):
        start(self.alpha)
        asked = "move", "web", "beta", "--allow-postcopy", "--check"
        self.assertEqual([note for note in self.alpha.says(*asked)["notes"] if "userfaultfd" in note], [])
        self.beta.stop()
        self.beta.start("setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace")
        notes = self.alpha.says(*asked)["notes"]
        self.assertEqual(len([note for note in notes if "beta gives no userfaultfd" in note]), 1, notes)
        self.assertIn("beta gives no userfaultfd", self.good(self.alpha, "move", "web", "beta", "--allow-postcopy").stderr)

    def test_a_place_for_a_copy_is_judged(self):
        here, there = (os.path.join(self.work, f"disk-{host.name}") for host in self.hosts)
        with open(here, "wb") as file:
            file.truncate(1 << 20)
        start(self.alpha, "--disk", f"path={here}")
        self.alpha.lists(disks={"own": {"path": here}})
        self.beta.lists(disks={"own": {"path": there, "copy": True}})
        check = self.alpha, "move", "web", "beta", "--copy-disks", "--check"
        self.bad(RESOURCE, "truncate -s 1048576", *check)
        with open(there, "wb") as file:
            file.truncate(2 << 20)
        self.bad(RESOURCE, "has 1048576 bytes there and 2097152 here", *check)
        with open(there, "r+b") as lock:
            lock.truncate(0)
            fcntl.fcntl(lock, fcntl.F_OFD_SETLK, struct.pack("hhqqixxxx", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
            self.bad(BUSY, "is in use", *check)
        self.good(*check)
        # What is at the path is not what the VM has: the fake holds no lock.
        self.bad(RESOURCE, "is not what the VM has", *check[:-1])
        self.assertEqual((os.path.getsize(there), os.listdir(os.path.join(self.beta.state, "copies"))), (1 << 20, []))

    def test_lists_are_strict(self):
        start(self.alpha)
        for lists, message in (({"disk": {}}, "unknown key"), ({"disks": {"a": {"path": "x"}}}, "absolute"),
                               ({"networks": {"lan": {}}}, "either tap or bridge"),
                               ({"disks": {"a b": {"path": "/x"}}}, "is no name")):
            self.alpha.lists(**lists)
            self.bad(USAGE, message, self.alpha, "move", "web", "beta", "--check")

    def test_plain_is_for_both_sides_to_allow(self):
        start(self.alpha)
        done = self.bad(USAGE, "beta: plain: this host takes no VM without TLS", self.alpha, "move", "web", "beta", "--plain")
        self.assertIn('{"moves": {"plain": "allow"}}', done.stderr)
        self.beta.lists(moves={"plain": "refuse"})
        self.bad(USAGE, "takes no VM without TLS", self.alpha, "move", "web", "beta", "--plain", "--check")
        self.beta.lists(moves={"plain": "maybe"})
        self.bad(USAGE, "refuse", self.alpha, "move", "web", "beta")
        self.beta.lists(moves={"plain": "allow"})
        self.good(self.alpha, "move", "web", "beta", "--plain")
        self.assertFalse(self.beta.job()["tls"])
        self.lives_on(self.beta)

    def test_a_stranger_is_told_how_to_be_known(self):
        start(self.alpha)
        self.good(self.beta, "peer", "remove", "alpha")
        done = self.bad(RESOURCE, "does not know this host", self.alpha, "move", "web", "beta")
        self.assertIn(f"--fingerprint {self.alpha.fingerprint}", done.stderr)
        wait_until(lambda: self.alpha.fingerprint in self.beta.logged(), "it is not in the log there")

    def test_another_key_is_refused(self):
        start(self.alpha)
        self.beta.stop()
        self.beta.run_daemon("init", "--anew")
        self.beta.start()
        done = self.bad(RESOURCE, "has the key", self.alpha, "move", "web", "beta")
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)

    def test_not_onto_itself(self):
        start(self.alpha)
        path = os.path.join(self.alpha.state, "peers.json")
        with open(path, encoding="utf-8") as file:
            peers = json.load(file)
        peers["peers"]["me"] = {"address": "127.0.0.1", "port": self.alpha.port, "fingerprint": self.alpha.fingerprint}
        with open(path, "w", encoding="utf-8") as file:
            json.dump(peers, file)
        self.bad(USAGE, "is this host itself", self.alpha, "move", "web", "me")

    def test_the_longest_downtime_is_one_for_all(self):
        start(self.alpha)
        with socket.socket(socket.AF_UNIX) as daemon, daemon.makefile() as answers:
            daemon.connect(os.path.join(self.alpha.runtime, ".utsusud", "socket"))
            daemon.sendall(b'{"command": "move", "name": "web", "host": "beta", "downtime": "61s"}\n')
            self.assertIn("downtime", json.loads(answers.readline())["error"]["message"])
        self.good(self.alpha, "move", "web", "beta", "--downtime", "60s")
        self.assertEqual(self.alpha.job()["downtime_ms"], 60000)
        self.lives_on(self.beta)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
