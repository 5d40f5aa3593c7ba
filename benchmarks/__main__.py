# SPDX-License-Identifier: Apache-2.0
"""./bench [--runs N] [--no-warm-up] [--list] [NAME...]: prepares, measures in pairs, prints one line for each."""

import argparse
import contextlib
import subprocess
import sys

from checks import build, process
from checks.report import Report

from benchmarks import boot, disk, exits, frame, many, move, net, protect, quiesce, restore, ring, upgrade, watch, wire     # noqa: F401: they fill the table
from benchmarks.stage import Stage


def main():
    arguments = _arguments()
    if arguments.list:
        for benchmark in frame.TABLE:
            peer = f"beside {benchmark.peer.name}" if benchmark.peer else ""
            for row in benchmark.rows:
                print(f"{row.name:18} {row.goal_text(benchmark.peer):10} {benchmark.about} {peer}".rstrip())
        return 0
    try:
        chosen = frame.chosen(arguments.names)
    except KeyError as unknown:
        print(f"./bench: no benchmark {unknown}; ./bench --list names them", file=sys.stderr)
        return 2
    process.adopt_descendants()
    try:
        return _measure(chosen, arguments)
    except KeyboardInterrupt:
        frame.progress("interrupted; ending what runs")
        return 130
    finally:
        process.sweep()


def _arguments():
    parser = argparse.ArgumentParser(
        prog="./bench", description="Measures each promise beside a peer, in the same lab machine.")
    parser.add_argument("--runs", type=int, metavar="N", help="pairs of runs (default: each its own)")
    parser.add_argument("--no-warm-up", action="store_true",
                        help="count the first pair, too: for a look at many in machines that are warm after the first")
    parser.add_argument("--list", action="store_true", help="list the benchmarks and end")
    parser.add_argument("names", nargs="*", metavar="NAME",
                        help="boot.time, or boot for all of that group (default: all)")
    return parser.parse_args()


def _measure(chosen, arguments):
    subprocess.run(["scripts/dependencies", "bench"], check=True, stdout=sys.stderr)
    with contextlib.redirect_stdout(sys.stderr):
        if not build.make("build", Report()):
            return 1
    failed = False
    with Stage() as stage:
        for benchmark in chosen:
            failed |= not _one(benchmark, stage, arguments)
    return 1 if failed else 0


def _one(benchmark, stage, arguments):
    """One that fails does not take the others with it: its line says why."""
    try:
        for result in frame.run(benchmark, stage, arguments.runs, warm_up=not arguments.no_warm_up):
            frame.emit(result)
        return True
    except Exception as error:      # whatever a monitor, a guest or the lab came to
        frame.emit({"bench": benchmark.name, "error": str(error)})
        return False


sys.exit(main())
