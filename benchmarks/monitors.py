# SPDX-License-Identifier: Apache-2.0
"""A VM described once, and how utsusu is told to run it. The peers are in peers.py."""

from dataclasses import dataclass, field


@dataclass
class Vm:
    """What both monitors are given; each turns it into its own command line."""
    kernel: str
    initrd: str = None
    cmdline: str = ""
    cpus: int = 1
    memory: int = 256                           # MiB
    disks: list = field(default_factory=list)   # raw files or block devices
    taps: list = field(default_factory=list)    # names of interfaces that exist
    vhost: bool = False


class Utsusu:
    """Ours, as it was just built."""

    name = "utsusu"

    def command(self, vm, programs, name):
        """The command line; `programs` is the folder that ours lie in."""
        command = [f"{programs}/utsusu", "run", name, "--kernel", vm.kernel,
                   "--cmdline", vm.cmdline, "--cpus", str(vm.cpus), "--memory", f"{vm.memory}M",
                   "--console", "stdio"]
        if vm.initrd:
            command += ["--initrd", vm.initrd]
        for disk in vm.disks:
            command += ["--disk", f"path={disk}"]
        for tap in vm.taps:
            command += ["--net", f"tap={tap}" + (",vhost=on" if vm.vhost else "")]
        return command
