# SPDX-License-Identifier: Apache-2.0
"""What was tested and how it went: printed as it happens, counted for the end."""

import contextlib
import time

SHOWN_LINES = 80    # of a failed test's output; the whole is in the build directory's logs


class Report:
    """Counts over all suites. One suite is open at a time; tests belong to it."""

    def __init__(self):
        self.passed = 0
        self.skipped = 0
        self.failures = []
        self._suite = None
        self._prepared = 0

    def open_suite(self, name, budget, about):
        self._suite = name
        self._budget = budget
        self._started = time.monotonic()
        self._prepared = 0
        self._before = (self.passed, len(self.failures), self.skipped)
        say(f"== {name}: {about} (budget {budget} s)")

    @contextlib.contextmanager
    def preparing(self):
        """What is installed and built, once for several suites, is no suite's time."""
        started = time.monotonic()
        yield
        self._prepared += time.monotonic() - started

    def close_suite(self):
        used = time.monotonic() - self._started - self._prepared
        passed, failed, skipped = (now - before for now, before in zip(self._counts(), self._before))
        over = " - OVER BUDGET" if used > self._budget else ""
        say(f"== {self._suite}: {passed} passed, {failed} failed, {skipped} skipped;"
            f" used {used:.0f} s of {self._budget} s{over}, and {self._prepared:.0f} s to prepare\n")
        self._suite = None

    def ok(self, name, note="", count=1):
        self.passed += count
        say(f"  ok    {name}" + (f"  ({note})" if note else ""))

    def skip(self, name, reason):
        self.skipped += 1
        say(f"  skip  {name}: {reason}")

    def fail(self, name, output=""):
        self.failures.append(f"{self._suite}: {name}")
        say(f"  FAIL  {name}")
        lines = output.rstrip().splitlines()
        if len(lines) > SHOWN_LINES:
            lines = [f"... {len(lines) - SHOWN_LINES} lines before"] + lines[-SHOWN_LINES:]
        for line in lines:
            say(f"        | {line}")

    def verdict(self, name, problems, note=""):
        """A test that passes when its list of problems is empty."""
        if problems:
            self.fail(name, "\n".join(problems))
        else:
            self.ok(name, note)

    def finish(self):
        """Prints the end, whose last line is the count alone; returns the exit status."""
        passed, failed, skipped = self._counts()
        if self.failures:
            say("failed:")
        for failure in self.failures:
            say(f"  {failure}")
        if passed + failed == 0:
            say("no test ran: that is a failure too")
        say(f"{passed} passed, {failed} failed, {skipped} skipped")
        return 0 if passed and not failed else 1

    def _counts(self):
        return self.passed, len(self.failures), self.skipped


def say(text):
    print(text, flush=True)
