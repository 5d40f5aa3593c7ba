# SPDX-License-Identifier: Apache-2.0
"""The suites: THE table, and the few lines that each needs to start."""

from dataclasses import dataclass
from typing import Callable

from checks import build, fuzz, machine, meson_tests, process, style

SHAKEN = 900            # seconds with --long, for each sanitizer


def _style(report, _long):
    built = build.make("build", report)
    style.run(report, "build" if built else None)


def _unit(report, long):
    if build.make("build", report):
        meson_tests.run("unit", "build", report, long, each=3)      # daemons and commands mostly wait


def _sim(report, long):
    if build.make("build", report):
        meson_tests.run("sim", "build", report, long)


def _sanitize(report, long):
    for directory, label in (("build-asan", "address: "), ("build-tsan", "thread: ")):
        if build.make(directory, report):
            meson_tests.run("unit", directory, report, long, label)
            meson_tests.run("sim", directory, report, long, label)
            if long:
                status, output = process.run(["scripts/shake", directory, str(SHAKEN)])
                report.verdict(f"{label}tests with random delays", output.splitlines() if status else [])


def _fuzz(report, long):
    if build.make("build-fuzz", report):
        fuzz.run(report, "build-fuzz", long)


def _web(report, long):
    if build.make("build", report):
        machine.run(report, long, "tests/web")


def _watch(report, long):
    if build.make("build", report):
        machine.run(report, long, only="test_watch_*.py")


def _move(report, long):
    if build.make("build", report):
        machine.run(report, long, only="test_move_*.py")


def _protect(report, long):
    if build.make("build", report):
        machine.run(report, long, only="test_protect_*.py")


def _machine(report, long):
    if build.make("build", report):
        machine.run(report, long, without=("test_watch_*.py", "test_move_*.py", "test_protect_*.py"))


@dataclass
class Suite:
    name: str
    about: str
    budget: int         # seconds on two processors, without --long, once all is installed and built
    long_budget: int
    packages: list      # groups of scripts/dependencies
    run: Callable       # (report, long)


# In the order in which they run: what fails soonest first.
SUITES = [
    Suite("style", "form, layers, sizes, leftovers", 120, 120, ["check"], _style),
    Suite("unit", "each room by itself, cmocka", 60, 60, ["build"], _unit),
    Suite("sim", "whole VMs in one process, seeded, with a fake clock", 120, 1800, ["build"], _sim),
    Suite("sanitize", "unit and sim with ASAN+UBSAN and with TSAN", 480, 3600, ["build"], _sanitize),
    Suite("fuzz", "corpora, a short run, coverage of each parser", 480, 3600, ["check"], _fuzz),
    Suite("web", "the page of `utsusu watch --web` in a browser", 90, 90, ["web"], _web),
    Suite("watch", "requests of real guests in the lab: watched, stopped on, debugged", 900, 3600,
          ["check", "lab"], _watch),
    Suite("move", "VMs moved between two machines, and what may break meanwhile", 1500, 21600, ["check", "lab"], _move),
    Suite("protect", "VMs that a second machine protects lose the first one, an arbiter, wires, processes", 900, 28800,
          ["check", "lab"], _protect),
    Suite("machine", "the lab, and real guests in it", 1500, 21600, ["check", "lab"], _machine),
]
