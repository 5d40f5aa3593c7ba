# SPDX-License-Identifier: Apache-2.0
"""Guests for the VMs in the machines: built once from Debian packages, kept by content."""

from functools import partial

from ..errors import LabError
from . import debian, images, tiny

# name: (what it is, function that builds it and returns {what: path})
GUESTS = {
    "tiny": ("Debian's cloud kernel, busybox", tiny.tiny),
    "tools": ("tiny with fio, stress-ng and iperf3", tiny.tools),
    "load": ("tiny with a program whose work can be checked from outside (load/load.c)", tiny.load),
    "redis": ("load with Redis", tiny.redis),
    "tiny32": ("Debian's 32-bit kernel, 32-bit busybox", tiny.tiny32),
    "debian": ("a whole Debian with Redis, on a disk", partial(debian.build, "debian")),
    "debian-postgresql": ("the same with PostgreSQL too",
                          partial(debian.build, "debian-postgresql")),
    "memtest": ("memtest86+, a kernel that is not Linux", images.memtest),
    "ipxe": ("iPXE, a kernel that is not Linux", images.ipxe),
}


def guest(name):
    """{"kernel": path, "initrd": path, ...}; builds what is not in the cache."""
    if name not in GUESTS:
        raise LabError(f"guest {name}", "there is none of this name",
                       "there are " + ", ".join(GUESTS))
    return {what: str(path) for what, path in GUESTS[name][1]().items()}


def disks_built():
    """(serial number, image) of the guests' disks that are in the cache."""
    for name in debian.VARIANTS:
        image = debian.lookup(name)
        if image.exists():
            yield f"guest-{name}", image
