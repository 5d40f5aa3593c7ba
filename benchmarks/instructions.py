#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Counts the instructions of one exit: from KVM's return through the dispatcher and back to its entry.

Natively, over the fake KVM, by callgrind: the same figure on every computer. As a test it fails when
the figure is over its limit, so that the path of every guest access does not grow unseen.
"""

import re
import shutil
import subprocess
import sys
import tempfile

# What it was, and a tenth. A change that needs more must say why, and raise the limit in sight.
LIMITS = {"none": 338, "tap": 371}
# What watching may add to an exit: while nobody watches, and while each access becomes a record.
WATCH_OFF, WATCH_ON = 4, 250
EXITS = 10000
THE_TEST = "if (list_empty(&bus->taps))"


def count(program, taps):
    """Instructions of one exit of dispatch.c; the fake KVM's own are taken away."""
    whole = _collected(program, 2 * EXITS, taps) - _collected(program, EXITS, taps)
    inside = "--toggle-collect=kvm_vcpu_run"
    fake = _collected(program, 2 * EXITS, taps, inside) - _collected(program, EXITS, taps, inside)
    return (whole - fake) / EXITS


def count_watching(program):
    """Instructions that a record of each access adds."""
    return count(program, "watch") - count(program, "none")


def count_not_watching(program):
    """Instructions of the one test that finds that nobody watches: those of its line, and what is inlined there."""
    with tempfile.NamedTemporaryFile() as out:
        subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out.name}", program, str(EXITS),
                        "none"], capture_output=True, check=True)
        text = subprocess.run(["callgrind_annotate", "--auto=yes", "--threshold=100", out.name],
                              capture_output=True, text=True, check=True).stdout
    lines = [line for line in text.splitlines() if THE_TEST in line or line.endswith("list.h:bus_dispatch")
             or "list.h:bus_dispatch [" in line]
    if not any(THE_TEST in line for line in lines):
        raise LookupError(f"no line '{THE_TEST}' in what callgrind saw of bus.c")
    return sum(int(line.split()[0].replace(",", "")) for line in lines) / EXITS


def _collected(program, exits, taps, *options):
    done = subprocess.run(["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *options,
                           program, str(exits), taps], capture_output=True, text=True, check=True)
    return int(re.search(r"Collected : (\d+)", done.stderr)[1])


def main():
    if not shutil.which("valgrind"):
        print("no valgrind")
        return 77
    over = 0
    for taps, limit in LIMITS.items():
        counted = count(sys.argv[1], taps)
        print(f"one exit, taps {taps}: {counted:.0f} instructions, limit {limit}")
        over += counted > limit
    for name, counted, limit in (("off", count_not_watching(sys.argv[1]), WATCH_OFF),
                                 ("on", count_watching(sys.argv[1]), WATCH_ON)):
        print(f"watching {name}: {counted:.0f} instructions more, limit {limit}")
        over += counted > limit
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
