# SPDX-License-Identifier: Apache-2.0
"""Tests that pytest runs: those over the lab, each with emulated machines of its own, and those of the page."""

import os
import signal
import xml.etree.ElementTree as xml
from pathlib import Path

from checks import process
from checks.report import say

DEADLINE = 45 * 60
DEADLINE_LONG = 8 * 3600
SILENCE = 15 * 60           # of one test, its second try included; only those of --long take longer


def run(report, long, folder="tests/lab", only=None, without=()):
    """`only`, and each of `without`: patterns of names of files in the folder."""
    results = os.path.abspath(f"build/{only or os.path.basename(folder)}.xml".replace("*", ""))
    if os.path.exists(results):
        os.unlink(results)
    files = [folder]
    if only or without:
        files = sorted(str(path) for path in Path(folder).glob("test_*.py")
                       if (not only or path.match(only)) and not any(path.match(one) for one in without))
    command = ["/usr/bin/python3", "-B", "-u", "-m", "pytest", *files, "-v", "-rs",
               "-p", "no:cacheprovider", "--color=no", f"--junitxml={results}"]
    command += ["--long"] if long else ["-m", "not long"]
    output = []

    def show(line):
        output.append(line)
        if line.startswith(f"{folder}/"):
            say(f"  {line}")
        # Counted here: an interrupted test stands in the results like one that passed.
        report.passed += line.startswith(f"{folder}/") and " PASSED " in line

    # SIGINT, so that pytest ends its machines and still writes down what it has.
    status = process.stream(command, show, timeout=DEADLINE_LONG if long else DEADLINE,
                            silence=None if long else SILENCE, ask=signal.SIGINT)
    if status == 124:
        report.fail("pytest comes to its end", "\n".join(output[-20:]))
    if not os.path.exists(results):
        report.fail(f"pytest over {folder}", "\n".join(output))
        return
    cases = list(xml.parse(results).getroot().iter("testcase"))
    if not cases:
        report.fail(f"{folder} holds tests", "\n".join(output))
    for case in cases:
        _count(case, report)


def _count(case, report):
    name = f"{case.get('classname', '').rpartition('.')[2]}: {case.get('name')}"
    broken = [part for part in case if part.tag in ("failure", "error")]
    skipped = case.find("skipped")
    if broken:
        report.fail(name, "\n".join(part.text or part.get("message", "") for part in broken))
    elif skipped is not None:
        report.skip(name, skipped.get("message", "no reason given"))
