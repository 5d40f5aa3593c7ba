# SPDX-License-Identifier: Apache-2.0
"""A VM out of its file: how soon its guest runs, which is not to depend on its size, and how soon all of its memory is there."""

from dataclasses import dataclass

from benchmarks.failure import Failure
from benchmarks.frame import Row, bench_rows
from benchmarks.upgrade import UtsusuUpgrades

FILE = "/scratch/bench.saved"


@dataclass
class UtsusuRestores(UtsusuUpgrades):
    """A VM of this size, with so many MiB of random data in its memory."""
    memory: int = 256
    fill: int = 64

    def __post_init__(self):
        self.name = f"{self.memory} MiB"

    def save(self, pair):
        """And nothing of it is left in the machine's memory."""
        pair.source.run([f"{pair.hosts()[0].programs}/utsusu", "save", self.vm_name, FILE], timeout=180)
        pair.source.run("sync; echo 3 >/proc/sys/vm/drop_caches")

    def restore(self, pair):
        """(seconds to the guest's first instruction, to the last byte of its memory)"""
        seen = pair.drive({"command": [f"{pair.hosts()[0].programs}/utsusu", "restore", FILE], "until": " runs: "})
        if not seen["finished"] or not seen["until"]:
            raise Failure(f"the restore failed: {seen['said'][-400:]}")
        return seen["until"] - seen["start"], seen["end"] - seen["start"]


def _restore(stage, monitor):
    """2 GiB with 1 GiB of random data beside 256 MiB with 64 MiB, both out of a file on a disk that is not cached."""
    pair = stage.pair()
    vm = pair.vm("load", monitor.memory)
    running = monitor.start(pair, vm)
    try:
        running[0].expect("utsusu-guest: ready", 120)
        pair.ask(f"fill {monitor.fill}")
        monitor.save(pair)
        first, whole = monitor.restore(pair)
        pair.check_memory(monitor)
    finally:
        monitor.end(pair, running)
        pair.source.run(f"rm -f {FILE}")
    return {"restore.first": first, "restore.whole": whole}


bench_rows([Row("restore.first", "s", 1.2), Row("restore.whole", "s", None)], peer=UtsusuRestores(),
           ours=UtsusuRestores(memory=2048, fill=1024), runs=3)(_restore)
