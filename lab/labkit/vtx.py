# SPDX-License-Identifier: Apache-2.0
"""A machine with VT-x: Bochs emulates what QEMU does not. Slow; for KVM's Intel path alone.

It has no 9p and no virtio. Its initramfs holds what it is for: the fresh build with the libraries
that it loads, and the small guest, each at the path that it has on the host.
"""

import os
import shutil
import subprocess
import tty
from pathlib import Path

from . import paths, process
from .errors import LabError
from .guests import guest
from .image import AGENT
from .initramfs import Initramfs
from .kernels import kernel
from .machine import Machine
from .packages import AMD64
from .programs import program

MODULES = ["kvm_intel"]
BIOS = Path("/usr/share/bochs/BIOS-bochs-latest")
VGA_BIOS = Path("/usr/share/bochs/VGABIOS-lgpl-latest")
GRUB = """set timeout=0
linux /kernel console=ttyS0 nokaslr mitigations=off tsc=reliable lpj=1000000 panic=1 {words}
initrd /initrd
boot
"""
CONFIGURATION = """megs: {memory}
romimage: file={bios}
vgaromimage: file={vga}
cpu: model=corei7_haswell_4770, count=1, ips=50000000, reset_on_triple_fault=0
clock: sync=none
ata0-master: type=cdrom, path={iso}, status=inserted
boot: cdrom
sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy
speaker: enabled=0
display_library: rfb, options="timeout=0"
com1: enabled=1, mode=file, dev={folder}/console.log
com2: enabled=1, mode=term, dev={line}
log: {folder}/bochs.log
panic: action=fatal
error: action=ignore
info: action=ignore
debug: action=ignore
"""


def _libraries(binary):
    """The files that ldd names."""
    done = subprocess.run(["ldd", str(binary)], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL)
    words = [word for line in done.stdout.splitlines() for word in line.split()]
    return {Path(word) for word in words if word.startswith("/")}


def _build_files():
    folder = paths.build_directory() / "src/programs"
    return [path for path in sorted(folder.glob("utsusu*")) if path.is_file()]


class VtxMachine(Machine):
    ports = 1
    start_timeout = 600
    patience = 60
    home = "/"

    def launch(self):
        for needed in ("bochs", "grub-mkrescue"):
            if not shutil.which(needed):
                raise LabError("--vtx", f"there is no {needed}", "run 'scripts/dependencies long'")
        self.folder.mkdir(exist_ok=True)
        self._clear_ports()
        (self.folder / "slow-line").touch()
        (self.folder / "console.log").unlink(missing_ok=True)
        self._make_image()
        master, line = os.openpty()
        tty.setraw(line)
        self._configure(os.ttyname(line))
        bridge = process.start(["/usr/bin/python3", str(Path(__file__).parent / "bridge.py"),
                                str(self.folder / "port.0"), str(master)],
                               self.folder / "bridge.log", self.lab.bound, pass_fds=(master,))
        self._child = process.start(["bochs", "-q", "-f", str(self.folder / "bochsrc"),
                                     "-rc", str(self.folder / "debugger")],
                                    self.folder / "emulator.log", self.lab.bound,
                                    pass_fds=(line,))
        os.close(master)
        os.close(line)
        self.lab.remember(f"bridge {self.name}", process.identity(bridge.pid))
        self.lab.remember(f"machine {self.name}", process.identity(self._child.pid))

    def _may_answer(self):
        """What is sent before the agent listens would be lost, or worse, half of it."""
        console = self.folder / "console.log"
        return console.exists() and b"lab: the machine is up" in console.read_bytes()

    def disks(self):
        return []

    def kill(self):
        super().kill()
        process.kill(self.lab.state(f"bridge {self.name}"))

    def _make_image(self):
        debian = kernel("linux-image-amd64")
        tree = self.folder / "iso"
        shutil.rmtree(tree, ignore_errors=True)
        (tree / "boot/grub").mkdir(parents=True)
        (tree / "boot/grub/grub.cfg").write_text(GRUB.format(words="quiet"))
        shutil.copy(debian.image, tree / "kernel")
        # Compressed: the firmware reads a CD more slowly than the kernel unpacks.
        subprocess.run(["zstd", "-q", "-9", "-o", str(tree / "initrd")], check=True,
                       input=self._initramfs(debian).data())
        done = subprocess.run(["grub-mkrescue", "-o", str(self.folder / "iso.image"), str(tree)],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise LabError("grub-mkrescue", done.stdout.strip().splitlines()[-1],
                           "run 'scripts/dependencies long'")
        shutil.rmtree(tree)

    def _initramfs(self, debian):
        busybox = AMD64.files(["busybox-static"]) / "bin/busybox"
        archive = Initramfs()
        archive.busybox(busybox)
        archive.file("init", AGENT / "init-vtx", 0o755)
        archive.file("agent", program("agent"), 0o755)
        archive.modules(debian, MODULES)
        self._contents(archive)
        return archive

    def _contents(self, archive):
        binaries = _build_files() + [Path(path) for path in self.lab.options["files"]]
        files = {*binaries, *map(Path, guest("tiny").values())}
        for binary in binaries:
            files |= _libraries(binary)
        for file in sorted(files):
            archive.file(file, file.resolve(), file.stat().st_mode & 0o777)

    def _configure(self, line):
        (self.folder / "debugger").write_text("c\n")
        (self.folder / "bochsrc").write_text(CONFIGURATION.format(
            memory=min(self.lab.options["memory"], 1024), bios=BIOS, vga=VGA_BIOS,
            iso=self.folder / "iso.image", folder=self.folder, line=line))

    def sees(self, folder):
        return False

    def state(self):
        state = self.state_of_process()
        return state if state != "running" else self._state_of_agent()

    def freeze(self, qmp=False):
        if qmp:
            raise LabError(f"machine {self.name}", "Bochs has no control socket",
                           "freeze it without --qmp")
        super().freeze()

    def thaw(self):
        self._signal_continue()
