# SPDX-License-Identifier: Apache-2.0
"""What tests over the lab's machines share.

A test that takes `machine` gets a machine that other tests use too: it must leave it as it found
it, and fails when it leaves a process of utsusu behind. A test that cuts power or wires makes a
Lab of its own, or takes `pair` and mends what it broke.
"""

import os
import shutil
import sys
from pathlib import Path

import pytest

TREE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE / "lab"))
sys.dont_write_bytecode = True

from emulator_faults import (pytest_runtest_makereport,  # noqa: E402,F401
                             pytest_runtest_protocol)
from labkit import Lab  # noqa: E402
from labkit.paths import build_directory  # noqa: E402

LEFT = r"""for one in /proc/[0-9]*; do
	read -r name <$one/comm && case $name in utsusu*)
		echo "${one#/proc/} $name $(tr '\0' ' ' <$one/cmdline)"; kill -9 "${one#/proc/}" ;;
	esac
done 2>/dev/null; true"""


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="run the slow tests as well")


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes minutes; runs with --long")


def _is_long(config):
    return bool(config.getoption("--long") or os.environ.get("UTSUSU_TEST_LONG"))


def pytest_collection_modifyitems(config, items):
    if not _is_long(config):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="slow: runs with --long"))


@pytest.fixture(scope="session")
def long(pytestconfig):
    """Whether slow tests run as well: for a test that is then repeated more often."""
    return _is_long(pytestconfig)


@pytest.fixture(scope="session")
def emulator():
    if not shutil.which("qemu-system-x86_64"):
        pytest.skip("no qemu-system-x86_64: scripts/dependencies lab")


@pytest.fixture(scope="session")
def lab_of_one(emulator):
    with Lab(machines=1) as lab:
        yield lab


@pytest.fixture(scope="session")
def lab_of_two(emulator):
    with Lab(machines=2, share_disk=64 << 20) as lab:
        yield lab


def _tidy(machine):
    """Says what a test left in the machine, and ends it."""
    if not machine.alive():
        machine.start()
        return "the machine was off"
    machine.thaw()
    return machine.run(LEFT).text.strip()


@pytest.fixture
def machine(lab_of_one):
    """A running machine."""
    one = lab_of_one["A"]
    if not one.alive():
        one.start()
    yield one
    left = _tidy(one)
    assert not left, f"left in the machine: {left}"


@pytest.fixture
def pair(lab_of_two):
    """A lab of two running machines with a whole wire and a shared disk."""
    lab_of_two.up()
    yield lab_of_two
    left = [_tidy(one) for one in lab_of_two.machines.values()]
    assert not any(left), f"left in the machines: {left}"


@pytest.fixture(scope="session")
def host_of_all(emulator, programs):
    """A machine of 4 GiB with the fresh build copied into it, as a place of VMs (vms.py).

    UTSUSU_TEST_LAB=NAME takes a lab that is up already: quicker, for one who writes tests.
    """
    from vms import Host
    if ready := os.environ.get("UTSUSU_TEST_LAB"):
        yield Host(Lab.attach(ready)["A"])
        return
    with Lab(machines=1, memory=4096, nvme=True) as lab:
        yield Host(lab["A"])


@pytest.fixture
def host(host_of_all):
    yield host_of_all
    host_of_all.end_all()
    left = host_of_all.leftovers()
    host_of_all.sweep()
    assert not left, f"left in the machine: {left}"


CLOCKS = {"A": "+3 hours", "B": "-5 hours"}     # of the machines between which VMs move


@pytest.fixture(scope="session")
def moving_of_all(emulator, programs):
    """Two hosts that know each other, with a disk and a wire in common, and a third machine outside (moves.py).

    UTSUSU_TEST_LAB=NAME takes a lab that is up already: lab up --machines 3 --memory 1536 --share-disk 64M --bridge.
    """
    from moves import MovePair
    if ready := os.environ.get("UTSUSU_TEST_LAB"):
        yield MovePair(Lab.attach(ready))
        return
    with Lab(machines=3, memory=1536, share_disk=64 << 20, bridge=True) as lab:
        for name, change in CLOCKS.items():
            lab[name].run(["date", "-s", change])
        yield MovePair(lab)


@pytest.fixture
def moving(moving_of_all):
    yield moving_of_all
    moving_of_all.mend()


@pytest.fixture(scope="session")
def protecting_of_all(emulator, programs):
    """Two hosts with disks of their own that know each other and an etcd, whose third member is on the machine outside (protecting.py).

    UTSUSU_TEST_LAB=NAME takes a lab that is up already: lab up --machines 3 --memory 1536 --state-disk 1G --bridge.
    """
    from protecting import ProtectPair
    if ready := os.environ.get("UTSUSU_TEST_LAB"):
        yield ProtectPair(Lab.attach(ready))
        return
    with Lab(machines=3, memory=1536, state_disk=1 << 30, bridge=True) as lab:
        for name, change in CLOCKS.items():
            lab[name].run(["date", "-s", change])
        yield ProtectPair(lab)


@pytest.fixture
def protecting(protecting_of_all):
    yield protecting_of_all
    protecting_of_all.mend()


@pytest.fixture
def vm(moving):
    """A VM that runs on one of the two; the one of the test before, if it still does."""
    yield moving.any_vm()


@pytest.fixture(scope="session")
def programs():
    """The folder of the fresh build's programs; the same path holds in the machines."""
    path = build_directory() / "src/programs"
    if not (path / "utsusu").exists():
        pytest.fail(f"{path}/utsusu is not built: ninja -C {build_directory()}")
    return path
