#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The relay of a VM and `arbiter check` against a real etcd; the VM is this test. test_protect_relay.py ARBITER"""

import contextlib
import fcntl
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import uuid

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from etcd_members import ETCD, WAIT, Member, end_with_parent, make_certificates, make_users, post, trust  # noqa: E402  pylint: disable=wrong-import-position

ARBITER = sys.argv[1]
HOST = 3
ME, OTHER, SESSION = "11" * 16, "22" * 16, "33" * 16


def wait_until(true, complaint):
    due = time.monotonic() + WAIT
    while not true():
        if time.monotonic() > due:
            raise AssertionError(complaint)
        time.sleep(0.02)


class Vm:
    """A VM's name, its lock and its socket, on which a test says what the VM says."""

    def __init__(self, case, name="web"):
        self.case, self.name, self.uuid = case, name, str(uuid.uuid4())
        self.folder = os.path.join(case.runtime, name)
        os.mkdir(self.folder, 0o700)
        self.lock = open(os.path.join(self.folder, "lock"), "w", encoding="ascii")
        fcntl.fcntl(self.lock, fcntl.F_OFD_SETLK, struct.pack("hhqqixxxx", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(os.path.join(self.folder, "socket"))
        self.listening.listen()
        self.listening.settimeout(WAIT)
        self.client = None
        case.addCleanup(self.end)

    def accept(self):
        """A relay comes, and asks who this is."""
        self.hang_up()
        self.client, _ = self.listening.accept()
        self.client.settimeout(WAIT)
        self.lines = self.client.makefile("r")
        facts = self.hear("move-facts")
        self.answer(facts, uuid=self.uuid)

    def hear(self, command):
        """The next line; the watch may tell of a swap before its own answer does."""
        line = self.read()
        while line["command"] == "arbiter-stands" != command:
            self.answer(line)
            line = self.read()
        self.case.assertEqual(line["command"], command, line)
        return line

    def read(self):
        line = self.lines.readline()
        self.case.assertTrue(line, "the relay has gone")
        return json.loads(line)

    def say(self, **line):
        self.client.sendall((json.dumps(line) + "\n").encode())

    def answer(self, to, **more):
        self.say(ok=True, id=to["id"], **more)

    def attached(self, instance=ME):
        attach = self.hear("arbiter-attach")
        self.answer(attach, instance=instance)
        return attach

    def swap(self, want):
        self.say(event="arbiter-swap", want=want)
        told = self.hear("arbiter-swapped")
        self.answer(told)
        return told

    def hang_up(self):
        if self.client:
            self.lines.close()
            self.client.close()
            self.client = None

    def end(self):
        self.hang_up()
        self.listening.close()
        self.lock.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def solo(generation, revision, owner=ME):
    return {"version": 1, "generation": generation, "mode": "solo", "owner": owner, "revision": revision}


class Relay(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.etcd = tempfile.mkdtemp(prefix="utsusu-relay-")
        cls.addClassCleanup(shutil.rmtree, cls.etcd)
        make_certificates(cls.etcd)
        cls.member = Member(cls.etcd, "only")
        cls.addClassCleanup(cls.member.close)
        cls.member.start([cls.member])
        cls.context = trust(cls.etcd)
        wait_until(cls.serves, "etcd does not come up")
        make_users(cls.context, cls.member)
        with open(os.open(os.path.join(cls.etcd, "password"), os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="ascii") as file:
            file.write("secret\n")

    @classmethod
    def serves(cls):
        with contextlib.suppress(OSError):
            post(cls.context, cls.member, "/v3/kv/range", {"key": "YQ=="})
            return True
        return False

    def setUp(self):
        self.work = tempfile.mkdtemp(prefix="utsusu-relay-")
        self.addCleanup(shutil.rmtree, self.work)
        self.runtime, self.state, self.config = (os.path.join(self.work, name) for name in ("run", "state", "host.json"))
        self.door = os.path.join(self.runtime, ".utsusud")
        os.mkdir(self.runtime, 0o700)
        os.mkdir(self.door, 0o700)
        os.mkdir(self.state, 0o700)
        self.environment = dict(os.environ, UTSUSU_RUNTIME_DIR=self.runtime, UTSUSU_STATE_DIR=self.state,
                                UTSUSU_HOST_CONFIG=self.config)
        self.arbiter()

    def arbiter(self, **words):
        arbiter = {"endpoints": [self.member.url], "ca": os.path.join(self.etcd, "ca.crt"), "user": "vm",
                   "password_file": os.path.join(self.etcd, "password"), **words}
        with open(self.config, "w", encoding="utf-8") as file:
            json.dump({"arbiter": {key: value for key, value in arbiter.items() if value is not None}}, file)

    def ask(self, *words):
        return subprocess.run([ARBITER, *words], env=self.environment, capture_output=True, encoding="utf-8", timeout=WAIT,
                              check=False)

    def relay(self, vm, **note):
        note = {"uuid": vm.uuid, "peer": "beta", "session": SESSION, **note}
        with open(os.path.join(self.door, "relay-" + vm.name), "w", encoding="ascii") as file:
            json.dump(note, file)
        return self.relay_again(vm)

    def relay_again(self, vm):
        log = open(os.path.join(self.work, "log"), "a+", encoding="utf-8")
        self.addCleanup(log.close)
        relay = subprocess.Popen([ARBITER, "--vm", vm.name], env=self.environment, stderr=log, preexec_fn=end_with_parent)

        def end():
            relay.kill()
            relay.wait(WAIT)
        self.addCleanup(end)
        return relay

    def logged(self):
        with open(os.path.join(self.work, "log"), encoding="utf-8") as file:
            return file.read()

    def protected(self, name="web"):
        return os.path.exists(os.path.join(self.state, "protected", name))

    def test_a_vm_gets_its_record_and_keeps_it(self):
        vm = Vm(self)
        relay = self.relay(vm)
        vm.accept()
        self.assertTrue(vm.attached()["none"])
        first = vm.swap(solo(1, 0))
        self.assertEqual((first["outcome"], first["record"]["owner"]), ("won", ME))
        revision = first["record"]["revision"]
        self.assertFalse(self.protected())
        protected = vm.swap({**solo(2, revision), "mode": "protected", "backup": SESSION})
        self.assertEqual(protected["outcome"], "won")
        with open(os.path.join(self.state, "protected", "web"), encoding="utf-8") as file:
            self.assertEqual(json.load(file), {"uuid": vm.uuid, "peer": "beta", "session": SESSION})
        lost = vm.swap(solo(2, revision))
        self.assertEqual((lost["outcome"], lost["record"]["mode"]), ("lost", "protected"))
        self.assertTrue(self.protected())
        last = vm.swap(solo(3, protected["record"]["revision"]))
        self.assertEqual(last["outcome"], "won")
        self.assertFalse(self.protected())
        vm.end()
        self.assertEqual(relay.wait(WAIT), 0)

    def test_what_others_change_is_told(self):
        vm = Vm(self)
        self.relay(vm)
        vm.accept()
        vm.attached()
        revision = vm.swap(solo(1, 0))["record"]["revision"]
        other = Vm(self, "other")
        other.uuid = vm.uuid        # as seen from the other host
        self.relay(other)
        other.accept()
        self.assertEqual(other.attached(OTHER)["record"]["owner"], ME)
        revision = other.swap(solo(2, revision, OTHER))["record"]["revision"]
        told = vm.hear("arbiter-stands")
        while told["record"]["owner"] == ME:        # of its own swap
            told = vm.hear("arbiter-stands")
        self.assertEqual((told["record"]["owner"], told["record"]["revision"]), (OTHER, revision))

    def test_there_are_never_two(self):
        vm = Vm(self)
        self.relay(vm)
        vm.accept()
        self.assertEqual(self.relay_again(vm).wait(WAIT), 0)

    def test_a_new_relay_goes_on(self):
        vm = Vm(self)
        relay = self.relay(vm)
        vm.accept()
        vm.attached()
        revision = vm.swap(solo(1, 0))["record"]["revision"]
        relay.kill()
        self.relay_again(vm)
        vm.accept()
        attach = vm.attached()
        self.assertEqual((attach["record"]["revision"], attach.get("dead")), (revision, None))

    def test_an_instance_that_ended_is_told(self):
        vm = Vm(self)
        relay = self.relay(vm)
        vm.accept()
        vm.attached()
        vm.swap(solo(1, 0))
        # As if its process had been another one, which is gone.
        path = os.path.join(self.state, "arbiter", vm.uuid + ".instances")
        with open(path, encoding="utf-8") as file:
            notes = json.load(file)
        self.assertEqual((notes[0]["id"], notes[0]["pid"]), (ME, os.getpid()))
        self.assertEqual(json.loads(self.ask("--record", vm.uuid).stdout)["owner_is"], "here")
        notes[0]["start"] -= 1
        with open(path, "w", encoding="utf-8") as file:
            json.dump(notes, file)
        self.assertEqual(json.loads(self.ask("--record", vm.uuid).stdout)["owner_is"], "dead-here")
        relay.kill()
        self.relay_again(vm)
        vm.accept()
        self.assertEqual(vm.attached(OTHER)["dead"], ME)

    def test_a_swap_may_come_before_the_answer(self):
        vm = Vm(self)
        self.relay(vm)
        vm.accept()
        attach = vm.hear("arbiter-attach")
        vm.say(event="arbiter-swap", want=solo(1, 0))
        vm.answer(attach, instance=ME)
        self.assertEqual(vm.hear("arbiter-swapped")["outcome"], "won")
        self.assertTrue(os.path.exists(os.path.join(self.state, "arbiter", vm.uuid + ".instances")))

    def test_an_owner_that_ends_later_is_told(self):
        vm = Vm(self)
        self.relay(vm)
        vm.accept()
        vm.attached()
        vm.swap(solo(1, 0, OTHER))     # as if another process of this host had it
        with open(os.path.join(self.state, "arbiter", vm.uuid + ".instances"), "w", encoding="utf-8") as file:
            json.dump([{"id": OTHER, "declared_dead": True}], file)
        self.assertEqual(vm.attached()["dead"], OTHER)

    def test_another_vm_of_the_name_gets_none(self):
        vm = Vm(self)
        relay = self.relay(vm, uuid=str(uuid.uuid4()))
        vm.accept()
        self.assertEqual(relay.wait(WAIT), 0)
        self.assertEqual(os.listdir(self.door), [])

    def test_a_vm_that_refuses_is_asked_again(self):
        vm = Vm(self)
        self.relay(vm)
        vm.accept()
        attach = vm.hear("arbiter-attach")
        vm.say(error={"message": "not now", "status": 1}, id=attach["id"])
        vm.attached()
        self.assertIn("takes no arbiter now: not now", self.logged())

    def test_a_silent_arbiter_is_waited_for(self):
        vm = Vm(self)
        self.member.kill()
        try:
            self.relay(vm)
            vm.accept()
            wait_until(lambda: "arbiter" in self.logged().replace("utsusu-arbiter", ""), "it says nothing")
        finally:
            self.member.start([self.member])
        self.assertTrue(vm.attached()["none"])
        self.assertEqual(self.logged().count("\n"), 1)

    def test_nonsense_ends_it(self):
        for nonsense in ({"no": "event"}, {"event": "arbiter-swap", "want": {"revision": 0}}):
            vm = Vm(self)
            relay = self.relay(vm)
            vm.accept()
            vm.attached()
            vm.say(**nonsense)
            if "event" in nonsense:
                self.assertEqual(vm.hear("arbiter-swapped")["outcome"], "unknown")
            else:
                self.assertEqual(relay.wait(WAIT), 1)
            vm.end()

    def test_check_tells_who_answers(self):
        done = self.ask("--check")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertRegex(done.stdout, r"a read took \d+ ms")
        self.assertIn("1 of 1 members answer, as user vm", done.stdout)
        self.arbiter(endpoints=[self.member.url, "https://127.0.0.1:1"])
        answer = json.loads(self.ask("--check", "--json").stdout)
        self.assertEqual(([one["answers"] for one in answer["members"]], answer["ok"]), ([True, False], True))
        self.assertEqual(os.listdir(self.state), [])

    def test_check_says_what_is_wrong(self):
        for words, message in (({"endpoints": ["https://127.0.0.1:1"]}, "no member can be asked"),
                               ({"endpoints": ["etcd:2379"]}, "is no address of an etcd"),
                               ({"endpoints": []}, "endpoints: is empty"),
                               ({"endpoints": ["https://etcd.test:2379"]}, "address beside it"),
                               ({"ca": None}, "https:// needs ca"),
                               ({"ca": os.path.join(self.etcd, "other.crt")}, "certificate"),
                               ({"user": None}, "give user and password_file together"),
                               ({"user": None, "password_file": None}, "user name is empty"),
                               ({"password_file": os.path.join(self.etcd, "ca.crt")}, "chmod 600"),
                               ({"password": "secret"}, "unknown key"),
                               ({"certificate": "/c"}, "certificate and key together")):
            self.arbiter(**words)
            done = self.ask("--check")
            self.assertNotEqual(done.returncode, 0, words)
            self.assertIn(message, done.stderr, words)
        os.unlink(self.config)
        done = self.ask("--check")
        self.assertEqual(done.returncode, HOST)
        self.assertIn("names no arbiter", done.stderr)


if not os.access(ETCD, os.X_OK) or not shutil.which("openssl"):
    print("no etcd or no openssl: scripts/dependencies check")
    sys.exit(77)
unittest.main(argv=[sys.argv[0], *sys.argv[2:]])
