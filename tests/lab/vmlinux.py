# SPDX-License-Identifier: Apache-2.0
"""The ELF image that a Debian kernel package's bzImage carries, which is what PVH starts."""

import lzma
import struct

SECTOR = 512
SETUP_SECTS, PAYLOAD = 0x1f1, 0x248     # Documentation/arch/x86/boot.rst
XZ = b"\xfd7zXZ\0"


def vmlinux(bzimage):
    """The ELF file in these bytes of a bzImage; the kernel's packer is xz in Debian's generic kernels."""
    offset, length = struct.unpack_from("<II", bzimage, PAYLOAD)
    start = ((bzimage[SETUP_SECTS] or 4) + 1) * SECTOR + offset
    payload = bzimage[start:start + length]
    if not payload.startswith(XZ):
        raise ValueError(f"packed by something else than xz: {payload[:4].hex()}")
    # The size of the unpacked kernel follows the stream.
    return lzma.LZMADecompressor().decompress(payload)
