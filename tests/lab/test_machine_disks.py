# SPDX-License-Identifier: Apache-2.0
"""Disks: what the guest writes is there, what fails is an error, what is in use is refused."""

import subprocess
from pathlib import Path

import pytest
from vms import LONG_PATIENCE

MEGABYTE = 1 << 20
COUNT = 16
# name in the guest, options after path=FILE
ROLES = {
    "vda": "serial=work",
    "vdb": "serial=fixed,readonly",
    "vdc": "serial=holes",
    "vdd": "serial=bad-write,filter=fail:op=write",
    "vde": "serial=bad-read,filter=fail:op=read",
    "vdf": "serial=bad-flush,filter=fail:op=flush",
    "vdg": "serial=late,filter=delay:ms=300",
    "vdh": "serial=cached,direct=off",
    "vdi": "serial=queues,queues=1",
}


def disk_names():
    return [f"vd{chr(ord('a') + i)}" for i in range(COUNT)]


@pytest.fixture(scope="module")
def rig(host_of_all):
    """One guest with sixteen disks, all of them files, of which some are worse than others."""
    host = host_of_all
    with host.folder() as folder:
        host.sh(f"cd {folder} && truncate -s 64M {' '.join(disk_names())} && "
                "dd if=/dev/zero bs=1M count=64 2>/dev/null | tr '\\0' 'h' | tee vdc >vdb")
        options = []
        for name in disk_names():
            options += ["--disk", f"path={folder}/{name},{ROLES.get(name, 'serial=' + name)}"]
        vm = host.start("--cpus", 2, "--memory", "512M", *options, guest="tools")
        host.shared.add(vm.name)
        vm.folder = folder
        try:
            yield vm.ready()
            vm.power_off()
        finally:
            host.shared.remove(vm.name)
            host.end_all()


def blocks(host, path):
    """Bytes that the file takes on the host's disk."""
    return int(host.sh(f"sync {path}; stat -c %b {path}")) * 512


def test_sixteen_disks(rig):
    assert rig.sh("ls -d /sys/block/vd* | wc -l").strip() == str(COUNT)
    assert set(rig.sh("cat /sys/block/vd*/size").split()) == {str(64 * MEGABYTE // 512)}
    # Each is the file that it was given, and none is another's.
    rig.sh("for d in j k l m n o p; do echo I-am-vd$d | dd of=/dev/vd$d conv=fsync bs=512 2>/dev/null; done")
    for letter in "jklmnop":
        text = rig.host.sh(f"head -c 9 {rig.folder}/vd{letter}")
        assert text == f"I-am-vd{letter}\n"


def test_serial(rig):
    assert rig.sh("cat /sys/block/vda/serial").strip() == "work"
    assert rig.sh("cat /sys/block/vdp/serial").strip() == "vdp"


def test_queues(rig):
    assert rig.sh("ls /sys/block/vdi/mq | wc -l").strip() == "1", "as many as were asked for"
    assert rig.sh("ls /sys/block/vda/mq | wc -l").strip() == "2", "as many as there are processors"


def test_fio_verify(rig):
    output = rig.sh("fio --name=v --filename=/dev/vda --rw=randwrite --bs=4k-64k --size=48M --direct=1 "
                    "--ioengine=libaio --iodepth=16 --verify=crc32c --verify_fatal=1 --do_verify=1 "
                    "--randrepeat=0 --fsync=64 --thread || fio --version", timeout=LONG_PATIENCE)
    assert "err= 0" in output, output


def test_fio_verify_on_several_queues(rig):
    output = rig.sh("fio --name=v --filename=/dev/vda --rw=randrw --bs=4k --size=16M --offset_increment=16M "
                    "--numjobs=3 --direct=1 --ioengine=psync --verify=crc32c --verify_fatal=1 --thread",
                    timeout=LONG_PATIENCE)
    assert output.count("err= 0") == 3, output


def test_what_the_guest_flushed_is_in_the_file(rig):
    rig.sh("dd if=/dev/urandom of=/dev/vdh bs=1M count=8 conv=fsync 2>/dev/null")
    inside = rig.sh("dd if=/dev/vdh bs=1M count=8 2>/dev/null | sha256sum").split()[0]
    outside = rig.host.sh(f"dd if={rig.folder}/vdh iflag=direct bs=1M count=8 2>/dev/null | sha256sum")
    assert outside.split()[0] == inside


def test_readonly_disk_refuses_writes(rig):
    assert rig.sh("cat /sys/block/vdb/ro").strip() == "1"
    status, _ = rig.sh("dd if=/dev/zero of=/dev/vdb bs=4k count=1 conv=fsync", check=False)
    assert status != 0
    assert rig.host.sh(f"head -c 4 {rig.folder}/vdb") == "hhhh"


def test_discard_punches_holes(rig):
    before = blocks(rig.host, f"{rig.folder}/vdc")
    rig.sh("blkdiscard -o 8388608 -l 33554432 /dev/vdc")
    freed = before - blocks(rig.host, f"{rig.folder}/vdc")
    assert freed >= 30 * MEGABYTE, f"{freed} bytes freed of {before}"
    assert rig.sh("dd if=/dev/vdc bs=1M skip=20 count=1 2>/dev/null | tr -d '\\0' | wc -c").strip() == "0"
    assert rig.host.sh(f"head -c 4 {rig.folder}/vdc") == "hhhh"


def test_write_zeroes(rig, tmp_path):
    """By the request of the device, not by writing: what is asked for is what BLKZEROOUT makes of it."""
    assert int(rig.sh("cat /sys/block/vdp/queue/write_zeroes_max_bytes")) > 0
    source = Path(__file__).parent / "guest/zeroout.c"
    subprocess.run(["gcc", "-static", "-O2", "-o", tmp_path / "zeroout", source], check=True)
    rig.host.run(["dd", f"of={rig.folder}/vdo", "conv=notrunc,fsync"], input=(tmp_path / "zeroout").read_bytes())
    rig.host.sh(f"head -c 16M /dev/zero | tr '\\0' z | dd of={rig.folder}/vdp conv=notrunc,fsync 2>/dev/null")
    # The program comes by way of a disk that the guest has not read from before; the file's rest is zeros.
    rig.sh("dd if=/dev/vdo of=/tmp/zeroout bs=64k iflag=direct count=32 2>/dev/null; chmod +x /tmp/zeroout")
    rig.sh("/tmp/zeroout /dev/vdp 4194304 4194304")
    count = "dd if=/dev/vdp bs=1M count=1 iflag=direct {} 2>/dev/null | tr -d '\\0' | wc -c"
    assert [rig.sh(count.format(f"skip={at}")).strip() for at in (3, 4, 7, 8)] == ["1048576", "0", "0", "1048576"]


@pytest.mark.parametrize("command", [
    "dd if=/dev/zero of=/dev/vdd bs=4k count=1 oflag=direct",
    "dd if=/dev/vde of=/dev/null bs=4k count=1 iflag=direct",
    "dd if=/dev/zero of=/dev/vdf bs=4k count=1 conv=fsync",
], ids=["write", "read", "flush"])
def test_a_failing_disk_is_an_error_not_a_hang(rig, command):
    status, output = rig.sh(command, check=False)
    assert status != 0 and "error" in output.lower(), output
    assert rig.sh("echo alive").strip() == "alive"


def test_a_late_disk_is_only_late(rig):
    rig.sh("echo late | dd of=/dev/vdg bs=512 count=1 conv=fsync 2>/dev/null")
    assert rig.sh("head -c 4 /dev/vdg").strip() == "late"


def test_errors_of_one_disk_stay_its_own(rig):
    rig.sh("dd if=/dev/zero of=/dev/vdd bs=4k count=8 oflag=direct; true")
    rig.sh("dd if=/dev/zero of=/dev/vda bs=4k count=8 oflag=direct 2>/dev/null")


def test_disk_in_use_is_refused_by_name(rig):
    host = rig.host
    names = set(host.list())
    result = host.utsusu("run", "second", *host.arguments(["--disk", f"path={rig.folder}/vda"]), check=False)
    assert result.returncode == 5
    message = result.stderr.decode()
    assert message.count("\n") == 1 and "vda" in message, message
    assert set(host.list()) == names
    assert host.sh("ls /run/utsusu").split() == sorted(names)


def test_disk_in_use_may_be_read_by_nobody_else_either(rig):
    """A reader would see a torn disk: only disks that nobody writes are shared."""
    host = rig.host
    result = host.utsusu("run", "second", *host.arguments(["--disk", f"path={rig.folder}/vda,readonly"]),
                         check=False)
    assert result.returncode == 5, result


def test_readonly_disk_may_be_shared(rig):
    host = rig.host
    host.utsusu("run", "second", "--check",
                *host.arguments(["--disk", f"path={rig.folder}/vdb,readonly"]))


def test_full_host_disk_is_an_io_error(host):
    """A sparse file on a file system that is too small for it."""
    host.sh("mkdir -p /tmp/small && mount -t tmpfs -o size=4M small /tmp/small && truncate -s 32M /tmp/small/d")
    try:
        vm = host.start("--disk", "path=/tmp/small/d").ready()
        status, output = vm.sh("dd if=/dev/urandom of=/dev/vda bs=1M count=16 conv=fsync", check=False)
        assert status != 0, output
        assert vm.sh("dd if=/dev/vda of=/dev/null bs=4k count=1 2>/dev/null && echo alive").strip() == "alive"
        vm.power_off()
    finally:
        host.sh("umount /tmp/small && rmdir /tmp/small")


def device(host, kind):
    if kind == "nvme":
        return host.machine.disk("nvme-A")
    if kind == "brd":
        host.sh("modprobe brd rd_nr=1 rd_size=65536")
        return "/dev/ram0"
    host.sh("modprobe null_blk nr_devices=1 memory_backed=1 gb=1")
    return "/dev/nullb0"


@pytest.mark.parametrize("kind", ["nvme", "brd", "null_blk"])
def test_block_device(host, kind):
    path = device(host, kind)
    vm = host.start("--disk", f"path={path}").ready()
    vm.sh("dd if=/dev/urandom of=/dev/vda bs=64k count=64 oflag=direct conv=fsync 2>/dev/null")
    inside = vm.sh("dd if=/dev/vda bs=64k count=64 iflag=direct 2>/dev/null | md5sum").split()[0]
    line = host.utsusu("run", "second", "--check", *host.arguments(["--disk", f"path={path}"]), check=False)
    assert line.returncode == 5, "a device in use"
    vm.power_off()
    outside = host.sh(f"dd if={path} bs=64k count=64 iflag=direct 2>/dev/null | md5sum").split()[0]
    assert inside == outside


@pytest.mark.long
def test_fio_verify_for_minutes(host):
    with host.folder() as folder:
        host.sh(f"truncate -s 1G {folder}/d")
        vm = host.start("--cpus", 4, "--memory", "512M", "--disk", f"path={folder}/d", guest="tools").ready()
        vm.sh("fio --name=v --filename=/dev/vda --rw=randwrite --bs=512-128k --bs_unaligned=0 --size=768M "
              "--direct=1 --ioengine=libaio --iodepth=64 --verify=crc32c --verify_fatal=1 --thread "
              ">/dev/null", timeout=3600)
        vm.power_off()
