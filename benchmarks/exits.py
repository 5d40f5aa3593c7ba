# SPDX-License-Identifier: Apache-2.0
"""What one access of a guest to a device costs, beyond what any monitor must pay."""

from benchmarks.frame import bench
from benchmarks.peers import Qemu

SPLIT = Qemu("q35", irqchip="split")    # the IOAPIC that is read is in user space, as ours is


@bench("exit.pio", unit="us", peer=SPLIT, goal=0.5)
def exit_pio(stage, monitor):
    """Round trip of a read of a port, less that of a bare KVM_RUN loop."""
    return stage.exits(monitor, "pio") - stage.bare_exits("pio")


@bench("exit.mmio", unit="us", peer=SPLIT, goal=0.5)
def exit_mmio(stage, monitor):
    """Round trip of a read of a device's memory, less that of a bare KVM_RUN loop."""
    return stage.exits(monitor, "mmio") - stage.bare_exits("mmio")
