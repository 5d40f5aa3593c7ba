# SPDX-License-Identifier: Apache-2.0
"""How the story is told."""


def chapter(title):
    print(f"\n=== {title}", flush=True)


def say(line):
    print(line, flush=True)


def figures(measured):
    """A table of (what, figure)."""
    width = max(len(what) for what, _ in measured)
    for what, figure in measured:
        say(f"  {what:{width}}  {figure}")
