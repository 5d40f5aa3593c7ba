# SPDX-License-Identifier: Apache-2.0
"""What a script can see of good form: each check is one test, in the table at the end."""

import os
import re

from checks import objects, process, tree

_LEFTOVER = re.compile(r"\b(" + "|".join(("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")) + r")\b")
_SPDX = "SPDX-License-Identifier: Apache-2.0"
_LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
_CODE = ("*.c", "*.h", "*.py", "*.sh", "*.js")


def _text_files():
    return [path for path in tree.tracked() if "/corpus/" not in path and path != "LICENSE"]


def _format():
    sources = tree.tracked("*.c", "*.h")
    if not sources:
        return ["no C file is tracked"]
    status, output = process.run(["clang-format-14", "--dry-run", "-Werror", *sources])
    files = sorted({line.split(":")[0] for line in output.splitlines() if ": error:" in line})
    if status and not files:
        return [output]
    return [f"{path}: repair with: clang-format-14 -i {path}" for path in files]


def _script(name):
    def check():
        status, output = process.run([name])
        return output.splitlines() if status else []
    return check


def _licence():
    sources = tree.tracked(*_CODE, "*.S", "*.asl") + tree.scripts("sh") + tree.scripts("python")
    return [f"{path}: its first lines lack '{_SPDX}'" for path in sources
            if not any(_SPDX in line for line in tree.lines(path)[:2])]


def _leftovers():
    return [f"{path}:{number}: {line.strip()}"
            for path in _text_files() for number, line in enumerate(tree.lines(path), 1)
            if _LEFTOVER.search(line)]


def _whitespace():
    problems = []
    for path in _text_files():
        lines = tree.lines(path)
        problems += [f"{path}:{number}: blank at the end of the line"
                     for number, line in enumerate(lines, 1) if line != line.rstrip()]
        if lines and not lines[-1]:
            problems.append(f"{path}: blank line at the end")
    return problems


def _headers():
    return [f"{path}: no #pragma once" for path in tree.tracked("*.h")
            if "#pragma once" not in tree.lines(path)]


def _shell():
    scripts = tree.scripts("sh") + tree.tracked("*.sh")
    status, output = process.run(["shellcheck", *scripts])
    return output.splitlines() if status else []


def _python():
    problems = []
    for path in tree.tracked("*.py") + tree.scripts("python"):
        try:
            compile("\n".join(tree.lines(path)), path, "exec")
        except SyntaxError as error:
            problems.append(f"{path}:{error.lineno}: {error.msg}")
        first = tree.lines(path)[:1]
        if first and first[0].startswith("#!") and first[0] != "#!/usr/bin/python3":
            problems.append(f"{path}: starts with {first[0]}, not #!/usr/bin/python3")
    return problems


def _names():
    """What pyflakes finds, but for modules that are imported for what they register."""
    _, output = process.run(["/usr/bin/python3", "-m", "pyflakes", *tree.tracked("*.py"), *tree.scripts("python")])
    return [line for line in output.splitlines() if "imported but unused" not in line]


def _links():
    """Links of documents that point into the tree and find nothing there."""
    problems = []
    for path in tree.tracked("*.md"):
        for number, line in enumerate(tree.lines(path), 1):
            for target in _LINK.findall(line):
                place = os.path.join(tree.ROOT, os.path.dirname(path), target)
                if "://" not in target and not target.startswith("mailto:") and not os.path.exists(place):
                    problems.append(f"{path}:{number}: {target} is not there")
    return problems


# THE table: what a test is called, and what returns its problems as lines.
CHECKS = [
    ("C is in the house form (.clang-format)", _format),
    ("includes point downwards (src/ROOMS)", _script("scripts/check-layers")),
    ("functions and files are short", _script("scripts/size-tail")),
    ("headers are included once", _headers),
    ("files name their licence", _licence),
    ("nothing is left over", _leftovers),
    ("lines end cleanly", _whitespace),
    ("shell scripts are sound", _shell),
    ("Python compiles", _python),
    ("Python's names are defined", _names),
    ("links of documents lead somewhere", _links),
]


def run(report, build):
    """`build`: a directory with objects to look into; None when there is none."""
    for name, check in CHECKS:
        report.verdict(name, check())
    report.verdict("these checks find planted faults", _script("tests/style/test_checks.py")())
    if build:
        report.verdict("no mutable state at file scope", objects.mutable_state(build))
