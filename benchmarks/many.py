# SPDX-License-Identifier: Apache-2.0
"""Many small VMs on one machine: how time and memory grow with their number."""

from benchmarks.frame import bench
from benchmarks.stage import INIT

MEMORY = 96     # MiB of one guest
MIB = 1 << 20


def _start(stage, monitor, count):
    return stage.run(monitor, stage.vm(memory=MEMORY), count=count, memory=MEMORY, timeout=600)


def _define(count):
    @bench(f"many.{count}-seconds", unit="s", runs=1)
    def seconds(stage, monitor):
        """From the first command to the first line of the last guest's init."""
        return _start(stage, monitor, count).seconds_to(INIT)

    @bench(f"many.{count}-memory", unit="MiB", runs=1)
    def memory(stage, monitor):
        """Memory of each VM's processes beyond its guest's RAM, on average."""
        return _start(stage, monitor, count).memory / MIB / count


for number in (1, 10, 30):
    _define(number)
