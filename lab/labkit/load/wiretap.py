#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Runs in a machine that holds VMs: notes each frame that leaves it by its wire and is not its own, until its input ends.

wiretap.py [INTERFACE]      a JSON line for each: {"at": seconds of CLOCK_MONOTONIC, "frame": the bytes in hex}; the first line is {"taps":}

What stands here left the host. That it arrived is another matter: a frozen machine's wire may be cut.
"""

import json
import select
import socket
import sys
import time

ETH_P_ALL = 3
FRAME_MAX = 1 << 16
BUFFER = 8 << 20


def main(interface="wire0"):
    own = {_address(name) for name in (interface, "br0")}
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
    tap.bind((interface, ETH_P_ALL))
    print(json.dumps({"taps": interface}), flush=True)
    while True:
        ready, _, _ = select.select([tap, 0], [], [])
        if tap in ready:
            frame, where = tap.recvfrom(FRAME_MAX)
            if where[2] == socket.PACKET_OUTGOING and frame[6:12] not in own:
                print(json.dumps({"at": time.monotonic(), "frame": frame.hex()}), flush=True)
        elif not sys.stdin.buffer.read1(4096):
            return


def _address(interface):
    try:
        with open(f"/sys/class/net/{interface}/address", encoding="ascii") as file:
            return bytes.fromhex(file.read().strip().replace(":", ""))
    except OSError:
        return b""


if __name__ == "__main__":
    main(*sys.argv[1:])
