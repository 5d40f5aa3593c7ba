# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint costs before any page is copied: the barrier, and the state of everything.

Measured in a running VM under load, by its own command "measure": how long until every writer of guest
memory stands still, and how long the walk over vCPUs and devices takes then.
"""

from benchmarks.frame import bench
from benchmarks.stage import Failure

LOAD = ("stress-ng --cpu {cpus} --timeout 60s & fio --name=job --filename=/dev/vda --rw=randwrite --bs=4k "
        "--direct=1 --ioengine=libaio --iodepth=16 --time_based --runtime=60 --output-format=terse")
ROUNDS = 300
SETUP = """
mountpoint -q /scratch || mount /dev/disk/by-lab/scratch /scratch || exit 1     # disk.real-* take it away
for number in 0 1 2 3; do
	[ -e /scratch/quiesce$number ] || truncate -s 256M /scratch/quiesce$number
	[ -e /sys/class/net/quiesce$number ] || ip tuntap add quiesce$number mode tap vnet_hdr
done
"""


def _measure(stage, monitor, cpus, devices, touched):
    """The reply of a VM with this many vCPUs, and of disks and networks together."""
    stage.execute(SETUP)
    vm = stage.vm(LOAD.format(cpus=cpus), "tools", cpus=cpus, memory=1024,
                  disks=[f"/scratch/quiesce{number}" for number in range(devices // 2)],
                  taps=[f"quiesce{number}" for number in range(devices // 2)])
    request = {"command": "measure", "rounds": ROUNDS, "touched": touched}
    seen = stage.run(monitor, vm, "utsusu-guest: ready", after=6, request=request,
                     socket="/run/utsusu/bench0/socket")
    if not seen.reply.get("ok"):
        raise Failure(f"measure: {seen.reply}")
    return seen.reply


def _define(name, about, figure, cpus=4, devices=8, touched=False, unit="us"):
    def measure(stage, monitor):
        return figure(_measure(stage, monitor, cpus, devices, touched))

    measure.__doc__ = about
    bench(name, unit=unit, runs=1)(measure)


def _median(part):
    return lambda reply: reply[part]["p50_ns"] / 1000


_define("quiesce.barrier", "4 vCPUs, 8 devices, loaded: until all stand still, median.", _median("barrier"))
_define("quiesce.barrier-p99", "The same, the slowest of a hundred.",
        lambda reply: reply["barrier"]["p99_ns"] / 1000)
_define("quiesce.state", "4 vCPUs, 8 devices, loaded: the walk over all state, median.", _median("state"))
_define("quiesce.state-touched", "The same, only devices touched since the last.", _median("state"),
        touched=True)
_define("quiesce.state-1cpu", "With 1 vCPU: what grows with vCPUs.", _median("state"), cpus=1)
_define("quiesce.state-2devices", "With 2 devices: what grows with devices.", _median("state"), devices=2)
_define("quiesce.bytes", "4 vCPUs, 8 devices: bytes of state.", lambda reply: reply["state_bytes"],
        unit="bytes")
