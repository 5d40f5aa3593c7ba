#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What daemons and commands do about protected VMs: test_protect.py UTSUSU UTSUSUD ARBITER

Hosts are those of peer_hosts.py; the arbiter is a real etcd, relays are real, VMs and guards are fakes.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import struct
import sys
import tempfile
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from etcd_members import ETCD, Member, make_certificates, post, trust  # noqa: E402  pylint: disable=wrong-import-position
from peer_hosts import BUSY, FAILED, HOST, RESOURCE, USAGE, WAIT, Known, start, wait_until  # noqa: E402  pylint: disable=wrong-import-position


class Protect(Known):
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
        """Daemons tidy up behind guards and VMs that end without them."""
        for host in self.hosts:
            host.break_at("")
            for name in host.states():
                host.utsusu("stop", name, "--force")
        try:
            wait_until(lambda: self.left() == [], "left in the runtime directories")
        finally:
            super().tearDown()

    def lists(self, host, **more):
        host.lists(arbiter={"endpoints": [self.member.url], "ca": os.path.join(self.etcd, "ca.crt")}, **more)

    def facts(self, host, name="web"):
        return host.says("status", name)

    def uuid(self, host, name="web"):
        return host.says("info", name)["config"]["uuid"]

    def record(self, host, uuid):
        import subprocess  # pylint: disable=import-outside-toplevel
        done = subprocess.run([os.path.join(host.bin, "utsusu-arbiter"), "--record", uuid], env=host.environment,
                              capture_output=True, encoding="utf-8", timeout=WAIT, check=True)
        return json.loads(done.stdout)

    def noted(self, host, name="web"):
        return os.path.exists(os.path.join(host.state, "protected", name))

    def protect(self):
        start(self.alpha)
        done = self.good(self.alpha, "protect", "web", "beta")
        self.assertIn("web is protected by beta", done.stdout)
        self.assertEqual(self.facts(self.alpha)["role"], "protected")

    def no_backup(self):
        """Beta's process of it ends with its guard."""
        wait_until(lambda: self.beta.states() == {}, "the backup is left there")

    def test_a_vm_is_protected_and_is_not_any_more(self):
        self.protect()
        here, there = self.alpha.job(), self.beta.job()
        self.assertEqual((here["role"], there["role"]), ("owner", "backup"))
        self.assertEqual((len(here["streams"]), here["detect_ms"], there["detect_ms"], here["token"], here["key"]),
                         (1, 500, 500, there["token"], there["key"]))
        self.assertNotIn("mark", here)
        self.assertNotIn("mark", there)
        uuid = self.uuid(self.alpha)
        stands = self.record(self.alpha, uuid)
        self.assertEqual((stands["record"]["mode"], stands["record"]["backup"], stands["owner_is"]),
                         ("protected", here["token"], "here"))
        self.assertEqual(self.record(self.beta, uuid)["owner_is"], "elsewhere")
        self.assertTrue(self.noted(self.alpha))
        status = self.good(self.alpha, "status", "web").stdout
        self.assertIn("web runs here, protected by beta", status)
        self.assertRegex(status, r"epoch +7; 5 acknowledged, 2 on the way")
        self.assertRegex(status, r"held output +2 \(4 KiB\) now; waits 12.1 ms p50, 20.0 ms p99")
        self.assertIn("web runs on alpha; this is its backup", self.good(self.beta, "status", "web").stdout)
        # Who would move it, or protect it again, is told.
        self.bad(BUSY, "or is protected", self.alpha, "move", "web", "beta")
        self.bad(BUSY, "or is protected", self.alpha, "protect", "web", "beta")
        self.assertIn("unprotected", self.good(self.alpha, "protect", "web", "--off").stdout)
        self.assertEqual(self.record(self.alpha, uuid)["record"]["mode"], "solo")
        self.no_backup()
        self.assertFalse(self.noted(self.alpha))
        # And again.
        self.good(self.alpha, "protect", "web", "beta", "--detect", "2s", "--latency", "20ms")
        self.assertEqual((self.alpha.job()["latency_ms"], self.beta.job()["detect_ms"]), (20, 2000))
        self.assertNotEqual(self.alpha.job()["token"], here["token"])
        self.good(self.alpha, "protect", "web", "--off")
        self.no_backup()

    def test_all_that_stands_against_it_is_told_at_once(self):
        disk = os.path.join(self.work, "disk.img")
        with open(disk, "wb") as file:
            file.truncate(1 << 20)
        start(self.alpha, "--disk", f"path={disk}")
        check = self.alpha, "protect", "web", "beta", "--check"
        for host in self.hosts:
            host.lists(disks={"own": {"path": disk}})
        done = self.bad(HOST, "no arbiter is named", *check)
        self.assertIn("beta: no arbiter is named", done.stderr)
        self.assertIn("beta: disk own: a protected VM writes to it, so its backup needs one of its own", done.stderr)
        self.assertIn("docs/protecting.md", done.stderr)
        there = os.path.join(self.work, "there.img")
        with open(there, "wb"):
            pass
        self.lists(self.alpha, disks={"own": {"path": disk}})
        self.lists(self.beta, disks={"own": {"path": there, "copy": True}}, protect={"journal": "64G"})
        if shutil.disk_usage(self.beta.state).free < 64 << 30:
            done = self.bad(RESOURCE, "beta: journal: needs 65536 MiB", *check)
            self.assertEqual(done.stderr.count("utsusu: "), 1, done.stderr)
        self.lists(self.beta, disks={"other": {"path": there, "copy": True}})
        self.bad(RESOURCE, "beta: disk own: is not in this host's list", *check)
        self.lists(self.beta, disks={"own": {"path": there, "copy": True}}, protect={"journal": "16M"})
        self.assertIn("web: can be protected by beta", self.good(*check).stdout)
        self.assertTrue(self.alpha.says(*check[1:])["ok"])
        self.bad(6, "gamma", self.alpha, "protect", "web", "gamma")
        self.assertEqual(self.alpha.states(), {"web": "running"})
        self.assertFalse(self.noted(self.alpha))

    def test_a_silent_arbiter_is_a_reason(self):
        start(self.alpha)
        self.beta.lists(arbiter={"endpoints": ["https://127.0.0.1:1"], "ca": os.path.join(self.etcd, "ca.crt")})
        self.bad(HOST, "beta: arbiter: no member can be asked", self.alpha, "protect", "web", "beta")
        self.bad(HOST, "no member can be asked", self.beta, "arbiter", "check")
        self.assertIn("1 of 1 members answer", self.good(self.alpha, "arbiter", "check").stdout)

    def test_wrong_words(self):
        start(self.alpha)
        self.bad(USAGE, "give HOST, or --off", self.alpha, "protect", "web")
        self.bad(USAGE, "--off needs no HOST", self.alpha, "protect", "web", "beta", "--off")
        self.bad(USAGE, "latency", self.alpha, "protect", "web", "beta", "--latency", "soon")
        self.bad(USAGE, "detect", self.alpha, "protect", "web", "beta", "--detect", "1ms")
        self.bad(USAGE, "give check", self.alpha, "arbiter", "ask")
        self.bad(USAGE, "beta: plain", self.alpha, "protect", "web", "beta", "--plain")

    def test_disks_are_mirrored_into_the_backups_own(self):
        here, there = (os.path.join(self.work, f"disk-{host.name}") for host in self.hosts)
        for path, size in (here, 1 << 20), (there, 0):
            with open(path, "wb") as file:
                file.truncate(size)
        self.lists(self.alpha, disks={"own": {"path": here}})
        self.lists(self.beta, disks={"own": {"path": there, "copy": True}}, protect={"journal": "16M"})
        with open(here, "r+b") as lock:     # as the VM would have it, which the fake does not
            start(self.alpha, "--disk", f"path={here}")
            fcntl.fcntl(lock, fcntl.F_OFD_SETLK, struct.pack("hhqqixxxx", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
            self.good(self.alpha, "protect", "web", "beta")
        uuid = self.uuid(self.alpha)
        job = self.beta.job()
        self.assertEqual(([disk[0] for disk in job["disks"]], job["journal_bytes"]), ([0], 16 << 20))
        journal = os.stat(os.path.join(self.beta.state, "journals", uuid))
        self.assertEqual((journal.st_size, journal.st_blocks * 512 >= 16 << 20), ((16 << 20) + 3 * 4096, True))
        self.assertEqual(os.listdir(os.path.join(self.beta.state, "copies")), ["own"])
        self.good(self.alpha, "protect", "web", "--off")
        self.no_backup()
        # What is left there is part of a copy, and nobody starts a VM from it.
        self.bad(RESOURCE, "part of a copy", self.beta, "run", "other", "--kernel", "/dev/null", "--disk", f"path={there}", "--check")

    def test_a_relay_that_dies_is_started_again(self):
        self.protect()
        relays = self.processes_with("utsusu-arbiter")
        self.assertEqual(len(relays), 2)
        for pid in relays:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(self.processes_with("utsusu-arbiter")) == 2, "no relay comes")
        wait_until(lambda: self.facts(self.alpha)["relay"] and self.facts(self.beta)["relay"], "no relay attaches")
        # A daemon's restart ends none.
        relays = self.processes_with("utsusu-arbiter")
        self.alpha.stop()
        self.alpha.start()
        self.assertEqual(sorted(self.processes_with("utsusu-arbiter")), sorted(relays))
        self.assertEqual(self.facts(self.alpha)["role"], "protected")
        self.good(self.alpha, "protect", "web", "--off")
        self.no_backup()

    def test_what_fails_leaves_it_as_it_was(self):
        start(self.alpha)
        self.alpha.break_at("die")
        self.bad(FAILED, "its guard was killed", self.alpha, "protect", "web", "beta")
        self.no_backup()
        self.alpha.break_at("slow")
        first = self.alpha.background("protect", "web", "beta")
        wait_until(lambda: self.processes_with("utsusu-move"), "no guard")
        first.send_signal(signal.SIGINT)
        _, errors = first.communicate(timeout=WAIT)
        self.assertEqual(first.returncode, FAILED, errors)
        self.no_backup()
        self.assertFalse(self.noted(self.alpha))
        self.assertEqual(self.alpha.states(), {"web": "running"})

    def crash(self, host, name="web"):
        for pid in self.processes_with("utsusu-vm"):
            with open(f"/proc/{pid}/environ", "rb") as file:
                if host.runtime.encode() + b"\0" in file.read():
                    os.kill(pid, signal.SIGKILL)
        wait_until(lambda: host.states().get(name) != "running", "it does not end")

    def test_a_protected_vm_is_not_started_beside_its_backup(self):
        self.protect()
        uuid = self.uuid(self.alpha)
        self.crash(self.alpha)
        run = self.alpha, "run", "web", "--kernel", os.path.join(self.alpha.folder, "vmlinuz"), "--memory", "64M", "--detach"
        self.bad(BUSY, "is protected by beta, which may run it by now", *run)
        self.bad(BUSY, "is protected by beta", *run, "--check")
        told = self.alpha.says("resolve", "web")
        self.assertEqual((told["state"], told["may_run_here"], told["owner_is"]), ("protected", False, "dead-here"))
        self.assertIn("may still take it over", told["message"])
        self.bad(BUSY, "--run-here --force", self.alpha, "resolve", "web", "--run-here")
        # Somebody takes it over.
        key, other = self.key(uuid), "77" * 16
        self.put(key, {"version": 1, "generation": told["record"]["generation"] + 1, "mode": "solo", "owner": other})
        told = self.alpha.says("resolve", "web")
        self.assertEqual((told["may_run_here"], told["owner_is"]), (False, "elsewhere"))
        self.assertIn("another host's by now: see beta", told["message"])
        self.bad(BUSY, "is protected by beta", *run)
        self.good(self.alpha, "resolve", "web", "--run-here", "--force")
        self.good(*run, "--uuid", uuid)
        # By the person's word, that other is gone: it may be protected again.
        self.good(self.alpha, "protect", "web", "beta")
        self.good(self.alpha, "protect", "web", "--off")

    def test_one_that_was_alone_may_be_started(self):
        self.protect()
        uuid = self.uuid(self.alpha)
        self.good(self.alpha, "protect", "web", "--off")
        with open(os.path.join(self.alpha.state, "protected", "web"), "w", encoding="utf-8") as file:
            json.dump({"uuid": uuid, "peer": "beta", "session": "33" * 16}, file)      # as if it had not been heard
        self.crash(self.alpha)
        self.assertTrue(self.alpha.says("resolve", "web")["may_run_here"])
        self.assertIn("may be started here", self.good(self.alpha, "resolve", "web", "--run-here").stdout)
        start(self.alpha)

    def test_without_the_arbiter_nothing_is_concluded(self):
        self.protect()
        self.crash(self.alpha)
        self.no_backup_matters()
        self.alpha.lists()
        done = self.bad(BUSY, "not known while the arbiter cannot be asked", self.alpha, "resolve", "web", "--run-here")
        self.assertIn("names no arbiter", done.stderr)

    def no_backup_matters(self):
        """The fake's backup ends when its owner does."""
        wait_until(lambda: self.beta.states().get("web") != "running", "the backup is left there")

    def test_a_vm_of_another_is_told(self):
        start(self.alpha)
        uuid = self.uuid(self.alpha)
        self.put(self.key(uuid), {"version": 1, "generation": 1, "mode": "solo", "owner": "77" * 16})
        self.bad(BUSY, "another process's; see utsusu resolve web", self.alpha, "protect", "web", "beta")
        told = self.alpha.says("resolve", "web")
        self.assertEqual((told["state"], told["may_run_here"]), ("foreign", False))
        self.good(self.alpha, "resolve", "web", "--run-here", "--force")
        wait_until(lambda: self.facts(self.alpha)["role"] == "solo", "it is not taken")
        self.good(self.alpha, "protect", "web", "beta")
        self.good(self.alpha, "protect", "web", "--off")
        self.no_backup()

    def test_a_record_goes_with_a_vm_that_is_moved(self):
        self.protect()
        uuid, owner = self.uuid(self.alpha), self.facts(self.alpha)["instance"]
        self.good(self.alpha, "protect", "web", "--off")
        self.no_backup()
        self.good(self.alpha, "move", "web", "beta")
        self.assertEqual(self.record(self.beta, uuid)["record"]["owner"], owner)
        self.assertEqual(self.record(self.beta, uuid)["owner_is"], "dead-here")
        self.good(self.beta, "protect", "web", "alpha")
        self.assertEqual(self.record(self.beta, uuid)["owner_is"], "here")
        self.good(self.beta, "protect", "web", "--off")
        wait_until(lambda: self.alpha.states() == {}, "the backup is left there")

    @staticmethod
    def key(uuid):
        import base64  # pylint: disable=import-outside-toplevel
        return base64.b64encode(f"/utsusu/1/vm/{uuid}".encode()).decode()

    def put(self, key, record):
        import base64  # pylint: disable=import-outside-toplevel
        text = json.dumps(record, separators=(",", ":"))
        post(self.context, self.member, "/v3/kv/put", {"key": key, "value": base64.b64encode(text.encode()).decode()})

    def test_the_new_commands_are_told(self):
        for word in "protect", "failover", "status", "arbiter":
            self.assertRegex(self.good(self.alpha, "help").stdout, rf"(?m)^  {word} ")
            self.assertIn(f"utsusu {word} ", self.good(self.alpha, "--man").stdout.replace("\\-", "-"))
            self.assertRegex(self.good(self.alpha, "--bash-completion").stdout, rf"\b{re.escape(word)}\b")


if not os.access(ETCD, os.X_OK) or not shutil.which("openssl"):
    print("no etcd or no openssl: scripts/dependencies check")
    sys.exit(77)
unittest.main(argv=[sys.argv[0], *sys.argv[4:]])
