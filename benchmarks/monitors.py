# SPDX-License-Identifier: Apache-2.0
"""A VM described once, and how utsusu is told to run it. The peers are in peers.py."""

import itertools
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
    huge: bool = False                          # memory in huge pages of 2 MiB
    moves: bool = False                         # it is to move: ours cannot have vhost then


@dataclass
class Utsusu:
    """Ours, as it was just built."""
    watch: str = None       # a mode: each request is recorded from the first instruction on
    name: str = "utsusu"

    def command(self, vm, programs, name):
        """The command line; `programs` is the folder that ours lie in."""
        command = [f"{programs}/utsusu", "run", name, "--kernel", vm.kernel,
                   "--cmdline", vm.cmdline, "--cpus", str(vm.cpus),
                   "--memory", f"{vm.memory}M" + (",hugepages=on" if vm.huge else ""),
                   "--console", "stdio"]
        if vm.initrd:
            command += ["--initrd", vm.initrd]
        if self.watch:
            command += ["--watch", self.watch]
        for disk in vm.disks:
            command += ["--disk", f"path={disk}"]
        for tap in vm.taps:
            command += ["--net", f"tap={tap}" + (",vhost=on" if vm.vhost else "")]
        return command


@dataclass
class UtsusuMoves(Utsusu):
    """Ours between two machines; the interface is that of peers.QemuMoves."""
    streams: int = 2
    tls: bool = False
    numbers = itertools.count(1)

    def start(self, pair, vm):
        """One end: the other one is made by the machine's daemon."""
        self.vm_name = f"bench{next(self.numbers)}"     # a VM that was given away is not started here again
        return [pair.source.start_command(self.command(vm, pair.hosts()[0].programs, self.vm_name))]

    def order(self, pair, _vm):
        return {"command": [f"{pair.hosts()[0].programs}/utsusu", "move", self.vm_name, pair.target.name, "--json",
                            "--streams", str(self.streams), *([] if self.tls else ["--plain"])]}

    def end(self, pair, ends):
        for host in pair.hosts():
            host.utsusu("stop", self.vm_name, "--force", check=False)
        for one in ends:
            if one.running():
                one.kill()
            one.wait(30)
