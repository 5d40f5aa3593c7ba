# SPDX-License-Identifier: Apache-2.0
"""Guests under load: processors, memory, disk and interrupts at once."""

import pytest
from vms import LONG_PATIENCE


def stress(vm, seconds, *stressors):
    output = vm.sh(f"stress-ng {' '.join(stressors)} --verify --metrics-brief --timeout {seconds}s 2>&1",
                   timeout=seconds * 10 + 120)
    assert "successful run completed" in output, output
    assert "fail" not in output.replace("failed: 0", ""), output


def test_processors_and_memory(host):
    vm = host.start("--cpus", 4, "--memory", "1G", guest="tools").ready()
    stress(vm, 10, "--cpu 4", "--vm 2 --vm-bytes 128M", "--switch 2", "--timer 1")
    assert "rcu" not in vm.sh("dmesg --level=emerg,alert,crit,err 2>/dev/null || dmesg | grep -i stall || true")
    vm.power_off()


@pytest.mark.long
def test_processors_and_memory_for_a_minute(host):
    vm = host.start("--cpus", 4, "--memory", "1G", guest="tools").ready()
    stress(vm, 60, "--cpu 4", "--vm 4 --vm-bytes 150M", "--switch 2", "--timer 1", "--matrix 2", "--memcpy 2")
    vm.power_off()


def test_everything_at_once(host):
    """Disk, network and processors busy together, then a reset in the middle of it.

    Not by `reboot -f`: Linux (seen with 6.1.192) breaks its virtio queues before it restarts, and a thread that is just in virtio_net's
    start_xmit then never leaves its loop over virtqueue_enable_cb_delayed: one time in some hundred that restart never comes.
    """
    with host.folder() as folder, host.tap("s0", "10.9.1.1/24"):
        host.sh(f"truncate -s 128M {folder}/d")
        vm = host.start("--cpus", 4, "--memory", "512M", "--disk", f"path={folder}/d", "--net", "tap=s0",
                        guest="tools", cmdline="utsusu.ip=10.9.1.2/24").ready()
        load = ("fio --name=l --filename=/dev/vda --rw=randrw --direct=1 --ioengine=libaio --iodepth=32 --bs=16k "
                "--time_based --runtime=600 --thread >/dev/null 2>&1 & ping -i 0.01 -s 1400 10.9.1.1 >/dev/null & "
                "stress-ng --cpu 2 --vm 1 --vm-bytes 64M --timeout 600s >/dev/null 2>&1 & echo star''ted")
        for _ in range(2):
            vm.type(load)
            vm.expect("started")
            host.sh("sleep 5")
            assert vm.sh("echo alive").strip().endswith("alive")
            vm.type("echo b >/proc/sysrq-trigger")
            vm.ready()
        vm.power_off()


def test_pauses_under_load(host):
    with host.folder() as folder:
        host.sh(f"truncate -s 64M {folder}/d")
        vm = host.start("--cpus", 2, "--memory", "512M", "--disk", f"path={folder}/d", guest="tools").ready()
        vm.type("fio --name=v --filename=/dev/vda --rw=randwrite --bs=4k --size=32M --direct=1 --ioengine=libaio "
                "--iodepth=16 --verify=crc32c --verify_fatal=1 --thread; echo fio-''ended=$?.")
        for _ in range(20):
            host.utsusu("pause", vm.name)
            host.utsusu("resume", vm.name)
        assert "err= 0" in vm.expect("fio-ended=0.", timeout=LONG_PATIENCE)
        vm.power_off()
