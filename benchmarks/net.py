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


IN, OUT = "-R", ""


def _measure(stage, monitor, direction, vhost=False):
    stage.execute(SETUP)
    command = f"iperf3 -c 10.78.0.1 -t 6 -O 2 -f k {direction}"
    seen = stage.measured(monitor, command, timeout=60, arguments="utsusu.ip=10.78.0.2/24",
                          taps=[TAP], vhost=vhost)
    return float(re.search(r"([\d.]+) Kbits/sec", seen.line_with("receiver"))[1]) / 1000


def stream_in(stage, monitor):
    return _measure(stage, monitor, IN)


@bench("net.in", unit="Mb/s", peer=Q35, goal=1.0, more_is_better=True, runs=3)
def net_in(stage, monitor):
    """One TCP stream into the guest, packets through the monitor."""
    return stream_in(stage, monitor)


@bench("net.out", unit="Mb/s", peer=Q35, goal=1.0, more_is_better=True, runs=3)
def net_out(stage, monitor):
    """One TCP stream out of the guest, packets through the monitor."""
    return _measure(stage, monitor, OUT)


@bench("net.in-vhost", unit="Mb/s", peer=Q35, more_is_better=True, runs=3)
def net_in_vhost(stage, monitor):
    """One TCP stream into the guest, packets through the kernel's vhost-net on both."""
    return _measure(stage, monitor, IN, vhost=True)


@bench("net.out-vhost", unit="Mb/s", peer=Q35, more_is_better=True, runs=3)
def net_out_vhost(stage, monitor):
    """One TCP stream out of the guest, packets through the kernel's vhost-net on both."""
    return _measure(stage, monitor, OUT, vhost=True)
