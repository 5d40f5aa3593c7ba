# SPDX-License-Identifier: Apache-2.0
"""Networks: iperf3 between the guest and its machine, over a tap."""

import re

from benchmarks.frame import bench
from benchmarks.peers import Qemu

Q35 = Qemu("q35")
TAP = "bench0"
SETUP = f"""
[ -e /sys/class/net/{TAP} ] || ip tuntap add {TAP} mode tap vnet_hdr
ip address replace 10.78.0.1/24 dev {TAP}
ip link set {TAP} up
pidof iperf3 >/dev/null || iperf3 -s -D
"""


def _measure(stage, monitor, job, vhost=False):
    stage.execute(SETUP)
    vm = stage.vm(f"net-{job}", memory=512, taps=[TAP], vhost=vhost)
    seen = stage.run(monitor, vm, "init: done", timeout=120)
    return float(re.search(r"([\d.]+) Kbits/sec", seen.result(job))[1]) / 1000


@bench("net.in", unit="Mb/s", peer=Q35, goal=1.0, more_is_better=True, runs=3)
def net_in(stage, monitor):
    """One TCP stream into the guest, packets through the monitor."""
    return _measure(stage, monitor, "in")


@bench("net.out", unit="Mb/s", peer=Q35, goal=1.0, more_is_better=True, runs=3)
def net_out(stage, monitor):
    """One TCP stream out of the guest, packets through the monitor."""
    return _measure(stage, monitor, "out")


@bench("net.in-vhost", unit="Mb/s", peer=Q35, more_is_better=True, runs=3)
def net_in_vhost(stage, monitor):
    """One TCP stream into the guest, packets through the kernel's vhost-net on both."""
    return _measure(stage, monitor, "in", vhost=True)


@bench("net.out-vhost", unit="Mb/s", peer=Q35, more_is_better=True, runs=3)
def net_out_vhost(stage, monitor):
    """One TCP stream out of the guest, packets through the kernel's vhost-net on both."""
    return _measure(stage, monitor, "out", vhost=True)
