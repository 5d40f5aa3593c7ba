# SPDX-License-Identifier: Apache-2.0
"""Writes the archives that a kernel unpacks as its first root ("newc" cpio).

Not compressed: an emulated processor copies faster than it unpacks, and device nodes need no
privilege this way. The format: Documentation/driver-api/early-userspace/buffer-format.rst.
"""

import os
import stat
import subprocess
from pathlib import Path


class Initramfs:
    def __init__(self):
        self._parts = []
        self._folders = set()
        self._count = 0

    def _entry(self, path, mode, data=b"", device=(0, 0)):
        self._count += 1
        name = str(path).strip("/").encode() + b"\0"
        fields = (self._count, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
        self._parts.append(head + bytes(-len(head) % 4) + data + bytes(-len(data) % 4))

    def folder(self, path, mode=0o755):
        path = str(path).strip("/")
        if path in self._folders or not path:
            return
        self.folder(os.path.dirname(path))
        self._folders.add(path)
        self._entry(path, stat.S_IFDIR | mode)

    def file(self, path, data, mode=0o644):
        self.folder(os.path.dirname(str(path).strip("/")))
        if isinstance(data, Path):
            data = data.read_bytes()
        self._entry(path, stat.S_IFREG | mode, data if isinstance(data, bytes) else data.encode())

    def link(self, path, target):
        self.folder(os.path.dirname(str(path).strip("/")))
        self._entry(path, stat.S_IFLNK | 0o777, str(target).encode())

    def device(self, path, major, minor):
        self.folder(os.path.dirname(str(path).strip("/")))
        self._entry(path, stat.S_IFCHR | 0o600, device=(major, minor))

    def busybox(self, binary):
        """Adds busybox, a link for each of its tools, and what every first root needs."""
        for name in ("dev", "proc", "sys", "etc", "root", "sbin", "run", "tmp", "mnt", "var/tmp"):
            self.folder(name)
        self.device("dev/console", 5, 1)
        self.file("bin/busybox", binary, 0o755)
        listed = subprocess.run([str(binary), "--list"], check=True, text=True,
                                stdout=subprocess.PIPE).stdout
        for name in listed.split():
            if name != "busybox":
                self.link(f"bin/{name}", "busybox")
        self.file("etc/passwd", "root::0:0:root:/root:/bin/sh\n")
        self.file("etc/group", "root:x:0:\n")

    def modules(self, kernel, names, into="/modules"):
        """Adds the modules, and the order to load them in as the file "order" beside them."""
        files = kernel.module_files(names)
        for file in files:
            self.file(f"{into}/{file.name}", file)
        self.file(f"{into}/order", "".join(f"{file.name}\n" for file in files))

    def data(self):
        trailer = Initramfs()
        trailer._entry("TRAILER!!!", 0)
        return b"".join(self._parts + trailer._parts)

    def write(self, path):
        path.write_bytes(self.data())
