#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The arbiter's client against a real etcd: three members on loopback, TLS and authentication. test_arbiter.py CLIENT"""

import base64
import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.request
import uuid

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from etcd_members import ETCD, WAIT, Member, end_with_parent, make_certificates, make_users, post, trust  # noqa: E402  pylint: disable=wrong-import-position

CLIENT = sys.argv[1]


class Client:
    """A program with an arbiter of its own; what it is told is read by a thread, so that a silence ends."""

    def __init__(self, case, vm, state=None, ca="ca.crt", urls=None, deadline_ms=15000, user="vm"):
        self.state = state or tempfile.mkdtemp(dir=case.folder)
        self.process = subprocess.Popen(
            [CLIENT, self.state, vm, ",".join(os.path.join(case.folder, file) for file in ca.split(",")), user, "secret", str(deadline_ms),
             *(urls or [member.url for member in case.members])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", preexec_fn=end_with_parent)
        self.lines = queue.Queue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        case.addCleanup(self.close)

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(json.loads(line))

    def tell(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()

    def hears(self):
        return self.lines.get(timeout=WAIT)

    def ask(self, *words):
        self.tell(*words)
        return self.hears()

    def threads(self):
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def close(self):
        if not self.process.stdin.closed:
            self.process.stdin.close()
            self.process.wait(WAIT)
            self.reader.join(WAIT)
            self.process.stdout.close()


class Etcd(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="utsusu-arbiter-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        make_certificates(cls.folder)
        cls.context = trust(cls.folder)
        cls.members = [Member(cls.folder, f"m{number}") for number in range(3)]
        for member in cls.members:
            cls.addClassCleanup(member.close)
            member.start(cls.members)
        cls.wait_for_leader()
        cls.protect()

    @classmethod
    def post(cls, path, body, member=None):
        return post(cls.context, member or cls.members[0], path, body)

    @classmethod
    def wait_for_leader(cls, members=None):
        """Until each of the members has answered a question that needs the others."""
        due = time.monotonic() + WAIT
        for member in members or cls.members:
            while True:
                with contextlib.suppress(OSError):
                    cls.post("/v3/auth/authenticate" if cls.is_protected else "/v3/kv/range",
                             {"name": "vm", "password": "secret"} if cls.is_protected else {"key": "YQ=="}, member)
                    break
                if time.monotonic() > due:
                    with open(os.path.join(cls.folder, member.name + ".log"), encoding="utf-8") as log:
                        raise AssertionError("etcd does not come up: " + log.read()[-2000:])
                time.sleep(0.05)

    is_protected = False

    @classmethod
    def protect(cls):
        make_users(cls.context, cls.members[0])
        cls.is_protected = True

    def won(self, told):
        self.assertEqual(told.get("swapped"), "won", told)
        return told["revision"]

    def test_records_are_made_won_and_lost(self):
        vm = str(uuid.uuid4())
        one, other = Client(self, vm), Client(self, vm)
        self.assertEqual((one.ask("read")["mode"], one.ask("read")["revision"]), ("none", 0))
        first = self.won(one.ask("swap", 0, 1, 1))
        told = other.ask("swap", 0, 1, 2)       # both would have made it: one did
        self.assertEqual((told["swapped"], told["revision"], told["owner"]), ("lost", first, 1))
        second = self.won(other.ask("swap", first, 2, 2))
        told = one.ask("swap", first, 2, 1)
        self.assertEqual((told["swapped"], told["revision"], told["generation"], told["owner"]), ("lost", second, 2, 2))
        told = one.ask("read")
        self.assertEqual((told["stands"], told["revision"], told["mode"]), (True, second, "solo"))
        self.assertEqual((one.threads(), other.threads()), (1, 1))

    def test_a_watch_tells_changes(self):
        vm = str(uuid.uuid4())
        watcher, other = Client(self, vm), Client(self, vm)
        self.assertEqual(watcher.ask("watch")["mode"], "none")
        revision = 0
        for generation in (1, 2, 3):
            revision = self.won(other.ask("swap", revision, generation, generation))
            told = watcher.hears()
            self.assertEqual((told["stands"], told["revision"], told["owner"]), (True, revision, generation))

    def test_a_member_and_a_majority_are_lost_and_come_back(self):
        vm = str(uuid.uuid4())
        client, watcher = (Client(self, vm, deadline_ms=2000) for _ in range(2))
        revision = self.settle(client, 0, 1)
        self.assertEqual(watcher.ask("watch")["revision"], revision)
        self.members[0].kill()
        revision = self.settle(client, revision, 2)
        self.assertEqual(watcher.hears()["revision"], revision)
        self.members[1].kill()
        started = time.monotonic()
        told = client.ask("swap", revision, 3, 1)
        self.assertEqual(told["swapped"], "unknown", told)
        self.assertLess(time.monotonic() - started, 5)
        self.assertFalse(client.ask("read")["stands"])
        for member in self.members[:2]:
            member.start(self.members)
        self.wait_for_leader()
        # Tokens were in the memory of the members that went. A second swap on that revision tells what became of the first.
        revision = self.settle(client, revision, 3)
        told = watcher.hears()
        while told.get("revision") != revision:
            if told["stands"]:      # the doubt ended before the swap
                self.assertEqual(told["generation"], 2)
            told = watcher.hears()

    def settle(self, client, revision, generation):
        """Asks until the outcome is known; the revision of the record that stands there then, which is the wanted one."""
        due = time.monotonic() + WAIT
        while time.monotonic() < due:
            told = client.ask("swap", revision, generation, 1)
            if told["swapped"] != "unknown":
                self.assertEqual((told["generation"], told["owner"]), (generation, 1))
                return told["revision"]
        raise AssertionError(told)

    def test_who_is_not_trusted_gets_no_question(self):
        vm = str(uuid.uuid4())
        for how, why in (({"ca": "other.crt"}, "certificate"),
                         ({"urls": [f"https://wrong.test:{self.members[0].port},127.0.0.1"]}, "wrong.test"),
                         ({"user": ""}, "user name is empty"), ({"user": "nobody"}, "authentication failed")):
            told = Client(self, vm, **how).ask("swap", 0, 1, 1)
            self.assertEqual((told["swapped"], told["may_land"]), ("unknown", False), told)
            self.assertIn(why, told["why"])
        named = Client(self, vm, urls=[f"https://etcd.test:{self.members[0].port},127.0.0.1"])
        self.won(named.ask("swap", 0, 1, 1))

    def test_who_we_are_is_shown_where_it_is_asked_for(self):
        vm, strict = str(uuid.uuid4()), Member(self.folder, "strict")
        self.addCleanup(strict.close)
        strict.start([strict], **{"client-cert-auth": "true", "trusted-ca-file": os.path.join(self.folder, "ca.crt")})
        known = Client(self, vm, ca="ca.crt,member.crt,member.key", urls=[strict.url], user="")
        due = time.monotonic() + WAIT
        while not known.ask("read")["stands"] and time.monotonic() < due:
            time.sleep(0.05)
        stranger = Client(self, vm, urls=[strict.url], user="")
        self.assertEqual(stranger.ask("swap", 0, 1, 1)["swapped"], "unknown")
        self.won(known.ask("swap", 0, 1, 1))

    def test_another_cluster_and_a_record_that_went_are_refused(self):
        vm = str(uuid.uuid4())
        client = Client(self, vm)
        revision = self.won(client.ask("swap", 0, 1, 1))
        client.close()
        alone = Member(self.folder, "alone")
        self.addCleanup(alone.close)
        alone.start([alone])
        due = time.monotonic() + WAIT
        other = Client(self, vm, state=client.state, urls=[alone.url], user="")
        told = other.ask("read")
        while "cluster" not in told["why"] and time.monotonic() < due:
            time.sleep(0.05)
            told = other.ask("read")
        self.assertIn(f"remove arbiter/{vm}", told["why"])
        root = self.post("/v3/auth/authenticate", {"name": "root", "password": "secret"})["token"]
        request = urllib.request.Request(
            self.members[0].url + "/v3/kv/deleterange", headers={"Authorization": root},
            data=json.dumps({"key": base64.b64encode(f"/utsusu/1/vm/{vm}".encode()).decode()}).encode())
        urllib.request.urlopen(request, timeout=WAIT, context=self.context).close()
        again = Client(self, vm, state=client.state)
        self.assertIn("does not have this VM's record any more", again.ask("read")["why"])
        self.assertEqual(again.ask("swap", 0, 1, 1)["failed"], -116)    # ESTALE
        self.assertEqual(again.ask("swap", revision, 2, 1)["swapped"], "unknown")


if not os.access(ETCD, os.X_OK) or not shutil.which("openssl"):
    print("no etcd or no openssl: scripts/dependencies check")
    sys.exit(77)
unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
