# SPDX-License-Identifier: Apache-2.0
"""./check [--long] [SUITE...]: installs what the suites need, builds, runs, counts."""

import argparse
import sys

from checks import process
from checks.report import Report, say
from checks.suites import SUITES


def main():
    chosen, long = _arguments()
    process.adopt_descendants()
    report = Report()
    try:
        for suite in chosen:
            _run(suite, long, report)
    except KeyboardInterrupt:
        say("interrupted; ending what runs")
        process.sweep()
        report.finish()
        return 130
    return report.finish()


def _arguments():
    parser = argparse.ArgumentParser(
        prog="./check", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Builds utsusu and runs its tests. Ends with 'N passed, N failed, N skipped'.",
        epilog="suites:\n" + _listing())
    parser.add_argument("--long", action="store_true",
                        help="more seeds, longer fuzzing, the tests that take hours")
    parser.add_argument("--list", action="store_true", help="list the suites and end")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="those to run (default: all)")
    arguments = parser.parse_args()
    if arguments.list:
        print(_listing())
        sys.exit(0)
    unknown = set(arguments.suites) - {suite.name for suite in SUITES}
    if unknown:
        parser.error(f"no suite {', '.join(sorted(unknown))}; ./check --list names them")
    wanted = arguments.suites or [suite.name for suite in SUITES]
    return [suite for suite in SUITES if suite.name in wanted], arguments.long


def _listing():
    return "\n".join(f"  {suite.name:9} {suite.about} ({suite.budget} s; --long {suite.long_budget} s)"
                     for suite in SUITES)


def _run(suite, long, report):
    report.open_suite(suite.name, suite.long_budget if long else suite.budget, suite.about)
    with report.preparing():
        status, output = process.run(["scripts/dependencies"] + suite.packages)
    if status:
        report.fail("dependencies", output)
    else:
        suite.run(report, long)
    left = process.sweep()
    if left:
        report.fail("nothing is left running", "\n".join(left))
    report.close_suite()


sys.exit(main())
