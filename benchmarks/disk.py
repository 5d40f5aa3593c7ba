# SPDX-License-Identifier: Apache-2.0
"""Disks: fio in the guest, on a disk that takes no time (null_blk) and on one that does."""

from benchmarks.frame import bench
from benchmarks.peers import Qemu

Q35 = Qemu("q35")

# fio's terse format, version 3, counted from 0: reads' and writes' bandwidth and operations.
READ_KIB, READ_IOPS, WRITE_IOPS = 6, 7, 48
FIELD = {"randread": READ_IOPS, "randwrite": WRITE_IOPS, "seq": READ_KIB}


def _measure(stage, monitor, job, disk):
    vm = stage.vm(f"disk-{job}", memory=512, disks=[disk])
    seen = stage.run(monitor, vm, "init: done", timeout=240)
    return float(seen.result(job).split(";")[FIELD[job]])


def _null_disk(stage):
    stage.execute("[ -b /dev/nullb0 ] || modprobe null_blk nr_devices=1 gb=4 queue_mode=2 irqmode=0")
    return "/dev/nullb0"


def _real_disk(stage):
    """The machine's scratch disk, as a block device of its own."""
    stage.execute("mountpoint -q /scratch && umount /scratch || true")
    return stage.execute("readlink -f /dev/disk/by-lab/scratch").strip()


@bench("disk.randread", unit="IOPS", peer=Q35, goal=1.2, more_is_better=True, runs=3)
def disk_randread(stage, monitor):
    """Random reads of 4 KiB, 32 at once."""
    return _measure(stage, monitor, "randread", _null_disk(stage))


@bench("disk.randwrite", unit="IOPS", peer=Q35, goal=1.2, more_is_better=True, runs=3)
def disk_randwrite(stage, monitor):
    """Random writes of 4 KiB, 32 at once."""
    return _measure(stage, monitor, "randwrite", _null_disk(stage))


@bench("disk.seq", unit="KiB/s", peer=Q35, goal=1.2, more_is_better=True, runs=3)
def disk_seq(stage, monitor):
    """Reads of 128 KiB one after the other, 8 at once."""
    return _measure(stage, monitor, "seq", _null_disk(stage))


@bench("disk.real-randread", unit="IOPS", peer=Q35, more_is_better=True, runs=3)
def disk_real_randread(stage, monitor):
    """Random reads of 4 KiB, 32 at once, on a disk with a latency."""
    return _measure(stage, monitor, "randread", _real_disk(stage))
