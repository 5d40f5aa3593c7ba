# SPDX-License-Identifier: Apache-2.0
"""Upgrades beside our own moves of the same guest in the same run: how long it stands still, and how soon it works as before.

Standing still is what both programs say themselves, from the moment in which the vCPUs stop to the one in which they run again: a
client that asks every 5 ms cannot see less than that. What it saw is told as well, where it was more than 20 ms.
"""

import json
from dataclasses import dataclass

from benchmarks.failure import Failure
from benchmarks.frame import Row, bench_rows
from benchmarks.monitors import UtsusuMoves
from benchmarks.pair import BEFORE

AFTER = 5       # seconds in which the guest finds its pages again


@dataclass
class UtsusuUpgrades(UtsusuMoves):
    """The VM stays on its machine and changes its process."""

    def start(self, pair, vm):
        self.vm_name = f"bench{next(self.numbers)}"
        programs = pair.hosts()[0].programs
        command = self.command(vm, programs, self.vm_name)
        at = command.index("--console")
        command[at:at + 2] = ["--console", "socket", "--detach"]
        pair.source.run(command, timeout=120)
        return [pair.source.start_command([f"{programs}/utsusu", "console", self.vm_name])]

    def order(self, pair, _vm):
        return {"command": [f"{pair.hosts()[0].programs}/utsusu", "upgrade", self.vm_name, "--json"]}


def last_word(seen):
    lines = [json.loads(line) for line in seen.said.splitlines() if line.startswith("{") and line.endswith("}")]
    ends = [line for line in lines if line.get("end") == "ran"]
    if not ends:
        raise Failure(f"no end was told: {seen.said[-400:]}")
    return ends[-1]


def measure(stage, monitor, memory, *, prepare, kind="load", beside=None):
    pair = stage.pair()
    vm = pair.vm(kind, memory)
    pair.pages_for(vm)
    running = monitor.start(pair, vm)
    try:
        running[0].expect("utsusu-guest: ready", 120)
        prepare(pair)
        seen = pair.move(monitor.order(pair, vm), beside, after=AFTER, ask_every=0.005)
        if kind == "load":
            pair.check_memory(monitor)
    finally:
        monitor.end(pair, running)
    return seen


def define(case, memory, fill):
    def run(stage, monitor):
        seen = measure(stage, monitor, memory, prepare=lambda pair: pair.ask(f"fill {fill}"))
        return {f"upgrade.down-{case}": last_word(seen)["down_us"] / 1000, f"upgrade.silence-{case}": seen.down * 1000}

    run.__doc__ = f"{memory} MiB with {fill} MiB of random data: an upgrade beside a move."
    bench_rows([Row(f"upgrade.down-{case}", "ms", 0.1), Row(f"upgrade.silence-{case}", "ms", None)],
               peer=UtsusuMoves(), ours=UtsusuUpgrades(), runs=5)(run)


define("256m", 256, 64)
define("2g", 2048, 1024)


def _refault(stage, monitor):
    """1 GiB with Redis under constant writes: what it does in the 5 s after, of the 5 s before."""
    seen = measure(stage, monitor, 1024, kind="redis", prepare=lambda pair: pair.await_redis(), beside="redis")
    work = seen.beside
    per_slot, interval = work["series"], work["interval"]
    first = int((seen.start - work["start"]) / interval)
    last = int((seen.start + seen.total - work["start"]) / interval) + 1
    before = per_slot[max(first - int(BEFORE / interval), 0):first]
    after = per_slot[last:last + int(AFTER / interval) - 1]
    if not before or not sum(before) or not after:
        raise Failure("Redis did nothing before or after it")
    return {"upgrade.refault": (sum(after) / len(after)) / (sum(before) / len(before))}


bench_rows([Row("upgrade.refault", "of before", None, more_is_better=True)], peer=UtsusuMoves(), ours=UtsusuUpgrades(),
           runs=3)(_refault)
