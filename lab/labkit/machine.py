# SPDX-License-Identifier: Apache-2.0
"""One emulated machine: how it is started, and what can be done to it."""

import signal
import subprocess
import time
from pathlib import Path

from . import cache, disks, host, paths, process
from .channel import PORTS, Process
from .errors import LabError
from .initramfs import Initramfs
from .kernels import kernel
from .packages import AMD64
from .programs import program
from .progress import QUIET
from .qmp import Qmp

AGENT = Path(__file__).parent / "agent"
MODULES = ["virtio_pci", "virtio_console", "9p", "9pnet_virtio", "overlay", "virtio_blk", "ext4",
           "crc32c_generic", "virtio_net", "tun", "vhost_net", "virtio_rng"]
SCSI_MODULES = ["configfs", "target_core_mod", "target_core_file", "tcm_loop", "sd_mod", "sg"]
COMMAND_LINE = ("console=ttyS0 quiet panic=1 tsc=reliable mitigations=off nokaslr "
                "random.trust_cpu=on iommu=pt")


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


def base_initramfs(debian, modules):
    """The part of the initramfs that all machines have in common."""
    agent = program("agent")
    busybox = AMD64.files(["busybox-static"]) / "bin/busybox"

    def build(folder):
        archive = Initramfs()
        for name in ("bin", "dev", "proc", "sys"):
            archive.folder(name)
        archive.device("dev/console", 5, 1)
        archive.file("bin/busybox", busybox, 0o755)
        for name in subprocess.run([str(busybox), "--list"], check=True, text=True,
                                   stdout=subprocess.PIPE).stdout.split():
            if name != "busybox":
                archive.link(f"bin/{name}", "busybox")
        archive.file("init", AGENT / "init", 0o755)
        archive.file("agent", agent, 0o755)
        archive.modules(debian, modules)
        archive.write(folder / "initramfs")

    inputs = [agent, busybox, debian.folder, AGENT / "init", "format 3", *modules]
    return cache.built("machine", [str(i) if i in (agent, busybox, debian.folder) else i
                                   for i in inputs], build) / "initramfs"


class Machine:
    """A machine of a lab; made by the Lab, which also remembers its emulator."""

    def __init__(self, lab, name, number):
        self.lab = lab
        self.name = name
        self.number = number
        self.address = f"10.77.0.{number}"
        self.folder = lab.folder / name

    # Starting

    def start(self, progress=QUIET):
        if self.alive():
            raise LabError(f"machine {self.name}", "it runs already")
        self.launch()
        self.await_ready(progress)

    def launch(self):
        self.folder.mkdir(exist_ok=True)
        for number in range(PORTS):
            (self.folder / f"port.{number}.lock").write_bytes(b"free")
            (self.folder / f"port.{number}").unlink(missing_ok=True)
        child = process.start(self._command(), self.folder / "emulator.log", self.lab.bound)
        self.lab.remember(f"machine {self.name}", process.identity(child.pid))
        self._child = child

    def await_ready(self, progress=QUIET, timeout=120):
        """Returns once the agent answers."""
        deadline = time.monotonic() + timeout
        with progress.step(f"machine {self.name} starts"):
            while not (self.folder / f"port.{PORTS - 1}").exists():
                self._check_start(deadline)
                time.sleep(0.02)
            while True:
                try:
                    Process(self.folder, ["true"], connect_timeout=2).wait(60)
                    return self.lab.wires.carrier(self)
                except LabError:
                    self._check_start(deadline)

    def _check_start(self, deadline):
        if hasattr(self, "_child"):
            self._child.poll()
        if self.alive() and time.monotonic() < deadline:
            return
        log = (self.folder / "emulator.log").read_text(errors="replace").strip()
        raise LabError(f"machine {self.name}",
                       "its start takes too long" if self.alive() else "its emulator ended",
                       log.splitlines()[-1] if log else f"see {self.folder}/console.log")

    def _command(self):
        options = self.lab.options
        acceleration, kvm_module = host.accelerator()
        debian = kernel("linux-image-amd64")
        modules = MODULES + [kvm_module]
        modules += ["nvme"] if options["nvme"] or options["share_disk"] else []
        modules += ["e1000e"] if options["nic"] else []
        modules += SCSI_MODULES if options["scsi"] else []
        initrd = self.folder / "initrd"
        with open(initrd, "wb") as out:
            out.write(base_initramfs(debian, modules).read_bytes())
            out.write(self._configuration(debian))
        return ["qemu-system-x86_64", "-name", f"{self.lab.name}-{self.name}", "-nodefaults",
                "-no-user-config", "-display", "none", "-no-reboot", "-machine",
                "q35,kernel-irqchip=split" if "kvm" in acceleration else "q35", *acceleration,
                "-smp", str(options["cpus"]), "-m", str(options["memory"]),
                "-kernel", str(debian.image), "-initrd", str(initrd), "-append", COMMAND_LINE,
                "-serial", f"file:{self.folder}/console.log",
                "-qmp", f"unix:{self.folder}/qmp,server=on,wait=off",
                "-device", "amd-iommu,intremap=on", "-device", "virtio-rng-pci",
                *self._share("root", "/"), *self._share("tree", paths.TREE),
                *self._share("cache", paths.cache_directory()), *self._build_share(),
                *self._ports(), *self._disks(), *self.lab.wires.emulator_options(self),
                *self._nic()]

    @staticmethod
    def _share(tag, folder):
        return ["-fsdev", f"local,id={tag},path={folder},security_model=none,readonly=on,"
                          "multidevs=remap",
                "-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]

    @staticmethod
    def _separate_build():
        build = paths.build_directory()
        return build if build.exists() and not build.is_relative_to(paths.TREE) else None

    def _build_share(self):
        build = self._separate_build()
        return self._share("build", build) if build else []

    def _ports(self):
        options = ["-device", f"virtio-serial-pci,max_ports={PORTS + 1}"]
        for number in range(PORTS):
            options += ["-chardev", f"socket,id=port{number},path={self.folder}/port.{number},"
                                    "server=on,wait=off",
                        "-device", f"virtserialport,chardev=port{number},name=lab.{number}"]
        return options

    def _disks(self):
        options = self.lab.options
        scratch = self.folder / "scratch"
        scratch.unlink(missing_ok=True)
        result = disks.virtio(disks.scratch(scratch), "scratch")
        for serial, image in self.lab.guest_disks():
            result += disks.virtio(image, serial, throw_away=True)
        if options["nvme"]:
            result += disks.nvme(disks.blank(self.folder / "nvme", disks.NVME_SIZE),
                                 f"nvme-{self.name}", shared=False)
        if options["share_disk"]:
            result += disks.nvme(disks.blank(self.lab.folder / "shared", options["share_disk"]),
                                 "shared", shared=True)
        return result

    def _mac(self, kind):
        return f"52:54:00:77:{kind:02x}:{self.number:02x}"

    @property
    def wire_mac(self):
        return self._mac(0)

    def _nic(self):
        if not self.lab.options["nic"]:
            return []
        return ["-netdev", "user,id=nic,restrict=on", "-device",
                f"e1000e,netdev=nic,mac={self._mac(1)}"]

    def _configuration(self, debian):
        build = self._separate_build()
        hosts = ["127.0.0.1 localhost", *(f"{m.address} {m.name}"
                                          for m in self.lab.machines.values())]
        values = {"NAME": self.name, "NUMBER": self.number, "TREE": paths.TREE,
                  "BUILD": build or "", "CACHE": paths.cache_directory(),
                  "MODULES": debian.modules, "WIRE_MAC": self._mac(0), "NIC_MAC": self._mac(1),
                  "HOSTS": "\n".join(hosts)}
        if self.lab.options["scsi"]:
            values["SCSI"] = f"naa.50014057700000{self.number:02x}"
        archive = Initramfs()
        archive.file("lab.conf", "".join(
            "LAB_{}='{}'\n".format(k, str(v).replace("'", "'\\''")) for k, v in values.items()))
        return archive.data()

    # Its life

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
        try:
            Process(self.folder, ["true"], connect_timeout=3).wait(3)
        except (LabError, TimeoutError):
            return "silent"
        return "running"

    def kill(self):
        """A power cut: the emulator ends at once, nothing is written back."""
        self._signal(signal.SIGKILL)
        if hasattr(self, "_child"):
            self._child.wait()

    def freeze(self, qmp=False):
        """Everything in the machine stands still; with qmp its clocks do too."""
        if qmp:
            with self.qmp() as control:
                control.execute("stop")
        else:
            self._must_run()
            process.stop(self._emulator())

    def thaw(self):
        self._signal(signal.SIGCONT, wait=False)
        with self.qmp() as control:
            if control.execute("query-status")["status"] == "paused":
                control.execute("cont")

    def _must_run(self):
        if not self.alive():
            raise LabError(f"machine {self.name}", "it is off", "'lab up' starts it")

    def _signal(self, number, wait=True):
        self._must_run()
        process.kill(self._emulator(), number, wait)

    def qmp(self):
        return Qmp(self.folder / "qmp")

    # Commands in it

    def start_command(self, arguments, *, tty=False, cwd=None, env=None, size=(24, 80), sink=None):
        """Starts a command and returns its Process, which can be written to and waited for."""
        if isinstance(arguments, str):
            arguments = ["sh", "-c", arguments]
        self._must_run()
        variables = {"UTSUSU_BUILD": str(paths.build_directory()),
                     "UTSUSU_CACHE": str(paths.cache_directory()), **(env or {})}
        return Process(self.folder, arguments, tty=tty, cwd=cwd or paths.TREE, env=variables,
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
