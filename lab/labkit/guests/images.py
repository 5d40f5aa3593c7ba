# SPDX-License-Identifier: Apache-2.0
"""Guests that are not Linux, as Debian packages them."""

from ..packages import AMD64


def memtest():
    return {"kernel": AMD64.files(["memtest86+"]) / "boot/memtest86+x64.bin"}


def ipxe():
    return {"kernel": AMD64.files(["ipxe"]) / "boot/ipxe.lkrn"}
