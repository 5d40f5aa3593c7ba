# SPDX-License-Identifier: Apache-2.0
"""VMs of utsusu in a machine of the lab, for the tests here.

    vm = host.start("--cpus", "2")          a small guest, its console in our hands
    vm.ready()
    assert vm.sh("nproc").strip() == "2"
    vm.power_off()

Every wait has a deadline, generous because the computer may be busy; no test measures time by it.
"""

import contextlib
import itertools
import json
import time

import emulator_faults
from labkit import LabError
from labkit.guests import guest
from labkit.paths import build_directory

PATIENCE = 180          # seconds
LONG_PATIENCE = 400     # for what works hard; less than the silence after which ./check ends a run
PROGRAMS = "/run/utsusu-test"
CONSOLE = "console=ttyS0 quiet panic=-1 random.trust_cpu=on utsusu.echo=off"
PROMPT = "utsusu-guest: ready"


class Vm:
    """A VM that runs attached: the machine's process has the guest's console as its in- and output."""

    _numbers = itertools.count(1)

    def __init__(self, host, name, process):
        self.host = host
        self.name = name
        self.process = process
        self._seen = 0

    def expect(self, text, timeout=PATIENCE):
        """Waits for the text after what was waited for before; returns what came up to its end."""
        start = self._seen
        try:
            output = self.process.expect(text, timeout, start)
        except (LabError, TimeoutError) as error:
            ended = "running" if self.process.running() else f"ended, {self.process.returncode}"
            raise AssertionError(f"{self.name} ({ended}): no {text!r} in {timeout} s; the console ends with:\n"
                                 f"{self.output()[-1500:]}\n{self.errors()[-500:]}") from error
        self._seen = output.find(text.encode(), start) + len(text.encode())
        return output[start:self._seen].decode(errors="replace")

    def ready(self, timeout=PATIENCE):
        self.expect(PROMPT, timeout)
        return self

    def type(self, line):
        self.process.write(line.encode() + b"\n")

    def sh(self, command, timeout=PATIENCE, check=True):
        """A command in the guest's shell; its output, after its exit status was looked at.

        The marks are put together by the guest, so that the echo of the line does not hold them.
        """
        number = next(self._numbers)
        self.type(f"printf 'x%s:' b{number}; {command}; printf 'x%s=%d;' e{number} $?")
        self.expect(f"xb{number}:", timeout)
        output = self.expect(f"xe{number}=", timeout)[:-len(f"xe{number}=")].replace("\r", "")
        status = int(self.expect(";", timeout)[:-1])
        if check:
            assert status == 0, f"in the guest: {command}: exit status {status}: {output}"
            return output
        return status, output

    def wait(self, timeout=PATIENCE):
        """The VM's exit status, once it ended by itself."""
        return self.process.wait(timeout)

    def power_off(self):
        self.type("poweroff -f")
        status = self.wait()
        assert status == 0, self.errors()

    def output(self):
        return bytes(self.process.stdout).decode(errors="replace")

    def errors(self):
        return bytes(self.process.stderr).decode(errors="replace")

    def info(self):
        return self.host.info(self.name)

    @property
    def pid(self):
        return self.info()["pid"]


class Host:
    """A machine as the place of VMs: where the programs are, what runs, what must not be left."""

    def __init__(self, machine):
        self.machine = machine
        self.shared = set()         # names of VMs that live longer than one test
        self._processes = []
        self._names = itertools.count(1)
        self.programs = PROGRAMS
        emulator_faults.watch(machine)
        built = build_directory() / "src/programs"
        # A copy in memory: a build that goes on meanwhile does not change what is tested.
        self.run(f"mkdir -p {PROGRAMS} && cd {built} && for f in utsusu*; do [ -f $f ] || continue; "
                 f"rm -f {PROGRAMS}/$f && cp $f {PROGRAMS}/$f; done")

    # Commands

    def run(self, arguments, timeout=PATIENCE, **options):
        return self.machine.run(arguments, timeout=timeout, **options)

    def sh(self, command, timeout=PATIENCE, check=True):
        """Standard output of a shell command in the machine."""
        return self.run(command, timeout=timeout, check=check).text

    def utsusu(self, *arguments, timeout=PATIENCE, check=True, **options):
        return self.run([f"{PROGRAMS}/utsusu", *arguments], timeout=timeout, check=check, **options)

    def refused(self, *arguments, status, **options):
        """The one line that a command was refused with; it must have left nothing."""
        result = self.utsusu(*arguments, check=False, **options)
        message = result.stderr.decode()
        assert result.returncode == status, f"{result.returncode}: {message}"
        assert message.count("\n") == 1 and message.startswith("utsusu: "), message
        assert self.leftovers() == [], message
        return message

    # VMs

    def new_name(self, stem="t"):
        return f"{stem}{next(self._names)}"

    def arguments(self, options, kind="tiny", cmdline=""):
        """Options of a VM with one of the lab's guests; what is given already is not added."""
        options = [str(option) for option in options]
        files = guest(kind)
        given = {"--kernel": files["kernel"], "--initrd": files.get("initrd"),
                 "--cmdline": f"{CONSOLE} {cmdline}".strip(), "--memory": "256M"}
        for key, value in given.items():
            if value and key not in options:
                options += [key, value]
        return options

    @staticmethod
    def guest_files():
        """The small guest's kernel and initrd."""
        return guest("tiny").values()

    def start(self, *options, guest="tiny", cmdline="", name=None, command=(), env=None):
        name = name or self.new_name()
        arguments = [*command, f"{PROGRAMS}/utsusu", "run", name,
                     *self.arguments(options, guest, cmdline)]
        vm = Vm(self, name, self.machine.start_command(arguments, env=env))
        self._processes.append(vm)
        return vm

    def detach(self, *options, guest="tiny", cmdline="", name=None, check=True):
        """Starts a VM in the background; its name."""
        name = name or self.new_name()
        self.utsusu("run", name, "--detach", *self.arguments(options, guest, cmdline), check=check)
        return name

    def console(self, name):
        """Another look at a VM's console, through utsusu console."""
        process = self.machine.start_command([f"{PROGRAMS}/utsusu", "console", name])
        vm = Vm(self, name, process)
        self._processes.append(vm)
        return vm

    def info(self, name):
        return json.loads(self.utsusu("info", name, "--json").text)

    def list(self):
        """{name: entry} of utsusu list"""
        return {vm["name"]: vm for vm in json.loads(self.utsusu("list", "--json").text)}

    def states(self):
        return {name: vm["state"] for name, vm in self.list().items() if name not in self.shared}

    def until(self, condition, timeout=PATIENCE, what="condition"):
        """Waits until the function returns something true, and returns that."""
        deadline = time.monotonic() + timeout
        while True:
            value = condition()
            if value:
                return value
            assert time.monotonic() < deadline, f"{what} is not so after {timeout} s"
            time.sleep(0.2)

    # What must not be left behind

    def end_all(self):
        """Ends what a test's VMs are still doing; a passed test has ended them itself."""
        mine = [vm for vm in self._processes if vm.name not in self.shared]
        if any(vm.process.running() for vm in mine) or self.states():
            for name in self.states():
                self.utsusu("stop", name, "--force", check=False)
        for vm in mine:
            with contextlib.suppress(LabError, TimeoutError):
                vm.process.wait(5)
            if vm.process.running():
                vm.process.kill()
        self._processes = [vm for vm in self._processes if vm.name in self.shared]

    def command_lines(self):
        """[[process id, word, ...]] of utsusu's programs."""
        text = self.sh("cd /proc; for p in [0-9]*; do read -r c 2>/dev/null <$p/comm || continue; "
                       "case $c in utsusu*|passt*) echo $p $(tr '\\0' ' ' <$p/cmdline);; esac; done")
        return [line.split(" ") for line in text.splitlines()]

    def processes(self):
        """Process ids of utsusu's programs, without those of shared VMs."""
        return [line[0] for line in self.command_lines() if not self.shared.intersection(line)]

    def leftovers(self):
        """Names in the runtime directory and processes that nothing is to be left of."""
        names = set(self.sh("ls /run/utsusu 2>/dev/null || true").split()) - self.shared
        deadline = time.monotonic() + 10
        processes = self.processes()
        while processes and time.monotonic() < deadline:    # the last ones may be ending
            time.sleep(0.2)
            processes = self.processes()
        return [*sorted(names), *processes]

    def sweep(self):
        for pid in self.processes():
            self.run(["kill", "-9", pid], check=False)
        for name in set(self.sh("ls /run/utsusu 2>/dev/null || true").split()) - self.shared:
            self.run(["rm", "-rf", f"/run/utsusu/{name}"])

    # Things of the machine

    @contextlib.contextmanager
    def folder(self):
        """A folder on the machine's own ext4 disk, which takes O_DIRECT."""
        path = f"/scratch/{self.new_name('d')}"
        self.run(["mkdir", path])
        try:
            yield path
        finally:
            self.run(["rm", "-rf", path])

    @contextlib.contextmanager
    def tap(self, name, address=None, *, queues=1, user=None):
        command = ["ip", "tuntap", "add", name, "mode", "tap", "vnet_hdr"]
        command += ["multi_queue"] if queues > 1 else []
        command += ["user", str(user)] if user else []
        self.run(command)
        if address:
            self.run(["ip", "address", "add", address, "dev", name])
        self.run(["ip", "link", "set", name, "up"])
        try:
            yield name
        finally:
            self.run(["ip", "link", "del", name], check=False)
