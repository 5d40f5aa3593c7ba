# SPDX-License-Identifier: Apache-2.0
"""How soon a guest runs, and what it costs beside its own memory."""

from benchmarks.frame import bench
from benchmarks.peers import Qemu
from benchmarks.stage import INIT

Q35 = Qemu("q35")
MICROVM = Qemu("microvm")
MEMORY = 256
MIB = 1 << 20


@bench("boot.monitor", unit="s", peer=Q35, goal=0.1, runs=7)
def boot_monitor(stage, monitor):
    """From the command's start to the first entry into the guest."""
    return stage.run(monitor, stage.vm(memory=MEMORY), entry=True).seconds_to_entry()


@bench("boot.time", unit="s", peer=Q35, goal=0.8)
def boot_time(stage, monitor):
    """From the command's start to the first line of the guest's init."""
    return stage.run(monitor, stage.vm(memory=MEMORY)).seconds_to(INIT)


@bench("boot.time-microvm", unit="s", peer=MICROVM)
def boot_time_microvm(stage, monitor):
    """The same beside the peer's machine for fast starts."""
    return boot_time(stage, monitor)


@bench("boot.memory", unit="MiB", goal=5, runs=3)
def boot_memory(stage, monitor):
    """Memory of the monitor's processes beyond the guest's RAM, when init runs."""
    return stage.run(monitor, stage.vm(memory=MEMORY), memory=MEMORY).memory / MIB


@bench("boot.memory-ratio", unit="MiB", peer=Q35, runs=3)
def boot_memory_ratio(stage, monitor):
    """The same, beside the peer."""
    return boot_memory(stage, monitor)
