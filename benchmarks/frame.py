# SPDX-License-Identifier: Apache-2.0
"""The table of benchmarks, and how a ratio comes to be.

A benchmark is a function that measures one monitor and is called for ours and for the peer in turn,
so that what the machine does meanwhile falls on both:

    @bench("boot.time", unit="s", goal=0.8, peer=Qemu("q35"))
    def boot_time(stage, monitor):
        "From the command to the first line of the guest's init."
        return stage.boot(monitor).seconds_to("init")

Without a peer it measures ours alone, and its goal, if any, is a limit of the figure itself.
"""

import json
import sys
from dataclasses import dataclass
from statistics import median
from typing import Callable, Optional

from benchmarks.monitors import Utsusu

TABLE = []


@dataclass
class Benchmark:
    name: str
    unit: str
    peer: object                # a monitor, or None
    goal: Optional[float]       # of the ratio ours/peer; of the figure where there is no peer
    more_is_better: bool
    runs: int
    about: str
    measure: Callable           # (stage, monitor) -> float

    def goal_text(self):
        if self.goal is None:
            return "told"
        return f"{'>=' if self.more_is_better else '<='} {self.goal}{'' if self.peer else ' ' + self.unit}"


def bench(name, *, unit, peer=None, goal=None, more_is_better=False, runs=5):
    """Puts the decorated measure(stage, monitor) into the table."""
    def add(measure):
        about = (measure.__doc__ or "").strip().splitlines()[0]
        TABLE.append(Benchmark(name, unit, peer, goal, more_is_better, runs, about, measure))
        return measure
    return add


def chosen(names):
    """The benchmarks of these names; "boot" stands for all that begin with "boot."."""
    if not names:
        return TABLE
    found = [b for b in TABLE if any(b.name == n or b.name.startswith(n + ".") for n in names)]
    for name in names:
        if not any(b.name == name or b.name.startswith(name + ".") for b in found):
            raise KeyError(name)
    return found


def run(benchmark, stage, runs=None):
    """Measures in pairs, after one pair that does not count; returns what is to be printed."""
    monitors = [Utsusu()] + ([benchmark.peer] if benchmark.peer else [])
    figures = [[] for _ in monitors]
    count = runs or benchmark.runs
    for number in range(count + 1):
        for monitor, taken in zip(monitors, figures):
            value = benchmark.measure(stage, monitor)
            note = "warm-up" if number == 0 else f"{number}/{count}"
            progress(f"{benchmark.name} {note} {monitor.name}: {value:.6g} {benchmark.unit}")
            if number:
                taken.append(value)
    return _result(benchmark, [median(taken) for taken in figures], count)


def _result(benchmark, medians, runs):
    ours = medians[0]
    peer = medians[1] if benchmark.peer else None
    ratio = ours / peer if peer else None
    result = {"bench": benchmark.name, "ours": _short(ours), "peer": _short(peer),
              "peer_name": benchmark.peer.name if benchmark.peer else None,
              "unit": benchmark.unit, "ratio": _short(ratio), "runs": runs}
    if benchmark.goal is not None:
        judged = ratio if benchmark.peer else ours
        better = judged >= benchmark.goal if benchmark.more_is_better else judged <= benchmark.goal
        result.update(goal=benchmark.goal_text(), met=better)
    return result


def _short(value):
    return None if value is None else float(f"{value:.4g}")


def emit(result):
    print(json.dumps(result), flush=True)


def progress(text):
    print(text, file=sys.stderr, flush=True)
