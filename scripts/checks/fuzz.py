# SPDX-License-Identifier: Apache-2.0
"""Fuzz targets: each replays its corpus, runs a while, and covers the parsers that it names.

Target queue-reset is tests/fuzz/fuzz_queue_reset.c with a comment line "covers: room/file.c ..." among
its first 20, a line in tests/fuzz/meson.build, and a corpus in tests/fuzz/corpus/queue-reset/. Coverage is counted over the replayed corpora alone, so that it
is the same in every run.
"""

import glob
import json
import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from checks import process, tree
from checks.report import say

LINES_COVERED = 85          # percent of each parser's lines, at least
SECONDS_TOGETHER = 120      # of a short run, over all targets
AT_ONCE = min(2, os.cpu_count() or 1)   # targets, each one process
SECONDS_EACH_LONG = 120
LIMITS = ["-rss_limit_mb=1024", "-timeout=10", "-verbosity=0", "-print_final_stats=0"]

_COVERS = re.compile(r"covers: ([\w./ -]+)")


@dataclass
class Target:
    name: str
    program: str
    corpus: str
    covers: list


def targets(build):
    """The targets, from their sources."""
    found = []
    for path in tree.tracked("tests/fuzz/fuzz_*.c"):
        name = os.path.basename(path)[len("fuzz_"):-len(".c")].replace("_", "-")
        covers = [file for line in tree.lines(path)[:20] for match in _COVERS.findall(line)
                  for file in match.split() if file.endswith(".c")]
        found.append(Target(name, f"{build}/tests/fuzz/fuzz-{name}", f"tests/fuzz/corpus/{name}", covers))
    return found


def run(report, build, long):
    found = targets(build)
    if not found:
        report.fail("there are fuzz targets", "tests/fuzz holds no fuzz_*.c")
        return
    profiles = f"{build}/profiles"
    shutil.rmtree(profiles, ignore_errors=True)
    os.makedirs(profiles)
    os.makedirs(f"{build}/crashes", exist_ok=True)
    seconds = SECONDS_EACH_LONG if long else max(3, SECONDS_TOGETHER // len(found))
    say(f"  {len(found)} targets, {seconds} s each, {AT_ONCE} at once")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for told in pool.map(lambda target: _try(target, build, profiles, seconds), found):
            for tell in told:
                tell(report)
    _coverage(found, report, build)


def _try(target, build, profiles, seconds):
    """What there is to report of a target, each as a function of the report: only one thread writes there."""
    good, replayed = _replay(target, profiles)
    return [replayed, _explore(target, build, seconds)] if good else [replayed]


def _replay(target, profiles):
    name = f"{target.name}: corpus"
    inputs = len(os.listdir(target.corpus)) if os.path.isdir(target.corpus) else 0
    if not target.covers:
        return False, _failure(name, "its source names no file in a 'covers:' line")
    if not inputs:
        return False, _failure(name, f"{target.corpus}/ is empty; scripts/fuzz {target.name} grows one")
    status, output = process.run(
        [target.program, *LIMITS, "-runs=0", f"-artifact_prefix={target.corpus}/", target.corpus],
        env={"LLVM_PROFILE_FILE": f"{profiles}/{target.name}.profraw"}, timeout=120)
    if status:
        return False, _failure(name, output)
    return True, lambda report: report.ok(name, f"{inputs} inputs")


def _failure(name, output):
    return lambda report: report.fail(name, output)


def _explore(target, build, seconds):
    """A run with a fixed seed; what it finds new goes to a folder of the build directory."""
    name = f"{target.name}: run"
    found = f"{build}/found/{target.name}"
    os.makedirs(found, exist_ok=True)
    prefix = f"{build}/crashes/{target.name}-"
    before = set(glob.glob(prefix + "*"))
    status, output = process.run(
        [target.program, *LIMITS, "-seed=1", f"-max_total_time={seconds}",
         f"-artifact_prefix={prefix}", found, target.corpus],
        env={"LLVM_PROFILE_FILE": "/dev/null"}, timeout=seconds + 60)
    if status == 0:
        return lambda report: report.ok(name, f"{seconds} s")
    crashes = sorted(set(glob.glob(prefix + "*")) - before)
    repeat = [f"repeat with: {target.program} {path}" for path in crashes]
    return _failure(name, "\n".join([output] + repeat))


def _coverage(found, report, build):
    """Each covered file's share of lines, over all targets together."""
    merged = f"{build}/profiles/all.profdata"
    profiles = glob.glob(f"{build}/profiles/*.profraw")
    programs = [target.program for target in found if os.path.exists(target.program)]
    if not profiles or not programs:
        report.fail("coverage", "no target left a profile")
        return
    status, output = process.run(["llvm-profdata-14", "merge", "-sparse", "-o", merged, *profiles])
    if status == 0:
        objects = [part for program in programs[1:] for part in ("-object", program)]
        status, output = process.run(["llvm-cov-14", "export", "-summary-only",
                                      f"-instr-profile={merged}", programs[0], *objects])
    start = output.find("{")
    if status or start < 0:
        report.fail("coverage", output)
        return
    files = json.JSONDecoder().raw_decode(output[start:])[0]["data"][0]["files"]
    shares = {os.path.normpath(file["filename"]): file["summary"]["lines"] for file in files}
    for name in sorted({name for target in found for name in target.covers}):
        _share(name, shares, report)


def _share(name, shares, report):
    lines = next((share for path, share in shares.items() if path.endswith(f"/src/{name}")), None)
    if not lines:
        report.fail(f"coverage of {name}", f"no target contains src/{name}")
        return
    test = f"coverage of {name} is at least {LINES_COVERED} %"
    figure = f"{lines['percent']:.1f} % of {lines['count']} lines"
    if lines["percent"] < LINES_COVERED:
        report.fail(test, f"{figure}; scripts/fuzz TARGET shows the lines that are missing")
    else:
        report.ok(test, figure)
