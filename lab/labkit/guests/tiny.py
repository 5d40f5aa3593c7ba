# SPDX-License-Identifier: Apache-2.0
"""Small guests: a Debian kernel and busybox in an initramfs; they boot in seconds."""

import os
import subprocess
from pathlib import Path

from .. import cache
from ..initramfs import Initramfs
from ..kernels import kernel
from ..packages import AMD64, I386
from ..programs import program

INIT = Path(__file__).parent / "tiny-init"
MODULES = ["virtio_pci", "virtio_blk", "virtio_net", "virtio_console", "virtio_rng",
           "virtio_balloon", "evdev", "button"]
LIBRARIES = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/ceph"]
FILES = [*MODULES, "crc32c_generic", "ext4"]     # of guests that have files on a disk
TOOLS = ["fio", "stress-ng", "iperf3"]
REDIS = ["redis-server"]
NO_LIBRARY_OF_A_TOOL = ("dpkg", "debconf", "perl-base", "tar", "init-system-helpers")


def needed_files(root, programs):
    """The programs and the libraries that they load, as paths under root."""
    found, queue = {}, list(programs)
    folders = [root / folder for folder in LIBRARIES]
    while queue:
        path = queue.pop()
        name = path.relative_to(root)
        if name in found:
            continue
        found[name] = path
        dynamic = subprocess.run(["objdump", "-p", str(path.resolve())], check=True, text=True,
                                 stdout=subprocess.PIPE).stdout
        for line in dynamic.splitlines():
            words = line.split()
            if words[:1] == ["NEEDED"]:
                queue += [f / words[1] for f in folders if (f / words[1]).exists()][:1]
    return found


def add_tools(archive, root, names):
    programs = [root / "usr/bin" / name for name in names]
    for name, path in needed_files(root, programs).items():
        archive.file(name, Path(os.path.realpath(path)), 0o755)
    archive.file("etc/environment", f"LD_LIBRARY_PATH={':'.join('/' + f for f in LIBRARIES)}\n")
    loader = "lib64/ld-linux-x86-64.so.2"
    archive.file(loader, Path(os.path.realpath(root / "lib/x86_64-linux-gnu/ld-linux-x86-64.so.2")),
                 0o755)


def _build(name, debian, busybox, extra=None, tools=(), own=(), modules=MODULES):
    """`extra`: the folder that the tools are in; `own`: programs of the lab's."""
    def build(folder):
        archive = Initramfs()
        archive.busybox(busybox)
        archive.file("init", INIT, 0o755)
        archive.modules(debian, modules)
        if extra:
            add_tools(archive, extra, tools)
        for binary in own:
            archive.file(f"bin/{binary.name}", binary, 0o755)
        archive.write(folder / "initrd")
        (folder / "kernel").write_bytes(debian.image.read_bytes())

    inputs = ["1", INIT, Path(__file__), Path(__file__).parents[1] / "initramfs.py",
              str(debian.folder), str(busybox), str(extra), *modules,
              *tools, *map(str, own)]
    folder = cache.built(f"guest-{name}", inputs, build)
    return {"kernel": folder / "kernel", "initrd": folder / "initrd"}


def tiny():
    busybox = AMD64.files(["busybox-static"]) / "bin/busybox"
    return _build("tiny", kernel("linux-image-cloud-amd64"), busybox)


def tools():
    return _with_tools("tools", TOOLS)


def load():
    busybox = AMD64.files(["busybox-static"]) / "bin/busybox"
    return _build("load", kernel("linux-image-cloud-amd64"), busybox, own=[program("load")], modules=FILES)


def redis():
    return _with_tools("redis", REDIS, own=[program("load")])


def _with_tools(name, names, own=()):
    busybox = AMD64.files(["busybox-static"]) / "bin/busybox"
    packages = [p for p in AMD64.closure(names) if p not in NO_LIBRARY_OF_A_TOOL]
    return _build(name, kernel("linux-image-cloud-amd64"), busybox, AMD64.files(packages), names, own)


def tiny32():
    busybox = I386.files(["busybox-static"]) / "bin/busybox"
    return _build("tiny32", kernel("linux-image-686", I386), busybox)
