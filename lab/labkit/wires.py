# SPDX-License-Identifier: Apache-2.0
"""The wires between machines.

Two machines have one wire, AB, with an end in each emulator. More machines have a switch, a
process of the lab's own; the wire of machine C to it is called C, and the path between two
machines, say BC, can be cut in the switch alone.
"""

from .errors import LabError


class Wires:
    def __init__(self, lab):
        self.lab = lab

    def emulator_options(self, machine):
        if len(self.lab.machines) < 2:
            return []
        socket = self.lab.folder / "wire"
        server = "on" if machine.number == 1 and len(self.lab.machines) == 2 else "off"
        return ["-netdev", f"stream,id=wire,server={server},addr.type=unix,addr.path={socket}",
                "-device", f"virtio-net-pci,netdev=wire,mac={machine.wire_mac},id=wire-card"]

    def status(self):
        return {}
