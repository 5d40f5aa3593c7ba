# SPDX-License-Identifier: Apache-2.0
"""Disks: fio in the guest, on a disk that takes no time (null_blk) and on one that does."""

from benchmarks.frame import bench
from benchmarks.peers import Qemu

Q35 = Qemu("q35")

FIO = ("fio --name=job --filename=/dev/vda --direct=1 --ioengine=libaio --time_based --runtime=6 "
       "--ramp_time=2 --output-format=terse --terse-version=3 ")

# A job's options, and where fio's terse format, counted from 0, has its figure.
RANDREAD = ("--rw=randread --bs=4k --iodepth=32", 7)
RANDWRITE = ("--rw=randwrite --bs=4k --iodepth=32", 48)
SEQ = ("--rw=read --bs=128k --iodepth=8", 6)


def _measure(stage, monitor, job, disk):
    options, field = job
    seen = stage.measured(monitor, FIO + options, timeout=240, disks=[disk])
    return float(seen.line_with("3;fio").split(";")[field])


def _null_disk(stage):
    stage.execute("[ -b /dev/nullb0 ] || modprobe null_blk nr_devices=1 gb=4 queue_mode=2 irqmode=0")
    return "/dev/nullb0"


def _real_disk(stage):
    """The machine's scratch disk, as a block device of its own."""
    stage.execute("mountpoint -q /scratch && umount /scratch || true")
    return stage.execute("readlink -f /dev/disk/by-lab/scratch").strip()


def randread(stage, monitor):
    return _measure(stage, monitor, RANDREAD, _null_disk(stage))


@bench("disk.randread", unit="IOPS", peer=Q35, goal=1.2, more_is_better=True, runs=3)
def disk_randread(stage, monitor):
    """Random reads of 4 KiB, 32 at once."""
    return randread(stage, monitor)


@bench("disk.randwrite", unit="IOPS", peer=Q35, goal=1.2, more_is_better=True, runs=3)
def disk_randwrite(stage, monitor):
    """Random writes of 4 KiB, 32 at once."""
    return _measure(stage, monitor, RANDWRITE, _null_disk(stage))


@bench("disk.seq", unit="KiB/s", peer=Q35, goal=1.2, more_is_better=True, runs=3)
def disk_seq(stage, monitor):
    """Reads of 128 KiB one after the other, 8 at once."""
    return _measure(stage, monitor, SEQ, _null_disk(stage))


@bench("disk.real-randread", unit="IOPS", peer=Q35, more_is_better=True, runs=3)
def disk_real_randread(stage, monitor):
    """Random reads of 4 KiB, 32 at once, on a disk with a latency."""
    return _measure(stage, monitor, RANDREAD, _real_disk(stage))
