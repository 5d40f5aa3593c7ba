# SPDX-License-Identifier: Apache-2.0
"""Runs one meson suite of a build directory and counts its tests, cmocka's cases each as one."""

import json
import os
import re
import sys

from checks import process

# How sanitizers are to behave: the first finding ends the program, with a stack.
ENVIRONMENT = {
    "ASAN_OPTIONS": "halt_on_error=1:detect_leaks=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:second_deadlock_stack=1:atexit_sleep_ms=50",
}

PROCESSORS = min(2, os.cpu_count() or 1)

_PROGRESS = re.compile(r"^ *(\d+/\d+) ")
_CASE = re.compile(r"^\[ +(RUN|OK|FAILED|SKIPPED) +\] (\S+)$")


def run(suite, directory, report, long, label="", each=2):
    """Each program of the suite, `each` at a time for each processor; meson ends what exceeds its timeout."""
    log = os.path.join(directory, "meson-logs", "testlog.json")
    if os.path.exists(log):
        os.unlink(log)
    command = ["meson", "test", "-C", directory, "--no-rebuild", "--suite", suite,
               "--num-processes", str(each * PROCESSORS)]
    environment = dict(ENVIRONMENT, UTSUSU_TEST_LONG="1" if long else "")
    output = []

    def show(line):
        output.append(line)
        found = _PROGRESS.match(line)
        if found and sys.stdout.isatty():
            print(f"\r  {found[1]} programs", end="", flush=True)

    process.stream(command, show, env=environment)
    if sys.stdout.isatty():
        print("\r", end="")
    if not os.path.exists(log):
        report.fail(f"{label}suite {suite} in {directory}/", "\n".join(output))
        return
    with open(log, encoding="utf-8") as file:
        for line in file:
            _count(json.loads(line), label, report)


def _count(program, label, report):
    name = label + program["name"].rpartition(" / ")[2]
    text = (program.get("stdout") or "") + (program.get("stderr") or "")
    cases = _cases(text)
    good = [case for case, (result, _) in cases.items() if result == "OK"]
    bad = [case for case, (result, _) in cases.items() if result in ("RUN", "FAILED")]
    for case, (result, reason) in cases.items():
        if result == "SKIPPED":
            report.skip(f"{name}: {case}", reason or "the test said so")
    if program["result"] == "SKIP":
        report.skip(name, _last_line(text) or "the program said so")
    elif program["result"] != "OK":
        report.fail(f"{': '.join([name] + bad[:1])} ({program['result'].lower()})", text)
        for case in bad[1:]:
            report.fail(f"{name}: {case}", "shown above")
    if good or (program["result"] == "OK" and not cases):
        report.ok(name, f"{len(good) or 1} tests, {program['duration']:.1f} s", len(good) or 1)


def _cases(text):
    """What cmocka says of each case: (the last state it was seen in, the line before that).

    A case that never came back stays in RUN.
    """
    cases, before = {}, ""
    for line in text.splitlines():
        found = _CASE.match(line)
        if found and (found[1] == "RUN" or cases.get(found[2], ("",))[0] == "RUN"):
            cases[found[2]] = (found[1], before)
        before = "" if found else line.strip()
    return cases


def _last_line(text):
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
