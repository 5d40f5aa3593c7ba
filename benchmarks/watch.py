# SPDX-License-Identifier: Apache-2.0
"""What watching costs: ours watched beside ours left alone, and beside what a peer can trace."""

from labkit.paths import build_directory

from benchmarks import disk, instructions, net
from benchmarks.frame import bench
from benchmarks.monitors import Utsusu
from benchmarks.peers import Qemu

WATCHED = Utsusu(watch="normal")
ALONE = Utsusu(name="utsusu, not watched")
DISPATCH = build_directory() / "benchmarks/dispatch"


@bench("watch.instructions-off", unit="instructions", goal=instructions.WATCH_OFF, runs=1)
def instructions_off(_stage, _monitor):
    """That an exit takes to find that nobody watches."""
    return instructions.count_not_watching(DISPATCH)


@bench("watch.instructions-on", unit="instructions", goal=instructions.WATCH_ON, runs=1)
def instructions_on(_stage, _monitor):
    """That an exit takes longer while each access becomes a record with registers and code."""
    return instructions.count_watching(DISPATCH)


@bench("watch.exit-pio", unit="us", ours=WATCHED, peer=ALONE, goal=1.05)
def exit_pio(stage, monitor):
    """Round trip of a read of a port."""
    return stage.round_trip(monitor, "pio")


@bench("watch.exit-mmio", unit="us", ours=WATCHED, peer=ALONE, goal=1.05)
def exit_mmio(stage, monitor):
    """Round trip of a read of a device's memory."""
    return stage.round_trip(monitor, "mmio")


@bench("watch.disk", unit="IOPS", ours=WATCHED, peer=ALONE, goal=0.97, more_is_better=True, runs=3)
def watched_disk(stage, monitor):
    """Random reads of 4 KiB, 32 at once."""
    return disk.randread(stage, monitor)


@bench("watch.net", unit="Mb/s", ours=WATCHED, peer=ALONE, goal=0.97, more_is_better=True, runs=3)
def watched_net(stage, monitor):
    """One TCP stream into the guest."""
    return net.stream_in(stage, monitor)


class Pair:
    """A monitor without and with its tracing."""

    def __init__(self, name, plain, traced):
        self.name, self.plain, self.traced = name, plain, traced


@bench("watch.beside-trace", unit="us", ours=Pair("utsusu", ALONE, WATCHED),
       peer=Pair("qemu 7.2 -trace", Qemu("q35", irqchip="split"), Qemu("q35", irqchip="split", trace=True)))
def beside_trace(stage, pair):
    """What a read of a port takes longer while all that the monitor can tell of it is recorded."""
    return stage.round_trip(pair.traced, "pio") - stage.round_trip(pair.plain, "pio")
