# SPDX-License-Identifier: Apache-2.0
"""Guests that QEMU's software emulation of SVM lost, some one in 500: two signs, told in docs/lab.md."""

import pytest
from _pytest.runner import runtestprotocol
from labkit import LabError

# From the start on, the machine's kernel notes each #VMEXIT for a shutdown; one that a page fault on fetching code led
# to ends with SHUTDOWN_FETCH.
WATCH_SHUTDOWNS = "cd /sys/kernel/tracing/events/kvm/kvm_exit && echo 'exit_reason == 0x7f' >filter && echo 1 >enable"
SHUTDOWN_FETCH = "intr_info 0x80000b0e error_code 0x00000010"
# And where KVM's function that runs a guest begins, and where guests are that fault all the time.
RUN_FUNCTION_SIZE = 0x400
STANDS_AT = r"""
sed -n 's/ t __svm_vcpu_run.*//p' /proc/kallsyms | head -n 1
cd /sys/kernel/tracing && echo >trace
for event in kvm_emulate_insn kvm_page_fault; do echo 1 >events/kvm/$event/enable; done
sleep 0.3
for event in kvm_emulate_insn kvm_page_fault; do echo 0 >events/kvm/$event/enable; done
sed -nE 's/.*kvm_emulate_insn: 0:([0-9a-f]+).*/\1/p; s/.* rip 0x([0-9a-f]+) .*/\1/p' trace | sort -u
"""


def watch(machine):
    """To be called before guests run there. Without effect where KVM is Intel's."""
    machine.run(f"{WATCH_SHUTDOWNS} || true")


def lost_a_guest(machine):
    """Whether a guest's code is not there any more (it cannot be fetched, nor any handler's), or a guest's
    registers are the machine's: its RIP lies behind the VMRUN of the machine's own kernel."""
    try:
        if SHUTDOWN_FETCH in machine.run("cat /sys/kernel/tracing/trace").text:
            return True
        start, *rips = (int(number, 16) for number in machine.run(STANDS_AT).text.split())
    except (LabError, TimeoutError, ValueError):
        return False
    return any(start <= rip < start + RUN_FUNCTION_SIZE for rip in rips)


# The hooks of pytest; conftest.py takes them.

LOST = ("lost by the emulator", True)
LOST_MOST = 4       # more often it is not the emulator
lost = []           # tests that were run again


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "call" and report.failed and any(map(lost_a_guest, _machines(item))):
        item.user_properties.append(LOST)


def _machines(item):
    """Those that the test used."""
    used = item.funcargs or {}
    if host := used.get("host") or used.get("host_of_all"):
        return [host.machine]
    return [used["machine"]] if "machine" in used else []


def pytest_runtest_protocol(item, nextitem):
    """A test whose guest the emulator lost says nothing about what it tests: it runs again."""
    def run():
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        return runtestprotocol(item, nextitem=nextitem, log=False)

    reports = run()
    while LOST in item.user_properties and len(lost) < LOST_MOST:
        lost.append(item.nodeid)
        print(f"\n{item.nodeid}: the emulator lost the guest (docs/lab.md); again", flush=True)
        item.user_properties.clear()
        reports = run()
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
