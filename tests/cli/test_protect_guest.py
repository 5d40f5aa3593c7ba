#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""A VM that is protected, for real, between two daemons of one computer: test_protect_guest.py UTSUSU UTSUSUD ARBITER

utsusu-vm and utsusu-move stand beside UTSUSU. The guest is one of a few instructions, which counts in its memory; the arbiter is a real etcd.
"""

import contextlib
import os
import shutil
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import peer_hosts  # noqa: E402  pylint: disable=wrong-import-position
import real_hosts  # noqa: E402  pylint: disable=wrong-import-position
from etcd_members import ETCD, Member, make_certificates, post, trust  # noqa: E402  pylint: disable=wrong-import-position
from peer_hosts import BUSY, wait_until  # noqa: E402  pylint: disable=wrong-import-position

@unittest.skipUnless(peer_hosts.HAS_KVM, "needs /dev/kvm")
class Guest(real_hosts.Case):
    @classmethod
    def setUpClass(cls):
        cls.etcd = tempfile.mkdtemp(prefix="utsusu-protect-")
        cls.addClassCleanup(shutil.rmtree, cls.etcd)
        make_certificates(cls.etcd)
        cls.member = Member(cls.etcd, "only")
        cls.addClassCleanup(cls.member.close)
        cls.member.start([cls.member])
        cls.context = trust(cls.etcd)
        wait_until(cls.serves, "etcd does not come up")

    @classmethod
    def serves(cls):
        with contextlib.suppress(OSError):
            post(cls.context, cls.member, "/v3/kv/range", {"key": "YQ=="})
            return True
        return False

    def setUp(self):
        super().setUp()
        for host in self.hosts:
            self.lists(host)

    def tearDown(self):
        for host in self.hosts:
            for name in host.states():
                host.utsusu("stop", name, "--force")
        try:
            wait_until(lambda: self.left() == [], "left in the runtime directories")
        finally:
            super().tearDown()

    def lists(self, host, **more):
        host.lists(arbiter={"endpoints": [self.member.url], "ca": os.path.join(self.etcd, "ca.crt")}, **more)

    def run_guest(self, *words):
        self.good(self.alpha, "run", "web", "--detach", "--memory", "64M", "--kernel", self.kernel, *words)

    def protect(self, *words):
        done = self.good(self.alpha, "protect", "web", "beta", *words)
        self.assertIn("web is protected by beta", done.stdout)

    def test_protect_and_off(self):
        self.run_guest()
        self.protect()
        facts = self.status(self.alpha)
        self.assertEqual((facts["role"], facts["mode"], facts["peer"], facts["gated"]), ("protected", "protected", "beta", True))
        self.assertEqual(self.status(self.beta)["role"], "backs-up")
        acked = facts["acked"]
        wait_until(lambda: self.status(self.alpha)["acked"] > acked + 3, "no epochs come")
        self.assert_counts(self.alpha)
        self.good(self.alpha, "protect", "web", "--off")
        self.assertEqual(self.status(self.alpha)["mode"], "solo")
        wait_until(lambda: self.beta.states() == {}, "the backup is left there")
        self.assert_counts(self.alpha)

    def test_a_failover_that_is_wanted(self):
        self.run_guest()
        self.protect()
        self.assertIn("web runs on beta", self.good(self.alpha, "failover", "web").stdout)
        wait_until(lambda: self.status(self.beta).get("role") == "solo", "it does not run there")
        self.assert_counts(self.beta)
        wait_until(lambda: self.alpha.states() == {}, "it is left here")

    def test_with_a_disk_there_and_back(self):
        disks = {host: os.path.join(self.work, f"disk-{host.name}") for host in self.hosts}
        with open(disks[self.alpha], "wb") as file:
            file.write(os.urandom(1 << 20))
            file.truncate(8 << 20)
        with open(disks[self.beta], "wb"):
            pass
        for host in self.hosts:
            self.lists(host, disks={"own": {"path": disks[host], "copy": True, "overwrite": host is self.alpha}},
                       protect={"journal": "16M"})
        self.run_guest("--disk", f"path={disks[self.alpha]}")
        self.protect()
        self.assertEqual(self.status(self.alpha)["disks"], 1)
        self.assertEqual(os.listdir(os.path.join(self.beta.state, "copies")), ["own"])
        self.good(self.alpha, "failover", "web")
        wait_until(lambda: self.status(self.beta).get("role") == "solo", "it does not run there")
        wait_until(lambda: os.listdir(os.path.join(self.beta.state, "copies")) == [], "the note of the copy stays")
        with open(disks[self.alpha], "rb") as here, open(disks[self.beta], "rb") as there:
            self.assertEqual(here.read(), there.read())
        wait_until(lambda: self.alpha.states() == {}, "it is left here")
        self.assertIn("web is protected by alpha", self.good(self.beta, "protect", "web", "alpha").stdout)
        self.good(self.beta, "failover", "web")
        wait_until(lambda: self.status(self.alpha).get("role") == "solo", "it does not come back")
        self.assert_counts(self.alpha)
        wait_until(lambda: not os.path.exists(os.path.join(self.alpha.state, "protected", "web")), "the note stays")

    def test_its_host_is_lost(self):
        self.run_guest()
        self.protect()
        self.assertTrue(self.alpha.kill("utsusu-move", "utsusu-vm"))
        wait_until(lambda: self.status(self.beta).get("role") == "solo", "nobody takes over")
        self.assert_counts(self.beta)
        self.bad(BUSY, "is protected by beta", self.alpha, "run", "web", "--kernel", self.kernel)

    def test_its_backup_is_lost(self):
        self.run_guest()
        self.protect()
        self.assertTrue(self.beta.kill("utsusu-move"))
        wait_until(lambda: self.status(self.alpha)["mode"] == "solo", "it does not go on alone")
        self.assert_counts(self.alpha)
        self.assertFalse(os.path.exists(os.path.join(self.alpha.state, "protected", "web")))


if not os.access(ETCD, os.X_OK) or not shutil.which("openssl"):
    print("no etcd or no openssl: scripts/dependencies check")
    sys.exit(77)
unittest.main(argv=[sys.argv[0], *sys.argv[4:]])
