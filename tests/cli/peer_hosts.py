# SPDX-License-Identifier: Apache-2.0
"""Two hosts in one: two daemons with their commands, VMs and movers that are fakes. A test_peer_*.py is given UTSUSU UTSUSUD.

What is real: keys, peers, both lists, the daemons' protocol, the streams, who is started with what, marks and how they are settled.
"""

import contextlib
import json
import os
import pty
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM, DAEMON = sys.argv[1:3] if len(sys.argv) > 2 else ("", "")
ARBITER = sys.argv[3] if len(sys.argv) > 3 and sys.argv[3].endswith("utsusu-arbiter") else ""
HERE = os.path.dirname(os.path.abspath(__file__))
FAILED, USAGE, HOST, RESOURCE, BUSY, NOT_FOUND = 1, 2, 3, 4, 5, 6
WAIT = 30
HAS_KVM = os.access("/dev/kvm", os.R_OK | os.W_OK)


def hold_port():
    """A port on which a daemon may listen, and which nobody else is given as long as this is open: tests run beside each other."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return held


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
        if ARBITER:
            shutil.copy(ARBITER, self.bin)
        self.environment = dict(os.environ, UTSUSU_RUNTIME_DIR=self.runtime, UTSUSU_STATE_DIR=self.state,
                                UTSUSU_HOST_CONFIG=self.config, PYTHONDONTWRITEBYTECODE="1")
        self.held, self.daemon = hold_port(), None
        self.port = self.held.getsockname()[1]
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


class Peer:
    """Alpha as its owner may change it: its key, and any request."""

    def __init__(self, host, to):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(os.path.join(host.state, "host.crt"), os.path.join(host.state, "host.key"))
        self.stream = context.wrap_socket(socket.create_connection(("127.0.0.1", to.port), WAIT))
        self.lines = self.stream.makefile("r")
        self.greeting = json.loads(self.lines.readline())

    def ask(self, **request):
        self.stream.sendall((json.dumps(request) + "\n").encode())
        return json.loads(self.lines.readline())

    def close(self):
        self.lines.close()
        self.stream.close()


def wait_until(true, complaint, seconds=WAIT):
    end, pause = time.monotonic() + seconds, 0.01
    while not true():
        if time.monotonic() > end:
            raise AssertionError(complaint)
        time.sleep(pause)
        pause = min(2 * pause, 0.1)


def start(host, *words, name="web"):
    kernel = os.path.join(host.folder, "vmlinuz")
    if not os.path.exists(kernel):
        with open(kernel, "wb") as file:
            file.write(b"kernel")
    done = host.utsusu("run", name, "--kernel", kernel, "--memory", "64M", "--detach", *words)
    if done.returncode:
        raise AssertionError(done.stderr)


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
            for host in self.hosts:
                host.held.close()
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

    def processes_with(self, word):
        found = []
        for pid in self.processes():
            with contextlib.suppress(OSError), open(f"/proc/{pid}/comm", encoding="ascii") as file:
                if word in file.read():
                    found.append(pid)
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
        self.know(self.alpha, self.beta)
        self.know(self.beta, self.alpha)

    def know(self, host, other):
        self.good(host, "peer", "add", other.name, f"127.0.0.1:{other.port}", "--fingerprint", other.fingerprint)


@unittest.skipUnless(HAS_KVM, "needs /dev/kvm: hosts are judged as for a real VM")
class Known(Case):
    """Both know each other, and a VM may move."""

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

    def third_host(self, *others):
        """Gamma, which these know and which knows them."""
        gamma = Host(self.work, "gamma")
        gamma.init()
        gamma.start()
        self.hosts += (gamma,)
        for other in others:
            self.know(other, gamma)
            self.know(gamma, other)
        return gamma

    def config_of(self, host):
        config = host.says("info", "web")["config"]
        for key in ("kernel", "initrd"):
            config.pop(key, None)
        return config

    def machine(self, config):
        return {"config": config, "version_min": 1, "version": 1, "streams": 1, "generation": 1,
                "kernel": {"sha256": "ab" * 32, "size": 6}}
