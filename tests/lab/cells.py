# SPDX-License-Identifier: Apache-2.0
"""The table "When something breaks" of docs/moving.md, as tests read it: the document says what is expected.

    cells.expected("mover here is killed", cells.COMMIT)    {"here", "there"}: what its words allow
"""

from conftest import TREE

COLUMNS = ["`check` to `state`", "`commit`, before *ran* is noted there", "`commit`, after it", "`run` to `end`"]
BEFORE, COMMIT, RAN, AFTER = range(4)

# What the words of a cell allow. HERE and THERE are where it runs at last, the others where it may be started.
HERE, THERE, LOST_HERE, LOST_THERE = "here", "there", "lost here", "lost there"
WORDS = {
    "here runs": {HERE},
    "here runs, by *never*": {HERE},
    "refused, here runs": {HERE},
    "there runs": {THERE},
    "goes on": {THERE},
    "goes on; what is in doubt waits for it": {THERE},
    "too late: it goes on": {THERE},
    "in doubt (as the note says)": {HERE, THERE},
    "in doubt (never: here runs)": {HERE},
    "in doubt (there runs)": {THERE},
    "in doubt until it is back (never: here runs)": {HERE},
    "in doubt until there is (never: here runs)": {HERE},
    "in doubt until it is healed (as the note says)": {HERE, THERE},
    "in doubt until it is healed (there runs)": {THERE},
    "in doubt until you say": set(),
    "there runs; here it stands until you say": {THERE},
    "lost, is here's": {LOST_HERE},
    "lost, is there's": {LOST_THERE},
    "as the note says: there runs, or lost, is here's": {THERE, LOST_HERE},
    "-": set(),
}


def read():
    """{row: [cell of each column]}"""
    text = (TREE / "docs/moving.md").read_text()
    section = text.split("\n## When something breaks\n", 1)[1].split("\n## ", 1)[0]
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in section.splitlines() if line.startswith("|")]
    assert rows[0] == ["what breaks", *COLUMNS], rows[0]
    return {row[0]: row[1:] for row in rows[2:]}


def text(row, column):
    return read()[row][column]


def expected(row, column):
    return WORDS[text(row, column)]
