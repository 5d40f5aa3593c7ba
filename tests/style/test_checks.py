#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Each style check finds what it looks for: a small tree gets one fault planted, one at a time."""

import json
import os
import shutil
import subprocess
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SPDX = "/* SPDX-License-Identifier: Apache-2.0 */\n"
CLEAN = {
    "src/base/sum.h": SPDX + "#pragma once\n\nint sum(int a, int b);\n",
    "src/base/sum.c": SPDX + '#include "base/sum.h"\n\nint sum(int a, int b)\n{\n\treturn a + b;\n}\n',
    "src/vm/vm.h": SPDX + "#pragma once\n",
    "docs/a.md": "See [the code](../src/base/sum.c).\n",
    "run": "#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\necho hello\n",
    "tool.py": "# SPDX-License-Identifier: Apache-2.0\nprint(1)\n",
}
LONG = SPDX + "int f(void);\nint f(void)\n{\n" + "\tf();\n" * 130 + "\treturn 0;\n}\n"
# name of the check -> (file, content) that it must object to
FAULTS = {
    "C is in the house form (.clang-format)": ("src/base/x.c", SPDX + "int  x(void);\n"),
    "includes point downwards (src/ROOMS)": ("src/base/x.c", SPDX + '#include "vm/vm.h"\n'),
    "functions and files are short": ("src/base/x.c", LONG),
    "headers are included once": ("src/base/x.h", SPDX),
    "files name their licence": ("src/base/x.c", "int x(void);\n"),
    "nothing is left over": ("docs/x.md", "TO" + "DO: write\n"),
    "lines end cleanly": ("docs/x.md", "blank at the end \n"),
    "shell scripts are sound": ("run", CLEAN["run"] + "rm $1\n"),
    "Python compiles": ("tool.py", CLEAN["tool.py"] + "def\n"),
    "Python's names are defined": ("tool.py", CLEAN["tool.py"] + "print(nobody)\n"),
    "links of documents lead somewhere": ("docs/x.md", "[gone](gone.md)\n"),
}
RUN = """
import json
from checks import style
print(json.dumps({name: check() for name, check in style.CHECKS if name in NAMES}))
"""


class Checks(unittest.TestCase):
    def setUp(self):
        self.tree = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.tree)
        shutil.copytree(f"{ROOT}/scripts", f"{self.tree}/scripts")
        shutil.copy(f"{ROOT}/.clang-format", self.tree)
        os.makedirs(f"{self.tree}/src")
        shutil.copy(f"{ROOT}/src/ROOMS", f"{self.tree}/src")
        for path, content in CLEAN.items():
            self.plant(path, content)
        self.git("init", "-q")

    def git(self, *arguments):
        subprocess.run(["git", "-C", self.tree, *arguments], check=True)

    def plant(self, path, content):
        path = os.path.join(self.tree, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
        os.chmod(path, 0o755)

    def problems(self, names):
        self.git("add", ".")
        done = subprocess.run(["/usr/bin/python3", "-B", "-c", f"NAMES = {list(names)!r}\n{RUN}"],
                              cwd=self.tree, env=dict(os.environ, PYTHONPATH="scripts"),
                              capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    def test_every_check_has_a_fault(self):
        done = subprocess.run(["/usr/bin/python3", "-B", "-c", "from checks import style\n"
                               "print(*(name for name, _ in style.CHECKS), sep='\\n')"],
                              cwd=self.tree, env=dict(os.environ, PYTHONPATH="scripts"),
                              capture_output=True, text=True, check=True)
        self.assertEqual(set(done.stdout.splitlines()), set(FAULTS))

    def test_a_clean_tree_has_no_problems(self):
        for name, problems in self.problems(FAULTS).items():
            self.assertEqual(problems, [], name)

    def test_each_fault_is_found(self):
        for name, (path, content) in FAULTS.items():
            with self.subTest(name):
                before = CLEAN.get(path)
                self.plant(path, content)
                self.assertTrue(self.problems([name])[name])
                if before:
                    self.plant(path, before)
                else:
                    os.unlink(os.path.join(self.tree, path))

    def test_a_circle_of_headers_is_found(self):
        self.plant("src/base/a.h", SPDX + '#pragma once\n#include "base/b.h"\n')
        self.plant("src/base/b.h", SPDX + '#pragma once\n#include "base/a.h"\n')
        found = self.problems(["includes point downwards (src/ROOMS)"])
        self.assertIn("circle", " ".join(*found.values()))

    def test_writable_state_is_found(self):
        source = ("static int counter;\nint *p(void);\nint *p(void)\n{\n\treturn &counter;\n}\n"
                  "const char *const names[] = { \"a\" };\n")
        os.makedirs(f"{self.tree}/build/src")
        subprocess.run(["gcc", "-fPIC", "-x", "c", "-c", "-", "-o", f"{self.tree}/build/src/x.c.o"],
                       input=source, text=True, check=True)
        done = subprocess.run(["/usr/bin/python3", "-B", "-c",
                               "from checks import objects; print(*objects.mutable_state('build'))"],
                              cwd=self.tree, env=dict(os.environ, PYTHONPATH="scripts"),
                              capture_output=True, text=True, check=True)
        self.assertIn("counter", done.stdout)
        self.assertNotIn("names", done.stdout)


if __name__ == "__main__":
    unittest.main()
