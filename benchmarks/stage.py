# SPDX-License-Identifier: Apache-2.0
"""Where both monitors run: one lab machine, with the same guest, disks and interfaces for both."""

import json
import shlex
import shutil
import subprocess
from pathlib import Path
from statistics import median

from labkit import Lab, cache
from labkit.initramfs import Initramfs
from labkit.kernels import kernel
from labkit.packages import AMD64
from labkit.paths import build_directory

from benchmarks.monitors import Vm

HERE = Path(__file__).parent
PLACE = "/tmp/bench"        # in the machine: memory, so that reading programs costs the same each time
MODULES = ["virtio_pci", "virtio_mmio", "virtio_blk", "virtio_net"]
QUIET = ("console=ttyS0 quiet panic=-1 tsc=reliable mitigations=off random.trust_cpu=on "
         "i8042.noaux i8042.nokbd")
EXITS = 20000               # of one round in guest/exits.S and guest/bare.c


class Failure(Exception):
    """A measurement that did not come to its end."""


class Booted:
    """What was seen of one or more guests from their monitors' start on."""

    def __init__(self, seen):
        self._start = seen["start"]
        self._entry = seen["entry"]
        self.memory = seen["memory"]
        self.guests = seen["guests"]

    def seconds_to_entry(self):
        if self._entry is None:
            raise Failure("KVM's tracepoint saw no entry into a guest")
        return self._entry - self._start

    def seconds_to(self, text):
        """From the start to the first line with this text, of the guest that came last."""
        return max(self.times_of(text, guest)[0] for guest in self.guests) - self._start

    def times_of(self, text, guest=None):
        lines = (guest or self.guests[0])["lines"]
        return [moment for moment, line in lines if text in line]

    def result(self, name):
        """The rest of the guest's line "result NAME ..."."""
        for _, line in self.guests[0]["lines"]:
            if line.startswith(f"result {name} "):
                return line.split(maxsplit=2)[2]
        raise Failure(f"the guest gave no result for {name}")


class Stage:
    """With "with": the machine is up inside the block."""

    def __init__(self):
        self._lab = Lab(machines=1, cpus=2, memory=6144)

    def __enter__(self):
        self._lab.up()
        self._machine = self._lab["A"]
        self._machine.run("mkdir -p %s && cp %s %s/" % (
            PLACE, " ".join(shlex.quote(str(path)) for path in self._files()), PLACE))
        return self

    def __exit__(self, *_):
        self._lab.down()

    def _files(self):
        programs = [path for path in (build_directory() / "src/programs").glob("utsusu*")
                    if path.is_file() and not path.suffix]
        return [*programs, HERE / "inside.py", kernel("linux-image-cloud-amd64").image,
                small_initrd(), loaded_initrd(), exits_guest(), bare_loop()]

    # Guests

    def vm(self, bench="idle", **options):
        """The benchmarks' Linux guest; "bench" is what guest/init does."""
        loaded = bench != "idle"
        return Vm(kernel=f"{PLACE}/{kernel('linux-image-cloud-amd64').image.name}",
                  initrd=f"{PLACE}/{'loaded' if loaded else 'small'}.initrd",
                  cmdline=f"{QUIET} bench={bench}", **options)

    def run(self, monitor, vm, until="init: first line", count=1, **order):
        """Starts the VM, or several alike, and waits until each guest wrote a line like this."""
        order["commands"] = [monitor.command(vm, PLACE, f"bench{number}") for number in range(count)]
        order.update(until=until, timeout=order.get("timeout", 120))
        seen = json.loads(self.execute(f"/usr/bin/python3 {PLACE}/inside.py",
                                       input=json.dumps(order), timeout=order["timeout"] + 60))
        for guest in seen["guests"]:
            if guest["status"] != "reached":
                last = " / ".join(line for _, line in guest["lines"][-3:])
                raise Failure(f"{monitor.name}: {guest['status']} before '{until}'; last seen: {last}")
        return Booted(seen)

    def execute(self, command, **options):
        return self._machine.run(command, **options).text

    def exits(self, monitor, kind):
        """Microseconds of one exit, as the guest of exits.S makes it: median of three rounds."""
        seen = self.run(monitor, Vm(kernel=f"{PLACE}/exits", memory=64), "mmio ends", times=3)
        begins, ends = seen.times_of(f"{kind} begins"), seen.times_of(f"{kind} ends")
        return median(end - begin for begin, end in zip(begins, ends)) * 1e6 / EXITS

    def bare_exits(self, kind):
        """The same around a loop that does nothing else than KVM_RUN."""
        return json.loads(self.execute(f"{PLACE}/bare"))[kind]


# What runs there, built once and kept by content.

def small_initrd():
    return _initrd("small", [])


def loaded_initrd():
    """With fio and iperf3, and the modules of virtio."""
    return _initrd("loaded", ["fio", "iperf3"])


def _initrd(name, programs):
    busybox = AMD64.files(["busybox-static"]) / "bin/busybox"
    debian = kernel("linux-image-cloud-amd64")
    files = [file for program in programs for file in _with_libraries(shutil.which(program))]

    def build(folder):
        archive = Initramfs()
        for path in ("dev", "proc", "sys", "tmp"):
            archive.folder(path)
        archive.device("dev/console", 5, 1)
        archive.file("bin/busybox", busybox, 0o755)
        applets = subprocess.run([str(busybox), "--list"], check=True, text=True, capture_output=True)
        for applet in applets.stdout.split():
            if applet != "busybox":
                archive.link(f"bin/{applet}", "busybox")
        archive.file("init", HERE / "guest/init", 0o755)
        for target, file in dict(files).items():
            archive.file(target, file, 0o755)
        if programs:
            archive.modules(debian, MODULES)
        archive.write(folder / f"{name}.initrd")

    inputs = [HERE / "guest/init", busybox, *(file for _, file in files), debian.release, *MODULES]
    return cache.built(f"bench-{name}", inputs, build) / f"{name}.initrd"


def _with_libraries(program):
    """(path in the guest, file) of a program of the host and of each library that it needs."""
    listed = subprocess.run(["ldd", program], check=True, text=True, capture_output=True).stdout
    libraries = [word for line in listed.splitlines() for word in line.split() if word.startswith("/")]
    return [(f"bin/{Path(program).name}", Path(program))] + \
        [(library, Path(library)) for library in libraries]


def exits_guest():
    source = HERE / "guest/exits.S"
    command = ["gcc", "-nostdlib", "-static", "-no-pie", f"-DROUND={EXITS}", "-Wl,-e,start,"
               "-Ttext=0x100000,--section-start=.note.pvh=0x108000,--build-id=none,-z,noseparate-code,"
               "-z,noexecstack"]
    return _compiled("exits", source, command)


def bare_loop():
    return _compiled("bare", HERE / "guest/bare.c", ["gcc", "-O2", "-static"])


def _compiled(name, source, command):
    def build(folder):
        subprocess.run([*command, "-o", str(folder / name), str(source)], check=True)

    return cache.built(f"bench-{name}", [source, *command], build) / name
