# SPDX-License-Identifier: Apache-2.0
"""Debian's kernels: image, release, modules and the order in which modules depend."""

import shutil
import subprocess
from pathlib import Path

from . import cache
from .errors import LabError
from .packages import AMD64


def _name(path):
    return Path(path).name.split(".ko")[0].replace("-", "_")


class Kernel:
    def __init__(self, folder):
        self.folder = folder
        self.image = next((folder / "boot").glob("vmlinuz-*"))
        self.release = self.image.name.removeprefix("vmlinuz-")
        self.modules = folder / "lib/modules" / self.release

    def module_files(self, names):
        """The files of these modules and of what they need, in the order to load them."""
        needs = {}
        for line in (self.modules / "modules.dep").read_text().splitlines():
            path, _, rest = line.partition(":")
            needs[_name(path)] = (path, rest.split())
        builtin = {_name(line) for line in
                   (self.modules / "modules.builtin").read_text().splitlines()}
        order = []

        def visit(name):
            name = _name(name)
            if name in builtin:
                return
            if name not in needs:
                raise LabError(f"module {name}", f"kernel {self.release} has none of this name")
            path, before = needs[name]
            for other in reversed(before):
                visit(other)
            if path not in order:
                order.append(path)

        for name in names:
            visit(name)
        return [self.modules / path for path in order]


def kernel(meta_package, archive=AMD64):
    """The current kernel that a meta package such as linux-image-amd64 stands for."""
    package = archive.dependency(meta_package)
    version = archive.versions([package])[package]

    def build(folder):
        archive.unpack({package: version}, folder)
        shutil.rmtree(folder / "usr", ignore_errors=True)
        for useless in (folder / "boot").glob("System.map-*"):
            useless.unlink()
        release = next((folder / "lib/modules").iterdir()).name
        subprocess.run(["/sbin/depmod", "-b", str(folder), release], check=True)

    return Kernel(cache.built("kernel", [archive.architecture, package, version, "depmod 1"],
                              build))
