# SPDX-License-Identifier: Apache-2.0
"""A guest that makes each kind of access (guest/accesses.S), and what its listing says of the records of them.

    listing = Listing(build())
    score = Score(listing, records)      records: lines of utsusu watch --json, decoded
"""

import collections
import subprocess
from pathlib import Path

from labkit import cache

HERE = Path(__file__).resolve().parent / "guest"
SOURCES = [HERE / name for name in ("accesses.S", "accesses_list.inc", "accesses.ld")]

# Of accesses.S.
PORTS, ROUND = 0x5000, 0x5fff
SLOT, DEVICE, BORDERS = 64, 0xc1000000, 0xc1100000
KERNEL = 0xffffffff80000000
IMMEDIATE = 0x10000

NAMED = ("on", "before", "paired", "stepped")


def build():
    """The guest's ELF file."""
    command = ["gcc", "-nostdlib", "-static", "-no-pie", f"-Wl,-T,{HERE}/accesses.ld", "-Wl,--build-id=none",
               "-Wl,-z,noexecstack", "-Wl,--no-warn-rwx-segments"]

    def make(folder):
        subprocess.run([*command, "-o", str(folder / "accesses"), str(SOURCES[0])], check=True)

    return cache.built("accesses", [*SOURCES, *command], make) / "accesses"


class Listing:
    """Where each access's instruction is, and which access an address in a record is of."""

    def __init__(self, elf):
        self.where, self.slots = {}, {}
        for line in subprocess.run(["nm", str(elf)], check=True, capture_output=True, text=True).stdout.splitlines():
            value, _, name = line.split()
            if name.startswith("slot_"):
                self.slots[int(value, 16)] = name[len("slot_"):]
            else:
                self.where[name] = int(value, 16)
        # The first slot of a list has a name of its own as well.
        self.slots = {slot: name for slot, name in self.slots.items() if not name.endswith("_first")}

    def access(self, record):
        """The name of the access."""
        address = int(record["address"], 16)
        if record["kind"] == "pio":
            slot = IMMEDIATE + address if address < 0x100 else address - PORTS
        elif address < BORDERS:
            slot = (address - DEVICE) // SLOT
        else:
            slot = (address - BORDERS) // 0x2000
        return self.slots[slot]

    def instruction(self, record):
        """Its address; 64-bit code is gone through in the kernel's half, and where it is in memory."""
        name = self.access(record)
        rip = int(record["registers"].get("rip", "0x0"), 16)
        low = name.startswith("m64") and rip < KERNEL
        return self.where[name] - (KERNEL if low else 0)


class Score:
    """How the records' instructions compare with the listing."""

    def __init__(self, listing, records):
        accesses = [one for one in records if one.get("kind") in ("pio", "mmio")]
        self.rounds = [[]]
        for one in accesses:
            if int(one["address"], 16) == ROUND:
                self.rounds.append([])
            else:
                self.rounds[-1].append(one)
        all_of_them = [one for each in self.rounds for one in each]
        self.seen = {listing.access(one) for one in all_of_them}
        self.verdicts = collections.Counter(one["instruction"]["verdict"] for one in all_of_them)
        self.unnamed = [self._tell(listing, one) for one in all_of_them
                        if one["instruction"]["verdict"] not in NAMED]
        self.wrong = [self._tell(listing, one) for one in all_of_them
                      if one["instruction"]["verdict"] in NAMED
                      and int(one["instruction"]["address"], 16) != listing.instruction(one)]
        self.n = len(all_of_them)

    @staticmethod
    def _tell(listing, record):
        told = record["instruction"]
        return (f"{listing.access(record)} ({record['operation']}, {record['size']}): {told['verdict']} "
                f"{told['address']}, is {listing.instruction(record):#x}")

    def records_of(self, listing, name):
        """How many records the access had in the last whole round."""
        return sum(1 for one in self.rounds[-2] if listing.access(one) == name)
