# SPDX-License-Identifier: Apache-2.0
"""Disks and cards that a machine is given."""

from labkit import Lab

RESERVE = """
import ctypes, fcntl, struct, sys
# SG_IO (scsi/sg.h): PERSISTENT RESERVE OUT, SPC-4 6.14: register, then reserve for writing
def scsi(device, command, data, direction):
    buffer = ctypes.create_string_buffer(data, len(data))
    sense = ctypes.create_string_buffer(32)
    block = ctypes.create_string_buffer(command, len(command))
    head = struct.pack("iiBBHIPPPIIiPBBBBHHiII", ord("S"), direction, len(command), 32, 0,
                       len(data), ctypes.addressof(buffer), ctypes.addressof(block),
                       ctypes.addressof(sense), 5000, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    answer = bytearray(head)
    fcntl.ioctl(device, 0x2285, answer)
    if answer[64] == 2 and sense.raw[2] & 15 == 6:  # a unit attention, told once
        return scsi(device, command, data, direction)
    return answer[64], buffer.raw
def pr_out(device, action, key, new_key, kind=0):
    data = key.to_bytes(8, "big") + new_key.to_bytes(8, "big") + bytes(8)
    return scsi(device, bytes([0x5F, action, kind, 0, 0, 0, 0, 0, len(data), 0]), data, -2)[0]
with open(sys.argv[1], "rb+", buffering=0) as device:
    assert pr_out(device, 0, 0, 0xABC) == 0, "register"
    assert pr_out(device, 1, 0xABC, 0, 1) == 0, "reserve"
    status, data = scsi(device, bytes([0x5E, 1, 0, 0, 0, 0, 0, 0, 64, 0]), bytes(64), -3)
    assert status == 0 and int.from_bytes(data[8:16], "big") == 0xABC, data
    assert pr_out(device, 3, 0xABC, 0) == 0, "clear"
print("reserved")
"""


def test_shared_disk_is_one_disk(pair):
    a, b = pair["A"], pair["B"]
    disk = a.disk("shared")
    a.run(f"echo from A | dd of={disk} bs=4096 conv=sync oflag=direct seek=3")
    got = b.run(f"dd if={disk} bs=4096 count=1 iflag=direct skip=3").stdout
    assert got.startswith(b"from A\n") and len(got) == 4096


def test_owned_hardware_is_there(emulator):
    with Lab(memory=1024, nvme=True, nic=True, scsi=True) as lab:
        a = lab["A"]
        a.run(f"test -b {a.disk('nvme-A')} && dd if=/dev/zero of={a.disk('nvme-A')} bs=1M count=4 "
              "oflag=direct")
        cards = a.run("cat /sys/class/net/nic0/device/vendor /sys/class/net/nic0/device/device")
        assert cards.text.split() == ["0x8086", "0x10d3"]
        assert a.run(["python3", "-c", RESERVE, a.disk("scsi-A")]).text == "reserved\n"
        groups = a.run("for one in /sys/kernel/iommu_groups/*/devices; do ls $one | wc -l; done")
        assert groups.text.split().count("1") > 4  # e1000e and nvme stand alone


def test_passed_through_disk_reaches_vfio(emulator):
    with Lab(memory=1024, nvme=True) as lab:
        bind = """set -e
modprobe vfio-pci
test "$(cat /sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts)" = Y
device=$(basename $(readlink -f /sys/class/nvme/nvme0/device))
echo vfio-pci >/sys/bus/pci/devices/$device/driver_override
echo $device >/sys/bus/pci/drivers/nvme/unbind
echo $device >/sys/bus/pci/drivers_probe
ls /dev/vfio"""
        assert lab["A"].run(bind).text.split()[0].isdigit()
