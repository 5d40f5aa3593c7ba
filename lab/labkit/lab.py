# SPDX-License-Identifier: Apache-2.0
"""A lab: some machines, the wires between them, and their state in one folder."""

import json
import os
import secrets
import shutil

from . import cache, disks, host, paths, process
from .errors import LabError
from .machine import Machine
from .progress import QUIET
from .volatile import VolatileDisk
from .vtx import VtxMachine
from .wires import Wires

DEFAULTS = {"machines": 1, "memory": 2048, "cpus": host.processors(), "nvme": False, "nic": False, "scsi": False,
            "share_disk": 0, "state_disk": disks.STATE_SIZE, "keep_unflushed": 0, "bridge": False, "vtx": False, "files": []}
MACHINES_MAX = 8


class Lab:
    """With "with", its machines end with the block, and with this process however it ends."""

    def __init__(self, name=None, *, bound=True, **options):
        unknown = set(options) - set(DEFAULTS)
        if unknown:
            raise LabError(f"option {unknown.pop()}", "a lab has no such option")
        self.name = name or f"{paths.default_lab_name()}-{os.getpid()}-{secrets.token_hex(2)}"
        self.bound = bound
        self.folder = paths.labs_directory() / self.name
        self.options = {**DEFAULTS, **options}
        self._state = {"options": self.options, "bound": bound,
                       "owner": process.identity(os.getpid()) if bound else None}
        self._arrange()

    def _arrange(self):
        count = self.options["machines"]
        if not 1 <= count <= MACHINES_MAX:
            raise LabError(f"{count} machines", f"a lab has 1 to {MACHINES_MAX}")
        self.machines = {}
        self.shared_disk = None
        if self.options["share_disk"]:
            self.shared_disk = VolatileDisk(self, "shared", self.folder / "shared")
        kind = VtxMachine if self.options["vtx"] else Machine
        if self.options["vtx"] and (count > 1 or any(
                self.options[key] for key in ("nvme", "nic", "scsi", "share_disk"))):
            raise LabError("--vtx", "a machine of Bochs stands alone, without disks and cards",
                           "start it in a lab of its own")
        for number in range(1, count + 1):
            name = chr(ord("A") + number - 1)
            self.machines[name] = kind(self, name, number)
        self.wires = Wires(self)

    @classmethod
    def attach(cls, name):
        """The lab of that name, as another process made it."""
        path = paths.labs_directory() / name / "lab.json"
        if not path.exists():
            raise LabError(f"lab {name}", "it is not up", "start it with 'lab up'")
        state = json.loads(path.read_text())
        lab = cls(name, bound=state["bound"], **state["options"])
        lab._state = state
        return lab

    # State

    def _save(self):
        part = self.folder / "lab.json.part"
        part.write_text(json.dumps(self._state, indent=1))
        part.rename(self.folder / "lab.json")

    def reload(self):
        """Another process may have changed the lab meanwhile."""
        self._state = json.loads((self.folder / "lab.json").read_text())

    def remember(self, key, value):
        self._state[key] = value
        self._save()

    def state(self, key):
        return self._state.get(key)

    def _lock_path(self):
        return paths.labs_directory() / f".{self.name}.lock"

    def lock(self):
        return cache.locked(self._lock_path())

    def status(self):
        return {"name": self.name, "bound": self.bound, "options": self.options,
                "machines": {m.name: {"state": m.state(), "address": m.address,
                                      "folder": str(m.folder)}
                             for m in self.machines.values()},
                "wires": self.wires.status()}

    # Verbs

    def up(self, progress=QUIET):
        """Starts the machines that are not running; returns when all of them answer."""
        clean(progress)
        with self.lock():
            self.folder.mkdir(exist_ok=True)
            self._save()
            self.wires.start()
            if self.shared_disk:
                disks.blank(self.shared_disk.path, self.options["share_disk"])
            started = [m for m in self.machines.values() if not m.alive()]
            try:
                for machine in started:
                    machine.launch()
                for machine in started:
                    machine.await_ready(progress)
            except BaseException:
                if len(started) == len(self.machines):
                    self._end()
                raise
        return self

    def down(self):
        with self.lock():
            self._end()

    def _end(self):
        for machine in self.machines.values():
            if machine.alive():
                machine.kill()
            for disk in machine.disks():
                disk.stop()
        self.wires.stop()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._lock_path().unlink(missing_ok=True)

    def __enter__(self):
        return self.up()

    def __exit__(self, *_):
        self.down()

    def __getitem__(self, name):
        if name not in self.machines:
            raise LabError(f"machine {name}", f"lab {self.name} has no such machine",
                           "it has " + ", ".join(self.machines))
        return self.machines[name]


def names():
    return sorted(p.parent.name for p in paths.labs_directory().glob("*/lab.json"))


def clean(progress=QUIET):
    """Takes away what labs left whose starter is gone. One that another version of this program made is that one's."""
    for name in names():
        try:
            lab = Lab.attach(name)
        except LabError:
            continue
        if lab.bound and not process.alive(lab._state["owner"]):
            progress.say(f"taking away what lab {name} left")
            lab.down()
