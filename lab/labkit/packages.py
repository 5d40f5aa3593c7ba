# SPDX-License-Identifier: Apache-2.0
"""Debian packages: which version there is, and its files, without installing anything."""

import json
import os
import re
import subprocess
import time
from pathlib import Path

from . import cache
from .errors import LabError
from .paths import cache_directory

WAY_OUT = "run 'apt-get update' as root, and see that apt's sources name Debian 12"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
LISTS_LAST = 7 * 86400      # seconds, before own lists are fetched again


class Archive:
    """The packages of one architecture, through the apt configuration of this computer."""

    def __init__(self, architecture="amd64"):
        self.architecture = architecture

    def options(self):
        return []

    def prepare(self):
        """Makes the package lists available; the host's own are there already."""

    def stamp(self):
        lists = Path("/var/lib/apt/lists")
        return str(lists.stat().st_mtime_ns) if lists.exists() else "none"

    def targets(self):
        """[(mirror, suite)] that apt is set up for"""
        text = self._apt("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)",
                         "Created-By: Packages", "Component: main")
        return [tuple(line.split()) for line in text.splitlines()]

    def _apt(self, tool, *arguments, cwd=None):
        done = subprocess.run([tool, *self.options(), *arguments], cwd=cwd, text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env={**os.environ, "LC_ALL": "C"})
        if done.returncode:
            reason = (done.stderr.strip() or "failed").splitlines()[-1]
            raise LabError(f"{tool} {arguments[0]}", reason, WAY_OUT)
        return done.stdout

    def _remembered(self, question, answer):
        """Asking apt takes half a second: the answer holds until the package lists change."""
        path = cache_directory() / "resolved" / self.architecture
        path.mkdir(parents=True, exist_ok=True)
        self.prepare()
        path /= cache.key_of([self.stamp(), *question])
        if path.exists():
            return json.loads(path.read_text())
        value = answer()
        part = path.with_suffix(f".{os.getpid()}")
        part.write_text(json.dumps(value))
        part.rename(path)
        return value

    def versions(self, names):
        """{package: version that apt would install}"""
        names = sorted(names)
        return self._remembered(["versions", *names], lambda: self._versions(names))

    def _versions(self, names):
        text = self._apt("apt-cache", "policy", *names)
        found = dict(re.findall(r"^([^\s:]+)(?::\w+)?:\n  Installed:.*\n  Candidate: (\S+)",
                                text, re.M))
        missing = [n for n in names if found.get(n, "(none)") == "(none)"]
        if missing:
            raise LabError("package " + missing[0], "apt knows no such package", WAY_OUT)
        return found

    def closure(self, names):
        """The packages and all that they depend on, as apt would choose on an empty system."""
        names = sorted(names)
        return self._remembered(["closure", *names], lambda: self._closure(names))

    def _closure(self, names):
        text = self._apt("apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests",
                         "--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances",
                         *names)
        return sorted({line.split(":")[0] for line in text.splitlines()
                       if line and not line.startswith((" ", "<"))})

    def dependency(self, name):
        """The first package that a meta package stands for."""
        return self._remembered(["dependency", name], lambda: re.search(
            r"Depends: (\S+)", self._apt("apt-cache", "depends", name)).group(1))

    def files(self, names):
        """A folder with these packages' files in it, as they would lie in /."""
        versions = self.versions(names)
        inputs = [self.architecture, *(f"{n}={v}" for n, v in sorted(versions.items()))]
        return cache.built("files", inputs, lambda folder: self.unpack(versions, folder))

    def unpack(self, versions, folder):
        debs = folder / ".debs"
        debs.mkdir()
        debs.chmod(0o777)
        self._apt("apt-get", "download", "-q",
                  *(f"{n}:{self.architecture}={v}" for n, v in versions.items()), cwd=debs)
        for deb in sorted(debs.iterdir()):
            subprocess.run(["dpkg-deb", "-x", str(deb), str(folder)], check=True)
            deb.unlink()
        debs.rmdir()


class OwnLists(Archive):
    """Packages that the host's own lists do not have: apt with folders of its own."""

    def __init__(self, name, architecture):
        super().__init__(architecture)
        self._name = f"apt-{name}"

    @property
    def folder(self):
        return cache_directory() / self._name

    @property
    def _ready(self):
        return self.folder / "ready"

    def options(self):
        own = self.folder
        return [option for pair in (
            ("APT::Architecture", self.architecture),
            ("APT::Architectures", self.architecture),
            ("Dir::State", own / "state"),
            ("Dir::State::status", own / "status"),
            ("Dir::Cache", own / "cache"),
        ) for option in ("-o", f"{pair[0]}={pair[1]}")]

    def stamp(self):
        return str(self._ready.stat().st_mtime_ns)

    def _fresh(self):
        return self._ready.exists() and time.time() - self._ready.stat().st_mtime < LISTS_LAST

    def prepare(self):
        if self._fresh():
            return
        for name in ("state/lists/partial", "cache/archives/partial"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        with cache.locked(self.folder / "lock"):
            if self._fresh():
                return
            try:
                self._update()
                self._ready.touch()
            except LabError:
                if not self._ready.exists():    # old lists are better than none
                    raise

    def _update(self):
        self._apt("apt-get", "update", "-q")


class ForeignArchive(OwnLists):
    """Packages of an architecture that the host does not have."""

    def __init__(self, architecture):
        super().__init__(architecture, architecture)

    def _update(self):
        """Sources that lack this architecture may fail, if Debian's own do not."""
        try:
            super()._update()
        except LabError:
            self._versions(["busybox-static"])


class Backports(OwnLists):
    """Debian's newer packages for the release that runs here."""

    def __init__(self):
        super().__init__("backports", "amd64")

    def options(self):
        return [*super().options(), "-o", f"Dir::Etc::sourcelist={self.folder}/sources",
                "-o", "Dir::Etc::sourceparts=-"]

    def _update(self):
        release = re.search(r"^VERSION_CODENAME=(\S+)", Path("/etc/os-release").read_text(), re.M)
        targets = AMD64.targets()
        mirror = next((uri for uri, suite in targets if release and suite == release.group(1)), None)
        if not mirror:
            raise LabError("Debian's backports", "apt's sources name no mirror of Debian", WAY_OUT)
        signed = f"[signed-by={KEYRING}] " if Path(KEYRING).exists() else ""
        (self.folder / "sources").write_text(
            f"deb {signed}{mirror} {release.group(1)}-backports main\n")
        super()._update()


AMD64 = Archive("amd64")
I386 = ForeignArchive("i386")
BACKPORTS = Backports()
