# SPDX-License-Identifier: Apache-2.0
"""Guests boot: processors, memory, models, kinds of kernels, reset and power."""

import json
import re

import pytest

from labkit.kernels import kernel
from vmlinux import vmlinux
from vms import LONG_PATIENCE

MEMORY_KB = r"MemTotal:\s+(\d+) kB"


@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_guest_reaches_its_init(host, cpus):
    vm = host.start("--cpus", cpus)
    vm.ready()
    assert vm.sh("nproc").strip() == str(cpus)
    vm.power_off()


def test_every_cpu_takes_interrupts_and_work(host):
    vm = host.start("--cpus", 4)
    vm.ready()
    for cpu in range(4):
        assert vm.sh(f"taskset -c {cpu} sh -c 'cut -d\" \" -f39 /proc/self/stat'").strip() == str(cpu)
    vm.power_off()


def kernel_base(host):
    vm = host.start()
    vm.ready()
    base = vm.sh("grep ' _text$' /proc/kallsyms").split()[0]
    vm.power_off()
    return int(base, 16)


def test_kaslr_moves_the_kernel(host):
    """A kernel that finds no random numbers lies at the same place each time."""
    first, second = kernel_base(host), kernel_base(host)
    assert first and second and first != second, f"{first:x} {second:x}"


@pytest.mark.parametrize("megabytes", [128, 512])
def test_guest_sees_its_memory(host, megabytes):
    vm = host.start("--memory", f"{megabytes}M")
    vm.ready()
    seen = int(re.search(MEMORY_KB, vm.sh("cat /proc/meminfo")).group(1)) // 1024
    assert megabytes * 0.6 < seen <= megabytes
    vm.power_off()


def test_guest_of_3_gib(host):
    """The most of a 4 GiB machine: memory on both sides of the hole below 4 GiB, all of it usable."""
    vm = host.start("--memory", "3G")
    vm.ready()
    assert int(re.search(MEMORY_KB, vm.sh("cat /proc/meminfo")).group(1)) > 2900 * 1024
    ranges = re.findall(r"([0-9a-f]+)-[0-9a-f]+ : System RAM", vm.sh("cat /proc/iomem"))
    assert int(ranges[-1], 16) >= 1 << 32, ranges
    # The part above 4 GiB is a quarter of a GiB: half a GiB of random bytes lies on both sides of the hole.
    vm.sh("mount -t tmpfs -o size=90% big /mnt && dd if=/dev/urandom of=/mnt/a bs=1M count=16 2>/dev/null && "
          "for i in $(seq 32); do cat /mnt/a; done >/mnt/b", timeout=LONG_PATIENCE)
    sums = vm.sh("for i in $(seq 0 31); do dd if=/mnt/b bs=1M count=16 skip=$((i * 16)) 2>/dev/null | "
                 "md5sum; done | sort -u | wc -l; md5sum </mnt/a; dd if=/mnt/b bs=1M count=16 2>/dev/null | md5sum",
                 timeout=LONG_PATIENCE).split()
    assert sums[0] == "1" and sums[1] == sums[3], sums
    vm.power_off()


@pytest.mark.parametrize("model", ["host", "v2"])
def test_cpu_model(host, model):
    vm = host.start("--cpus", f"2,model={model}")
    vm.ready()
    flags = set(vm.sh("grep -m1 ^flags /proc/cpuinfo").split())
    assert {"sse4_2", "popcnt", "cx16", "hypervisor"} <= flags
    if model == "v2":
        assert not {"avx2", "bmi1"} & flags
    vm.power_off()


def test_model_beyond_the_host_is_refused_by_name(host):
    if {"avx2", "bmi2", "fma", "movbe"} <= set(host.sh("grep -m1 ^flags /proc/cpuinfo").split()):
        pytest.skip("this host has all of v3")
    line = host.refused("run", "m", *host.arguments(["--cpus", "1,model=v3"]), status=3)
    assert "cpus: this host lacks " in line and "cpu-baseline" in line


def test_32_bit_kernel(host):
    vm = host.start("--cpus", 2, guest="tiny32")
    vm.ready()
    assert vm.sh("uname -m").strip() == "i686"
    assert vm.sh("nproc").strip() == "2"
    vm.power_off()


def test_reserved_huge_pages(host):
    host.sh("echo 160 >/proc/sys/vm/nr_hugepages")
    try:
        vm = host.start("--memory", "256M,hugepages=on").ready()
        # Each 2 MiB page that the guest touched is one of those.
        meminfo = host.sh("cat /proc/meminfo")
        free, total = (int(re.search(rf"HugePages_{what}:\s+(\d+)", meminfo)[1]) for what in ("Free", "Total"))
        assert total == 160 and free <= total - 16, meminfo
        vm.power_off()
        assert "HugePages_Free:      160" in host.sh("cat /proc/meminfo"), "all are given back"
    finally:
        host.sh("echo 0 >/proc/sys/vm/nr_hugepages")


def test_memory_is_of_huge_pages(host):
    """Without a word about it, and on a host whose shmem_enabled is Linux's default."""
    assert "[never]" in host.sh("cat /sys/kernel/mm/transparent_hugepage/shmem_enabled")
    vm = host.start("--memory", "256M").ready()
    meminfo = host.sh("cat /proc/meminfo")
    used = int(re.search(r"ShmemHugePages:\s+(\d+)", meminfo)[1])
    assert used >= 16 << 10, meminfo
    maps = host.sh(f"sed -n '/guest-ram/,/VmFlags/p' /proc/{vm.pid}/smaps")
    mapped = sum(int(kilobytes) for kilobytes in re.findall(r"ShmemPmdMapped:\s+(\d+)", maps))
    assert mapped >= 16 << 10, maps
    vm.power_off()


def test_memory_of_small_pages(host):
    vm = host.start("--memory", "256M,hugepages=off").ready()
    meminfo = host.sh("cat /proc/meminfo")
    assert re.search(r"ShmemHugePages:\s+0 kB", meminfo), meminfo
    vm.power_off()


def test_huge_pages_that_are_not_there_are_refused(host):
    line = host.refused("run", "m", *host.arguments(["--memory", "256M,hugepages=on"]), status=3)
    assert "hugepages" in line and "nr_hugepages" in line


MEASURE = """
import json, socket
with socket.socket(socket.AF_UNIX) as s:
    s.connect("/run/utsusu/%s/socket")
    s.sendall(b'{"command": "measure", "rounds": 200, "dirty": true}\\n')
    print(s.makefile().readline())
"""


def measured(host, vm):
    """What 200 checkpoints without RAM found, 2 ms apart."""
    reply = json.loads(host.sh(f"/usr/bin/python3 - <<'END'\n{MEASURE % vm.name}END"))
    assert reply["ok"], reply
    return reply


@pytest.mark.parametrize("logger", ["ring", "bitmap"])
def test_dirty_loggers(host, logger):
    """A guest that writes 8 MiB again and again is seen doing so, beside what it does at rest."""
    vm = host.start("--memory", f"256M,dirty={logger}", "--cpus", 2)
    vm.ready()
    at_rest = measured(host, vm)["dirty_pages"]
    vm.type("while :; do dd if=/dev/zero of=/tmp/w bs=1M count=8 conv=notrunc; done >/dev/null 2>&1 &")
    assert measured(host, vm)["dirty_pages"] > 2048 + at_rest
    assert vm.sh("echo alive").strip() == "alive"
    vm.power_off()


def test_reboot_inside_the_guest(host):
    vm = host.start("--cpus", 2)
    for _ in range(3):
        vm.ready()
        pid = vm.pid
        vm.type("reboot -f")
    vm.ready()
    assert vm.pid == pid, "a reset must not end the VM"
    assert vm.sh("nproc").strip() == "2"
    vm.power_off()


def test_a_panic_resets(host):
    """panic=-1 makes the kernel reset at once, by whatever way it finds."""
    vm = host.start()
    vm.ready()
    vm.type("echo c >/proc/sysrq-trigger")
    vm.ready()
    vm.power_off()


def test_a_triple_fault_resets_and_is_told(host):
    vm = host.start(cmdline="reboot=triple")
    vm.ready()
    vm.type("reboot -f")
    vm.ready()
    assert vm.errors().count("triple fault in the guest: reset\n") == 1
    vm.power_off()


def test_kernel_memory_is_where_e820_says(host):
    vm = host.start("--memory", "256M", cmdline="memtest=1")
    vm.ready()
    assert "bad" not in vm.sh("dmesg | grep -i 'bad mem addr' || true")
    vm.power_off()


@pytest.fixture(scope="module")
def elf_kernel(host_of_all):
    """Debian's generic kernel as an ELF file with a PVH entry, on the machine's disk."""
    path = "/scratch/vmlinux"
    host_of_all.run(["dd", f"of={path}", "bs=1M"], input=vmlinux(kernel("linux-image-amd64").image.read_bytes()),
                    timeout=LONG_PATIENCE)
    yield path
    host_of_all.run(["rm", path])


def test_pvh_entry(host, elf_kernel):
    vm = host.start("--kernel", elf_kernel, "--cpus", 2).ready()
    assert vm.sh("nproc").strip() == "2"
    vm.type("reboot -f")
    vm.ready()
    vm.power_off()


def test_memtest_comes_up(host):
    """A kernel that is not Linux: its first screen, on the serial line."""
    vm = host.start("--cmdline", "console=ttyS0,115200 nosmp", guest="memtest")
    vm.expect("Memtest86+")
    vm.expect("MB")
    host.utsusu("stop", vm.name, "--force")
    assert vm.wait() == 0


def test_ipxe_is_refused_with_the_reason(host):
    """Its payload runs in real mode only, which takes a BIOS."""
    line = host.refused("run", "m", *host.arguments([], "ipxe"), status=4)
    assert "kernel" in line and "protected" in line, line
