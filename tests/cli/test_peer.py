#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Two hosts in one: two daemons with their commands, VMs and movers that are fakes. test_peer.py UTSUSU UTSUSUD

What is real: keys, peers, both lists, the daemons' protocol, the streams, who is started with what, marks and how they are settled.
"""

import contextlib
import fcntl
import json
import os
import pty
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import time
import unittest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import fake_marks  # noqa: E402  pylint: disable=wrong-import-position

PROGRAM, DAEMON = sys.argv[1:3] if len(sys.argv) > 2 else ("", "")
HERE = os.path.dirname(os.path.abspath(__file__))
FAILED, USAGE, HOST, RESOURCE, BUSY, NOT_FOUND = 1, 2, 3, 4, 5, 6
WAIT = 30
HAS_KVM = os.access("/dev/kvm", os.R_OK | os.W_OK)


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Host:
    """One daemon, and the commands of its host."""

    def __init__(self, work, name):
        self.name, self.folder = name, os.path.join(work, name)
        self.bin, self.state = os.path.join(self.folder, "bin"), os.path.join(self.folder, "state")
        self.runtime, self.config = os.path.join(self.folder, "run"), os.path.join(self.folder, "host.json")
        os.makedirs(self.bin)
        os.mkdir(self.runtime, 0o700)
        for source, name_there in ((PROGRAM, "utsusu"), (DAEMON, "utsusud"),
                                   (os.path.join(HERE, "fake_vm.py"), "utsusu-vm"),
                                   (os.path.join(HERE, "fake_move.py"), "utsusu-move"),
                                   (os.path.join(HERE, "fake_marks.py"), "fake_marks.py")):
            shutil.copy(source, os.path.join(self.bin, name_there))
        self.environment = dict(os.environ, UTSUSU_RUNTIME_DIR=self.runtime, UTSUSU_STATE_DIR=self.state,
                                UTSUSU_HOST_CONFIG=self.config, PYTHONDONTWRITEBYTECODE="1")
        self.port, self.daemon = free_port(), None
        self.log = os.path.join(self.folder, "log")

    def init(self):
        self.fingerprint = self.run_daemon("init").stdout.strip()

    def run_daemon(self, *words):
        return subprocess.run([os.path.join(self.bin, "utsusud"), *words], env=self.environment, capture_output=True,
                              encoding="utf-8", timeout=WAIT, check=False)

    def start(self, *before):
        with open(self.log, "a", encoding="utf-8") as log:
            self.daemon = subprocess.Popen(
                [*before, os.path.join(self.bin, "utsusud"), "--listen", "127.0.0.1", "--port", str(self.port)],
                env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        wait_until(lambda: self.utsusu("peer", "show").returncode == 0, "the daemon does not come up")

    def stop(self):
        if self.daemon:
            self.daemon.terminate()
            self.daemon.wait(WAIT)
            self.daemon = None

    def command(self, *words):
        return [os.path.join(self.bin, "utsusu"), *words]

    def utsusu(self, *words):
        return subprocess.run(self.command(*words), env=self.environment, capture_output=True, encoding="utf-8",
                              timeout=2 * WAIT, check=False, stdin=subprocess.DEVNULL)

    def background(self, *words):
        return subprocess.Popen(self.command(*words), env=self.environment, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8")

    def on_terminal(self, typed, *words):
        """(exit status, what the terminal showed) of a command on one."""
        pid, terminal = pty.fork()
        if pid == 0:
            os.execve(self.command()[0], self.command(*words), self.environment)
        os.write(terminal, typed)
        shown = b""
        with contextlib.suppress(OSError):
            while data := os.read(terminal, 4096):
                shown += data
        os.close(terminal)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown.decode()

    def says(self, *words):
        """The answer of a command with --json."""
        return json.loads(self.utsusu(*words, "--json").stdout)

    def states(self):
        return {vm["name"]: vm["state"] for vm in self.says("list")}

    def break_at(self, point):
        with open(os.path.join(self.state, "failpoint"), "w", encoding="utf-8") as file:
            file.write(point)

    def job(self):
        with open(os.path.join(self.state, "job"), encoding="utf-8") as file:
            return json.load(file)

    def lists(self, **lists):
        with open(self.config, "w", encoding="utf-8") as file:
            json.dump(lists, file)

    def logged(self):
        with open(self.log, encoding="utf-8") as file:
            return file.read()


def wait_until(true, complaint, seconds=WAIT):
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            raise AssertionError(complaint)
        time.sleep(0.1)


class Case(unittest.TestCase):
    def setUp(self):
        self.work = tempfile.mkdtemp(prefix="utsusu-peer-")
        self.alpha, self.beta = Host(self.work, "alpha"), Host(self.work, "beta")
        self.hosts = (self.alpha, self.beta)
        for host in self.hosts:
            host.init()
            host.start()

    def tearDown(self):
        for host in self.hosts:
            for name in host.states():
                host.utsusu("stop", name, "--force")
            host.stop()
        try:
            wait_until(lambda: self.processes() == [], "processes are left")
            self.assertEqual(self.left(), [], "left in the runtime directories")
            for host in self.hosts:
                self.assertNotRegex(host.logged(), "Sanitizer|runtime error")
        finally:
            for pid in self.processes():
                os.kill(pid, signal.SIGKILL)
            shutil.rmtree(self.work)

    def processes(self):
        """Of daemons, handlers, VMs and movers of this test: all were started from its folder."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline", "rb") as file:
                    if self.work.encode() in file.read():
                        found.append(int(pid))
            except OSError:
                pass
        return found

    def left(self):
        """But for what the next daemon uses."""
        return [name for host in self.hosts
                for name in os.listdir(host.runtime) + os.listdir(os.path.join(host.runtime, ".utsusud"))
                if name not in (".utsusud", "lock", "socket")]

    def good(self, host, *words):
        done = host.utsusu(*words)
        self.assertEqual(done.returncode, 0, (words, done.stderr, host.logged()))
        return done

    def bad(self, status, message, host, *words):
        done = host.utsusu(*words)
        self.assertEqual(done.returncode, status, (words, done.stdout, done.stderr))
        self.assertIn(message, done.stderr)
        return done

    def introduce(self):
        for host, other in (self.hosts, reversed(self.hosts)):
            self.good(host, "peer", "add", other.name, f"127.0.0.1:{other.port}", "--fingerprint", other.fingerprint)


class Peers(Case):
    def test_a_peer_is_pinned_by_its_key(self):
        address = f"127.0.0.1:{self.beta.port}"
        done = self.bad(USAGE, self.beta.fingerprint, self.alpha, "peer", "add", "beta", address)
        self.assertIn("utsusu peer show", done.stderr)
        self.bad(RESOURCE, "not the one given", self.alpha, "peer", "add", "beta", address, "--fingerprint",
                 self.alpha.fingerprint)
        self.assertEqual(self.alpha.says("peer", "list"), [])
        done = self.good(self.alpha, "peer", "add", "beta", address, "--fingerprint", self.beta.fingerprint)
        self.assertIn(f"--fingerprint {self.alpha.fingerprint}", done.stdout)
        self.assertEqual(self.alpha.says("peer", "list")[0]["fingerprint"], self.beta.fingerprint)
        self.bad(BUSY, "there is a peer of this name", self.alpha, "peer", "add", "beta", address, "--fingerprint",
                 self.beta.fingerprint)
        self.bad(NOT_FOUND, "did you mean beta?", self.alpha, "peer", "remove", "bet")
        self.good(self.alpha, "peer", "remove", "beta")
        self.assertEqual(self.alpha.says("peer", "list"), [])

    def test_a_person_is_asked_whether_the_key_is_right(self):
        words = "peer", "add", "beta", f"127.0.0.1:{self.beta.port}"
        status, shown = self.alpha.on_terminal(b"no\n", *words)
        self.assertEqual((status, self.alpha.says("peer", "list")), (FAILED, []))
        self.assertIn(self.beta.fingerprint, shown)
        self.assertIn("was not added", shown)
        status, shown = self.alpha.on_terminal(b"yes\n", *words)
        self.assertEqual((status, len(self.alpha.says("peer", "list"))), (0, 1), shown)

    def test_this_host_is_no_peer(self):
        self.bad(USAGE, "this host itself", self.alpha, "peer", "add", "me", f"127.0.0.1:{self.alpha.port}",
                 "--fingerprint", self.alpha.fingerprint)

    def test_a_key_is_made_once(self):
        again = self.alpha.run_daemon("init")
        self.assertEqual(again.returncode, BUSY)
        self.assertIn("--anew", again.stderr)
        mode = os.stat(os.path.join(self.alpha.state, "host.key")).st_mode & 0o777
        self.assertEqual((mode, os.stat(self.alpha.state).st_mode & 0o777), (0o600, 0o700))

    def test_one_daemon_for_a_host(self):
        again = self.alpha.run_daemon("--port", str(free_port()))
        self.assertEqual(again.returncode, BUSY)
        self.assertIn("runs already", again.stderr)

    def test_what_a_killed_handler_left_goes_with_the_next_daemon(self):
        self.alpha.stop()
        folder, name = os.path.join(self.alpha.runtime, ".utsusud"), "ab" * 32
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as left:
            left.bind(f"/proc/self/fd/{fd}/{name}")     # an address holds 107 bytes
        os.close(fd)
        self.assertIn(name, os.listdir(folder))
        self.alpha.start()
        self.assertNotIn(name, os.listdir(folder))

    def test_without_a_daemon_the_way_out_is_told(self):
        self.alpha.stop()
        self.bad(HOST, "systemctl enable --now utsusud", self.alpha, "peer", "list")

    def test_bad_words(self):
        for status, message, *words in (
                (USAGE, "add, list, remove or show", "peer"),
                (USAGE, "add, list, remove or show", "peer", "ad"),
                (USAGE, "add NAME ADDRESS", "peer", "add", "beta"),
                (USAGE, "no address", "peer", "add", "beta", "host:0"),
                (USAGE, "no name of a host", "peer", "add", "-", "host"),
                (USAGE, "together", "peer", "add", "beta", "host", "--ca", "/ca.pem"),
                (USAGE, "the opposite", "resolve", "web", "--run-here", "--declare-lost-here"),
                (NOT_FOUND, "no such VM", "move", "web", "beta")):
            done = self.bad(status, message, self.alpha, *words)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)

    def test_strangers_get_no_further(self):
        """Noise, half a handshake, a stream that nobody waits for: each is refused, and the daemon serves on."""
        for noise in (b"GET / HTTP/1.0\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 100, b"UTSUJOIN" + b"\0" * 68,
                      b"UTSUJOIN" + b"\xff" * 68):
            with socket.create_connection(("127.0.0.1", self.beta.port), WAIT) as one:
                one.sendall(noise)
                one.settimeout(WAIT)
                try:
                    while one.recv(1000):
                        pass
                except ConnectionError:
                    pass
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with self.assertRaises((ssl.SSLError, ConnectionError)):  # no certificate of its own
            with socket.create_connection(("127.0.0.1", self.beta.port), WAIT) as one:
                with context.wrap_socket(one) as secure:
                    secure.settimeout(WAIT)
                    if not secure.recv(1000):
                        raise ConnectionError
        self.introduce()


class Signed(Case):
    """An authority in place of pinned keys."""

    def openssl(self, *words):
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=self.work, timeout=WAIT)

    def sign(self, host, name):
        with open(os.path.join(self.work, "names"), "w", encoding="utf-8") as file:
            file.write(f"subjectAltName=DNS:{name}\n")
        self.openssl("req", "-new", "-key", os.path.join(host.state, "host.key"), "-subj", f"/CN={name}", "-out", "csr")
        self.openssl("x509", "-req", "-in", "csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
                     "-extfile", "names", "-out", os.path.join(host.state, "host.crt"))

    def know(self, host, other, identity):
        self.good(host, "peer", "add", other.name, f"127.0.0.1:{other.port}", "--ca",
                  os.path.join(self.work, "ca.pem"), "--identity", identity)

    @unittest.skipUnless(shutil.which("openssl"), "needs openssl")
    def test_signed_is_not_enough(self):
        self.openssl("req", "-x509", "-newkey", "ed25519", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2",
                     "-subj", "/CN=authority")
        self.sign(self.alpha, "alpha.example")
        self.sign(self.beta, "beta.example")
        self.know(self.beta, self.alpha, "alpha.example")
        self.know(self.alpha, self.beta, "gamma.example")
        start(self.alpha)
        self.bad(RESOURCE, "is not signed as gamma.example", self.alpha, "move", "web", "beta", "--check")
        self.good(self.alpha, "peer", "remove", "beta")
        self.know(self.alpha, self.beta, "beta.example")
        self.good(self.alpha, "move", "web", "beta", "--check")


def start(host, *words, name="web"):
    kernel = os.path.join(host.folder, "vmlinuz")
    if not os.path.exists(kernel):
        with open(kernel, "wb") as file:
            file.write(b"kernel")
    done = host.utsusu("run", name, "--kernel", kernel, "--memory", "64M", "--detach", *words)
    if done.returncode:
        raise AssertionError(done.stderr)


@unittest.skipUnless(HAS_KVM, "needs /dev/kvm: hosts are judged as for a real VM")
class Move(Case):
    def setUp(self):
        super().setUp()
        self.introduce()

    def given(self, host, name="web"):
        path = os.path.join(host.state, "given", name)
        with open(path, encoding="utf-8") as file:
            return dict(line.split(" ", 1) for line in file.read().splitlines() if " " in line)

    def lives_on(self, host):
        """There, and soon nowhere else."""
        other = self.beta if host is self.alpha else self.alpha
        self.assertEqual(host.states(), {"web": "running"})
        wait_until(lambda: other.states() == {}, "it is left where it was")

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

    def test_a_vm_that_ends_is_not_called_silent(self):
        start(self.alpha, "--cmdline", "linger")
        self.good(self.alpha, "move", "web", "beta")
        seen = [self.alpha.states()]
        while seen[-1]:
            seen.append(self.alpha.states())
        self.assertNotIn({"web": "silent"}, seen)

    def test_a_doubt_outlives_its_vm(self):
        self.doubt_without_answer()
        self.good(self.alpha, "stop", "web", "--force")
        self.bad(BUSY, "not known yet whether it ran there", self.alpha, "run", "web", "--kernel",
                 os.path.join(self.alpha.folder, "vmlinuz"), "--detach")
        self.beta.start()
        wait_until(lambda: self.alpha.says("resolve", "web")["state"] == "none", "it is not settled")
        start(self.alpha)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
