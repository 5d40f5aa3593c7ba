# SPDX-License-Identifier: Apache-2.0
"""The table of benchmarks, and how a ratio comes to be.

A benchmark is a function that measures one monitor and is called for ours and for the peer in turn,
so that what the machine does meanwhile falls on both:

    @bench("boot.time", unit="s", goal=0.8, peer=Qemu("q35"))
    def boot_time(stage, monitor):
        "From the command to the first line of the guest's init."
        return stage.boot(monitor).seconds_to("init")

Without a peer it measures ours alone, and its goal, if any, is a limit of the figure itself. One that gives several figures
at once names its rows, and returns {name of a row: figure}.
"""

import json
import sys
from dataclasses import dataclass
from statistics import median
from typing import Callable, Optional

from labkit import LabError

from benchmarks.failure import Failure
from benchmarks.monitors import Utsusu

TABLE = []
TRIES = 3       # of one measurement


@dataclass
class Row:
    """One figure, one line of what comes out."""
    name: str
    unit: str
    goal: Optional[float] = None    # of the ratio ours/peer; of our figure where there is no peer, or it is not to be judged
    more_is_better: bool = False
    judge_ratio: bool = True

    def goal_text(self, has_peer):
        if self.goal is None:
            return "told"
        unit = "" if has_peer and self.judge_ratio else f" {self.unit}"
        return f"{'>=' if self.more_is_better else '<='} {self.goal}{unit}"


@dataclass
class Benchmark:
    rows: list
    peer: object                # a monitor, or None
    runs: int
    about: str
    measure: Callable           # (stage, monitor) -> float, or {name of a row: float}
    ours: object                # the monitor that is measured beside the peer

    @property
    def name(self):
        return self.rows[0].name

    def figures(self, measured):
        return measured if isinstance(measured, dict) else {self.name: measured}


def bench(name, *, unit, peer=None, goal=None, more_is_better=False, runs=5, ours=None):
    """Puts the decorated measure(stage, monitor) into the table."""
    return bench_rows([Row(name, unit, goal, more_is_better)], peer=peer, runs=runs, ours=ours)


def bench_rows(rows, *, peer=None, runs=5, ours=None):
    """The same for a measure that returns the figures of all these rows."""
    def add(measure):
        about = (measure.__doc__ or "").strip().splitlines()[0]
        TABLE.append(Benchmark(rows, peer, runs, about, measure, ours or Utsusu()))
        return measure
    return add


def chosen(names):
    """The benchmarks with rows of these names; "boot" stands for all that begin with "boot."."""
    def is_meant(benchmark, name):
        return any(row.name == name or row.name.startswith(name + ".") for row in benchmark.rows)

    if not names:
        return TABLE
    for name in names:
        if not any(is_meant(benchmark, name) for benchmark in TABLE):
            raise KeyError(name)
    return [benchmark for benchmark in TABLE if any(is_meant(benchmark, name) for name in names)]


def run(benchmark, stage, runs=None, warm_up=True):
    """Measures in pairs, after one pair that does not count (`warm_up`); returns what is to be printed, a line for each row."""
    monitors = [benchmark.ours] + ([benchmark.peer] if benchmark.peer else [])
    taken = [{row.name: [] for row in benchmark.rows} for _ in monitors]
    count = runs or benchmark.runs
    for number in range(0 if warm_up else 1, count + 1):
        for monitor, figures in zip(monitors, taken):
            measured = benchmark.figures(_measured(benchmark, stage, monitor))
            note = "warm-up" if number == 0 else f"{number}/{count}"
            for row in benchmark.rows:
                progress(f"{row.name} {note} {monitor.name}: {measured[row.name]:.6g} {row.unit}")
                if number:
                    figures[row.name].append(measured[row.name])
    return [_result(benchmark, row, [median(figures[row.name]) for figures in taken], count)
            for row in benchmark.rows]


def _measured(benchmark, stage, monitor):
    """The emulator loses a guest or a machine now and then (docs/lab.md), whoever runs there: then it is measured again."""
    for _ in range(TRIES - 1):
        try:
            return benchmark.measure(stage, monitor)
        except (Failure, LabError, TimeoutError) as failure:
            progress(f"{benchmark.name}: {failure}; again, in a new machine")
            stage.leave_machine()
    return benchmark.measure(stage, monitor)


def _result(benchmark, row, medians, runs):
    ours = medians[0]
    peer = medians[1] if benchmark.peer else None
    ratio = ours / peer if peer else None
    result = {"bench": row.name, "ours": _short(ours), "peer": _short(peer),
              "peer_name": benchmark.peer.name if benchmark.peer else None,
              "unit": row.unit, "ratio": _short(ratio), "runs": runs}
    if row.goal is not None:
        judged = ratio if benchmark.peer and row.judge_ratio else ours
        better = judged >= row.goal if row.more_is_better else judged <= row.goal
        result.update(goal=row.goal_text(benchmark.peer), met=better)
    return result


def _short(value):
    return None if value is None else float(f"{value:.4g}")


def emit(result):
    print(json.dumps(result), flush=True)


def progress(text):
    print(text, file=sys.stderr, flush=True)
