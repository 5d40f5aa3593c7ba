# SPDX-License-Identifier: Apache-2.0
"""What a machine offers: a KVM, devices, file systems, and the tree as it is at this moment."""

import os
import shutil

import pytest
from conftest import TREE
from labkit import host
from labkit.paths import cache_directory

MAKE_A_VM = """
import fcntl, os
kvm = os.open("/dev/kvm", os.O_RDWR)
assert fcntl.ioctl(kvm, 0xAE00) == 12, "KVM_GET_API_VERSION"
vm = fcntl.ioctl(kvm, 0xAE01, 0)
vcpu = fcntl.ioctl(vm, 0xAE41, 0)
print("vcpu", vcpu > 0, "split irqchip", fcntl.ioctl(kvm, 0xAE03, 121), "TSC", fcntl.ioctl(vcpu, 0xAEA3, 0))
"""


def test_kvm_of_the_kernel_makes_a_vcpu(machine):
    assert machine.run("lsmod | grep -c '^kvm_'").text.strip() != "0"
    assert machine.run(["python3", "-c", MAKE_A_VM]).text.startswith("vcpu True split irqchip 1")


def test_its_kernel_knows_how_fast_its_tsc_is(machine):
    """By a kernel's own look at an emulated timer it may be anything, and guests of two such machines cannot move between them."""
    if host.has_real_kvm():
        pytest.skip("its emulator lends it this computer's own")
    khz = int(machine.run(["python3", "-c", MAKE_A_VM]).text.split()[-1])
    assert abs(khz - host.tsc_khz()) < 1e-4 * host.tsc_khz()


def test_devices_and_file_systems_are_there(machine):
    machine.run("test -c /dev/kvm -a -c /dev/net/tun -a -c /dev/vhost-net -a -c /dev/ptmx")
    mounts = machine.run(["cat", "/proc/mounts"]).text
    for kind in ("cgroup2", "securityfs", "hugetlbfs", "devpts", "debugfs", "tracefs"):
        assert f" {kind} " in mounts
    assert "landlock" in machine.run(["cat", "/sys/kernel/security/lsm"]).text


def test_iommu_makes_groups(machine):
    assert int(machine.run("ls /sys/kernel/iommu_groups | wc -l").text) > 3


def test_modules_load_by_name(machine):
    machine.run("modprobe null_blk nr_devices=1 && test -b /dev/nullb0 && rmmod null_blk")
    machine.run("modprobe brd rd_nr=1 rd_size=1024 && test -b /dev/ram0 && rmmod brd")


def test_scratch_takes_direct_writes(machine):
    machine.run("dd if=/dev/zero of=/scratch/direct bs=4096 count=16 oflag=direct && "
                "rm /scratch/direct")


def test_tree_is_seen_as_it_is_now(machine):
    folder = TREE / "build-lab-test"
    folder.mkdir(exist_ok=True)
    try:
        program = folder / "program"
        for text in ("first", "second is longer", "3rd"):
            program.write_text(f"#!/bin/sh\necho {text}\n")
            program.chmod(0o755)
            assert machine.run([str(program)]).text == text + "\n"
        shutil.copy("/bin/true", folder / "new")
        os.rename(folder / "new", program)
        assert machine.run([str(program)]).text == ""
        program.unlink()
        assert machine.run(["test", "-e", str(program)], check=False).returncode == 1
    finally:
        shutil.rmtree(folder)


def test_cache_shows_what_was_built_meanwhile(machine):
    folder = cache_directory() / f"test-{os.getpid()}"
    assert machine.run(["test", "-e", str(folder)], check=False).returncode == 1
    try:
        folder.mkdir()
        (folder / "file").write_text("fresh")
        assert machine.run(["cat", str(folder / "file")]).text == "fresh"
    finally:
        shutil.rmtree(folder)


def test_nothing_written_in_a_machine_reaches_the_host(machine):
    name = f"lab-test-{os.getpid()}"
    machine.run(f"echo x >/etc/{name}; echo x >/tmp/{name}")
    assert not os.path.exists(f"/etc/{name}") and not os.path.exists(f"/tmp/{name}")
    machine.run(f"rm /etc/{name} /tmp/{name}")
    assert machine.run(f"echo x >{TREE}/{name}", check=False).returncode != 0
    assert not (TREE / name).exists()
