# SPDX-License-Identifier: Apache-2.0
"""Progress lines on standard error, for whoever waits."""

import contextlib
import sys
import time


class Progress:
    def __init__(self, quiet=False):
        self.quiet = quiet

    def say(self, text):
        if not self.quiet:
            print(f"lab: {text}", file=sys.stderr, flush=True)

    @contextlib.contextmanager
    def step(self, text):
        start = time.monotonic()
        self.say(f"{text} ...")
        yield
        self.say(f"{text}: {time.monotonic() - start:.1f} s")


QUIET = Progress(quiet=True)
