# SPDX-License-Identifier: Apache-2.0
"""What one access of a guest to a device costs, beyond what any monitor must pay."""

from labkit.paths import build_directory

from benchmarks import instructions
from benchmarks.frame import bench
from benchmarks.peers import Qemu

SPLIT = Qemu("q35", irqchip="split")    # the IOAPIC that is read is in user space, as ours is


@bench("exit.pio", unit="us", peer=SPLIT, goal=0.5)
def exit_pio(stage, monitor):
    """Round trip of a read of a port, less that of a bare KVM_RUN loop."""
    return stage.exits(monitor, "pio")


@bench("exit.mmio", unit="us", peer=SPLIT, goal=0.5)
def exit_mmio(stage, monitor):
    """Round trip of a read of a device's memory, less that of a bare KVM_RUN loop."""
    return stage.exits(monitor, "mmio")


@bench("exit.instructions", unit="instructions", goal=instructions.LIMITS["none"], runs=1)
def exit_instructions(_stage, _monitor):
    """From KVM's return to its next entry, for a read that a device answers; no taps."""
    return instructions.count(build_directory() / "benchmarks/dispatch", "none")


@bench("exit.instructions-tap", unit="instructions", goal=instructions.LIMITS["tap"], runs=1)
def exit_instructions_tap(_stage, _monitor):
    """The same while one tap looks on."""
    return instructions.count(build_directory() / "benchmarks/dispatch", "tap")
