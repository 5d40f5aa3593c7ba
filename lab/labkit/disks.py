# SPDX-License-Identifier: Apache-2.0
"""Disks of the machines: raw files, sparse, and the emulator's options for them."""

import subprocess

from . import cache
from .errors import LabError

UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
SCRATCH_SIZE = 8 << 30
NVME_SIZE = 1 << 30
STATE_SIZE = 128 << 20


def parse_size(text):
    text = str(text).upper().removesuffix("IB").removesuffix("B")
    unit = UNITS.get(text[-1:], 1)
    number = text[:-1] if unit > 1 else text
    if not number.isdigit() or int(number) == 0:
        raise LabError(f"size '{text}'", "not a number with K, M or G", "write for example 2G")
    return int(number) * unit


def blank(path, size):
    if not path.exists():
        with open(path, "wb") as file:
            file.truncate(size)
    return path


def copy_sparse(source, target):
    subprocess.run(["cp", "--sparse=always", "--reflink=auto", str(source), str(target)],
                   check=True)
    target.chmod(0o600)


def scratch(path):
    """An empty ext4 disk: machines need one file system that takes O_DIRECT and may be written."""
    return _formatted(path, "scratch", SCRATCH_SIZE)


def state(path, size):
    """An ext4 disk for what a machine must remember."""
    return _formatted(path, "state", size)


def _formatted(path, name, size):
    def build(folder):
        image = blank(folder / "disk", size)
        subprocess.run(["/sbin/mke2fs", "-q", "-t", "ext4", "-m", "0", "-L", name,
                        "-b", "4096", "-E", "lazy_itable_init=1,lazy_journal_init=1", str(image)], check=True)

    if not path.exists():
        copy_sparse(cache.built(name, [size, 3], build) / "disk", path)
    return path


def virtio(path, serial, *, read_only=False, throw_away=False, cache_mode="unsafe"):
    """Options for a virtio disk; throw_away keeps the file as it is and forgets all writes."""
    return ["-drive", f"file={path},format=raw,if=none,id={serial},cache={cache_mode},"
                      f"discard=unmap,readonly={'on' if read_only else 'off'},"
                      f"snapshot={'on' if throw_away else 'off'}",
            "-device", f"virtio-blk-pci,drive={serial},serial={serial}"]


def nvme(path, name):
    return ["-blockdev", f"driver=raw,node-name={name},file.driver=file,file.filename={path},"
                         "cache.direct=off,cache.no-flush=off", *nvme_card(name)]


def nvme_card(node):
    return ["-device", f"nvme,drive={node},serial={node}"]


def virtio_card(node):
    return ["-device", f"virtio-blk-pci,drive={node},serial={node}"]
