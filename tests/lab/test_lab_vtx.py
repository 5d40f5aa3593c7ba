# SPDX-License-Identifier: Apache-2.0
"""KVM's Intel path: a machine with VT-x, by Bochs, and a guest in it. Minutes long."""

import shutil

import pytest
from labkit import Lab, LabError
from labkit.guests import guest

MINUTES = 60


def test_vtx_stands_alone():
    for options in ({"machines": 2}, {"nvme": True}, {"scsi": True}):
        with pytest.raises(LabError, match="--vtx"):
            Lab(vtx=True, **options)


@pytest.mark.long
def test_guest_reaches_its_init_on_vtx(programs):
    if not shutil.which("bochs"):
        pytest.skip("no bochs: scripts/dependencies long")
    with Lab(vtx=True, memory=1024) as lab:
        machine = lab["A"]
        assert "vmx" in machine.run(["cat", "/proc/cpuinfo"], timeout=2 * MINUTES).text
        assert "kvm_intel" in machine.run(["lsmod"], timeout=2 * MINUTES).text
        files = guest("tiny")
        vm = machine.start_command([programs / "utsusu", "run", "t", "--kernel", files["kernel"],
                                    "--initrd", files["initrd"], "--memory", "256M",
                                    "--cmdline", "console=ttyS0 quiet nokaslr lpj=1000000"])
        vm.expect("utsusu-guest: init", 20 * MINUTES)
        vm.disconnect()
