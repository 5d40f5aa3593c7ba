# SPDX-License-Identifier: Apache-2.0
"""What a machine starts from: kernel modules, busybox, the agent, and its own configuration."""

from pathlib import Path

from . import cache, paths
from .initramfs import Initramfs
from .packages import AMD64
from .programs import program

AGENT = Path(__file__).parent / "agent"
MODULES = ["virtio_pci", "virtio_console", "9p", "9pnet_virtio", "overlay", "virtio_blk", "ext4",
           "crc32c_generic", "virtio_net", "tun", "vhost_net", "virtio_rng"]
SCSI_MODULES = ["configfs", "target_core_mod", "target_core_file", "tcm_loop", "sd_mod", "sg"]


def modules_for(options, kvm_module):
    modules = [*MODULES, kvm_module]
    modules += ["nvme"] if options["nvme"] or options["share_disk"] else []
    modules += ["e1000e"] if options["nic"] else []
    modules += ["bridge"] if options["bridge"] else []
    modules += SCSI_MODULES if options["scsi"] else []
    return modules


def _common(debian, modules):
    """The part that all machines with these modules share."""
    agent = program("agent")
    busybox = AMD64.files(["busybox-static"]) / "bin/busybox"

    def build(folder):
        archive = Initramfs()
        archive.busybox(busybox)
        archive.file("init", AGENT / "init", 0o755)
        archive.file("agent", agent, 0o755)
        archive.modules(debian, modules)
        archive.write(folder / "initramfs")

    inputs = [AGENT / "init", Path(__file__), Path(__file__).parent / "initramfs.py",
              str(agent), str(busybox), str(debian.folder), *modules]
    return cache.built("machine", inputs, build) / "initramfs"


def separate_build():
    """The build's folder where it is not in the tree; None where the tree brings it along."""
    build = paths.build_directory()
    return build if build.exists() and not build.is_relative_to(paths.TREE) else None


def _configuration(machine, debian):
    hosts = ["127.0.0.1 localhost", *(f"{one.address} {one.name}"
                                      for one in machine.lab.machines.values())]
    values = {"NAME": machine.name, "NUMBER": machine.number, "TREE": paths.TREE,
              "BUILD": separate_build() or "", "CACHE": paths.cache_directory(),
              "MODULES": debian.modules, "WIRE_MAC": machine.wire_mac, "NIC_MAC": machine.nic_mac,
              "HOSTS": "\n".join(hosts), "SCSI": "", "BRIDGE": "yes" if machine.lab.options["bridge"] else ""}
    if machine.lab.options["scsi"]:
        values["SCSI"] = f"naa.50014057700000{machine.number:02x}"
    archive = Initramfs()
    archive.file("lab.conf", "".join(
        "LAB_{}='{}'\n".format(key, str(value).replace("'", "'\\''"))
        for key, value in values.items()))
    return archive.data()


def write(path, machine, debian, modules):
    """Archives may follow each other: the kernel unpacks them all."""
    with open(path, "wb") as out:
        out.write(_common(debian, modules).read_bytes())
        out.write(_configuration(machine, debian))
