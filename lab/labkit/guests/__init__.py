# SPDX-License-Identifier: Apache-2.0
"""Guests for the VMs in the machines: built once from Debian packages, kept by content."""

from ..errors import LabError
from . import images, tiny

# name: (what it is, function that builds it and returns {what: path})
GUESTS = {
    "tiny": ("Debian's cloud kernel, busybox", tiny.tiny),
    "tools": ("tiny with fio, stress-ng and iperf3", tiny.tools),
    "tiny32": ("Debian's 32-bit kernel, 32-bit busybox", tiny.tiny32),
    "memtest": ("memtest86+, a kernel that is not Linux", images.memtest),
    "ipxe": ("iPXE, a kernel that is not Linux", images.ipxe),
}


def guest(name):
    """{"kernel": path, "initrd": path, ...}; builds what is not in the cache."""
    if name not in GUESTS:
        raise LabError(f"guest {name}", "there is none of this name",
                       "there are " + ", ".join(GUESTS))
    return {what: str(path) for what, path in GUESTS[name][1]().items()}
