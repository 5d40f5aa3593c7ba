# SPDX-License-Identifier: Apache-2.0
"""One emulated machine: how it is started, and what can be done to it."""

import signal
import time

from . import disks, emulator, paths, process
from .channel import PORTS, Process
from .errors import LabError
from .progress import QUIET
from .qmp import Qmp
from .volatile import VolatileDisk

# What a machine does not share with its host.
OWN_FOLDERS = ("/tmp", "/run", "/dev", "/proc", "/sys", "/scratch")


class Result:
    """What a command in a machine came to."""

    def __init__(self, arguments, returncode, stdout, stderr):
        self.arguments = arguments
        self.returncode = returncode
        self.stdout = stdout
        self.stderr = stderr

    @property
    def text(self):
        return self.stdout.decode(errors="replace")

    def __repr__(self):
        return (f"Result({self.arguments!r}, returncode={self.returncode}, "
                f"stdout={self.stdout[-400:]!r}, stderr={self.stderr[-400:]!r})")


class Machine:
    """A machine of a lab; made by the Lab, which also remembers its emulator."""

    ports = PORTS
    start_timeout = 300
    home = paths.TREE   # where commands run
    patience = 2        # seconds in which an agent that runs greets

    def __init__(self, lab, name, number):
        self.lab = lab
        self.name = name
        self.number = number
        self.address = f"10.77.0.{number}"
        self.wire_mac = f"52:54:00:77:00:{number:02x}"
        self.nic_mac = f"52:54:00:77:01:{number:02x}"
        self.folder = lab.folder / name
        self.state_disk = VolatileDisk(lab, f"state-{name}", self.folder / "state")

    def disks(self):
        """Those with a volatile cache."""
        return [self.state_disk, *([self.lab.shared_disk] if self.lab.shared_disk else [])]

    # Starting

    def start(self, progress=QUIET):
        if self.alive():
            raise LabError(f"machine {self.name}", "it runs already")
        self.launch()
        self.await_ready(progress)

    def launch(self):
        self.folder.mkdir(exist_ok=True)
        self._clear_ports()
        disks.state(self.state_disk.path, self.lab.options["state_disk"])
        for disk in self.disks():
            disk.start()
        (self.folder / "emulator.log").write_bytes(b"")     # what the one before said is not this one's
        child = process.start(emulator.command(self), self.folder / "emulator.log", self.lab.bound)
        self.lab.remember(f"machine {self.name}", process.identity(child.pid))
        self._child = child

    def _clear_ports(self):
        for number in range(self.ports):
            (self.folder / f"port.{number}.lock").write_bytes(b"free")
            (self.folder / f"port.{number}").unlink(missing_ok=True)

    def await_ready(self, progress=QUIET):
        """Returns once the agent answers. An emulator that found a fault of its own meanwhile is started once more."""
        try:
            self._await_agent(progress)
        except LabError:
            if not self.emulator_fault():
                raise
            self.launch()
            self._await_agent(progress)

    def _await_agent(self, progress):
        deadline = time.monotonic() + self.start_timeout
        with progress.step(f"machine {self.name} starts"):
            while not self._may_answer():
                self._check_start(deadline)
                time.sleep(0.02)
            while True:
                try:
                    Process(self.folder, ["true"], connect_timeout=self.patience).wait(60)
                    return self.lab.wires.carrier(self)
                except LabError:
                    self._check_start(deadline)

    def _may_answer(self):
        return (self.folder / f"port.{self.ports - 1}").exists()

    def _check_start(self, deadline):
        if hasattr(self, "_child"):
            self._child.poll()
        if self.alive() and time.monotonic() < deadline:
            return
        log = (self.folder / "emulator.log").read_text(errors="replace").strip()
        raise LabError(f"machine {self.name}",
                       "its start takes too long" if self.alive() else "its emulator ended",
                       log.splitlines()[-1] if log else f"see {self.folder}/console.log")

    # Its life

    def emulator_fault(self):
        """The assertion by which its emulator ended; empty if it did not (docs/lab.md)."""
        if self.alive():
            return ""
        log = (self.folder / "emulator.log").read_text(errors="replace")
        return next((line for line in log.splitlines() if ": Assertion `" in line), "")

    def _emulator(self):
        return self.lab.state(f"machine {self.name}")

    def alive(self):
        return process.alive(self._emulator())

    def state_of_process(self):
        """off, frozen (by a signal) or running"""
        if not self.alive():
            return "off"
        return "frozen" if process.stopped(self._emulator()) else "running"

    def state(self):
        """off, frozen, paused, running or silent (its agent does not answer)."""
        state = self.state_of_process()
        if state != "running":
            return state
        with self.qmp() as qmp:
            if qmp.execute("query-status")["status"] == "paused":
                return "paused"
        return self._state_of_agent()

    def _state_of_agent(self):
        try:
            Process(self.folder, ["true"], connect_timeout=self.patience).wait(5)
        except (LabError, TimeoutError):
            return "silent"
        return "running"

    def kill(self):
        """A power cut: the emulator ends at once, and its disks forget what was not flushed: so many sectors."""
        self._signal(signal.SIGKILL)
        if hasattr(self, "_child"):
            self._child.wait()
        return sum(disk.await_cut(self) for disk in self.disks())

    def freeze(self, qmp=False):
        """Everything in the machine stands still; with qmp its clocks do too."""
        if qmp:
            with self.qmp() as control:
                control.execute("stop")
        else:
            self._must_run()
            process.stop(self._emulator())

    def thaw(self):
        self._signal_continue()
        with self.qmp() as control:
            if control.execute("query-status")["status"] == "paused":
                control.execute("cont")

    def _signal_continue(self):
        self._signal(signal.SIGCONT, wait=False)

    def _must_run(self):
        if not self.alive():
            raise LabError(f"machine {self.name}", "it is off", "'lab up' starts it")

    def _signal(self, number, wait=True):
        self._must_run()
        process.kill(self._emulator(), number, wait)

    def qmp(self):
        return Qmp(self.folder / "qmp")

    # Commands in it

    def sees(self, folder):
        """Whether the machine has the host's folder of that name."""
        return not any(folder == own or folder.startswith(own + "/") for own in OWN_FOLDERS)

    def start_command(self, arguments, *, tty=False, cwd=None, env=None, size=(24, 80), sink=None):
        """Starts a command and returns its Process, which can be written to and waited for."""
        if isinstance(arguments, str):
            arguments = ["sh", "-c", arguments]
        self._must_run()
        cwd = cwd or self.home
        variables = {"UTSUSU_BUILD": str(paths.build_directory()),
                     "UTSUSU_CACHE": str(paths.cache_directory()), **(env or {})}
        return Process(self.folder, arguments, tty=tty, cwd=cwd, env=variables,
                       size=size, sink=sink)

    def run(self, arguments, *, input=b"", timeout=60, check=True, cwd=None, env=None):
        """Runs a command to its end. A string is given to sh, a list is executed as it is."""
        running = self.start_command(arguments, cwd=cwd, env=env)
        try:
            if input:
                running.write(input.encode() if isinstance(input, str) else input)
            running.close_stdin()
            status = running.wait(timeout)
        except BaseException:
            running.disconnect()
            raise
        result = Result(arguments, status, bytes(running.stdout), bytes(running.stderr))
        if check and status:
            raise LabError(f"machine {self.name}, {arguments!r}", f"exit status {status}",
                           f"output {result.stdout[-1000:]!r} {result.stderr[-1000:]!r}")
        return result

    def disk(self, serial):
        """The device of the disk with this serial number: scratch, guest-debian, shared, ..."""
        return f"/dev/disk/by-lab/{serial}"
