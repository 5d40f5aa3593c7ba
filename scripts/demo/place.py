# SPDX-License-Identifier: Apache-2.0
"""Where the demonstration happens: on this machine, or on one of the lab's. Both do the same."""

import os
import shutil
import subprocess
import tempfile
import threading
import time

from labkit import Lab, host
from labkit.guests import guest
from labkit.paths import build_directory
from labkit.progress import Progress

GUEST = "debian"


def choose():
    """This machine, where its KVM runs stock kernels and a network can be made; else the lab."""
    return Here() if host.has_real_kvm() and os.geteuid() == 0 else InLab()


class Here:
    """Commands run on this machine."""

    about = "this machine's own KVM runs stock kernels: the guest runs right here"

    def __enter__(self):
        self.guest = guest(GUEST)
        self._folder = tempfile.mkdtemp(prefix="utsusu-demo-")
        self.disk = os.path.join(self._folder, "disk")
        subprocess.run(["cp", "--sparse=always", self.guest["disk"], self.disk], check=True)
        os.chmod(self.disk, 0o600)
        self.programs = str(build_directory() / "src/programs")
        self._started = []
        return self

    def __exit__(self, *_):
        for one in self._started:
            one.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, command, timeout=60):
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, timeout=timeout,
                              stdin=subprocess.DEVNULL)
        if done.returncode:
            raise RuntimeError(f"{command}: exit status {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def start(self, command):
        started = _Started(command)
        self._started.append(started)
        return started


class _Started:
    """A command that runs here; like the lab's Process, as far as the story needs it."""

    def __init__(self, command):
        self.stdout, self.stderr = bytearray(), bytearray()     # the second's words are in the first
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=subprocess.STDOUT)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while data := os.read(self._process.stdout.fileno(), 65536):
            self.stdout += data

    def running(self):
        return self._process.poll() is None

    def wait(self, timeout):
        return self._process.wait(timeout)

    def kill(self):
        self._process.kill()
        self._process.wait()


class InLab:
    """Commands run on an emulated machine that has a real KVM."""

    about = ("this machine's processor offers no virtualisation to KVM (no vmx or svm flag): the guest\n"
             "runs in the lab, on an emulated machine with these same files and a KVM of its own")

    def __enter__(self):
        self.guest = guest(GUEST)
        self._lab = Lab(machines=1, memory=4096)
        self._lab.up(Progress())
        self._machine = self._lab["A"]
        self.disk = self._machine.disk(f"guest-{GUEST}")
        # In the machine's memory: what is read from its host's files is slow the first time.
        self.programs = "/tmp/utsusu"
        self.run(f"mkdir {self.programs} && cp {build_directory()}/src/programs/utsusu* {self.programs}/"
                 " 2>/dev/null || true", timeout=120)
        return self

    def __exit__(self, *_):
        self._lab.down()

    def run(self, command, timeout=60):
        return self._machine.run(command, timeout=timeout).text

    def start(self, command):
        return self._machine.start_command(command)


class Console:
    """The lines that a started VM writes, each with its moment; shown as they come if wanted."""

    def __init__(self, started, show):
        self._started = started
        self._show = show
        self._seen = 0

    def wait_for(self, text, timeout):
        """Shows lines until one holds the text; raises when the VM ends or time is out."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            lines = bytes(self._started.stdout).decode(errors="replace").replace("\r", "").split("\n")
            for line in lines[self._seen:-1]:
                self._show(line)
                self._seen += 1
                if text in line:
                    return
            if not self._started.running() and self._seen >= len(lines) - 1:
                break
            time.sleep(0.02)
        last = bytes(self._started.stdout[-500:] + self._started.stderr[-500:])
        raise RuntimeError(f"the VM {'did not come to' if self._started.running() else 'ended before'}"
                           f" '{text}'; its last words:\n{last.decode(errors='replace')}")
