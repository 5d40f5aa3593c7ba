# SPDX-License-Identifier: Apache-2.0
"""Guests and machines that QEMU's software emulation of SVM lost: the signs are told in docs/lab.md."""

import contextlib
import re
import time

import pytest
from _pytest.runner import runtestprotocol
from guest_activity import guest_activity
from labkit import LabError

# From the start on, the machine's kernel notes each #VMEXIT for a shutdown, with the time in seconds since its start. One
# that an exception led to (a page fault on fetching code, mostly), or an interrupt that could not be delivered, is like SHUTDOWN;
# a kernel that reboots so comes by an INT3, which has no error code.
WATCH_SHUTDOWNS = "cd /sys/kernel/tracing/events/kvm/kvm_exit && echo 'exit_reason == 0x7f' >filter && echo 1 >enable"
SHUTDOWN = re.compile(r" (\d+\.\d+): kvm_exit: .* intr_info 0x80000[b0]")
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


def lost_a_guest(machine, seconds=3600):
    """Whether, in the last seconds, a guest's code was not there any more (it cannot be fetched, nor any handler's), or
    a guest's registers are the machine's: its RIP lies behind the VMRUN of the machine's own kernel."""
    try:
        now, _, trace = machine.run("cut -d' ' -f1 /proc/uptime; cat /sys/kernel/tracing/trace").text.partition("\n")
        for line in trace.splitlines():
            shutdown = SHUTDOWN.search(line)
            if shutdown and float(shutdown[1]) > float(now) - seconds:
                print(f"\nin the machine's trace: {line.strip()}")
                return True
        start, *rips = (int(number, 16) for number in machine.run(STANDS_AT).text.split())
    except (LabError, TimeoutError, ValueError):
        return False
    return any(start <= rip < start + RUN_FUNCTION_SIZE for rip in rips)


def is_lost(machine):
    """Whether one of its processors sleeps, open for interrupts, over one that it should take, each time one looks; or
    it does nothing at all any more, not even `true` for its agent; or its kernel gave up behind a VMRUN;
    or its emulator ended by an assertion of its own."""
    if not machine.alive():
        return _panicked(machine) or bool(machine.emulator_fault())
    return _sleeps(machine) or _is_silent(machine)


def _panicked(machine):
    """An interrupt was taken right behind a #VMEXIT, before the kernel had its own GS again."""
    with contextlib.suppress(OSError):
        console = (machine.folder / "console.log").read_text(errors="replace")
        if "Kernel panic" in console and "__svm_vcpu_run+" in console:
            print("\nthe machine's kernel gave up:", *console.splitlines()[-3:], sep="\n")
            return True
    return False


def _is_silent(machine):
    if machine.state_of_process() != "running":
        return False
    try:
        machine.run(["true"], timeout=SILENCE)
    except (LabError, TimeoutError, OSError):
        with contextlib.suppress(Exception), machine.qmp() as qmp:
            print("\nthe machine is silent:", qmp.execute("human-monitor-command",
                                                          **{"command-line": "info registers -a"}))
        return True
    return False


def _sleeps(machine):
    try:
        for _ in range(5):
            if not _sleeps_over_interrupts(machine):
                return False
            time.sleep(0.5)
    except (LabError, OSError):
        return False
    return True


def _sleeps_over_interrupts(machine):
    with machine.qmp() as qmp:
        def monitor(command):
            return qmp.execute("human-monitor-command", **{"command-line": command})

        for processor, registers in enumerate(monitor("info registers -a").split("CPU#")[1:]):
            flags = int(re.search(r"RFL=([0-9a-f]+)", registers)[1], 16)
            apic = monitor(f"info lapic {processor}")
            waiting = re.findall(r"\d+", re.search(r"IRR\s+(.*)", apic)[1])
            taken_from = int(re.search(r"PPR 0x([0-9a-f]+)", apic)[1], 16) >> 4
            if "HLT=1" in registers and flags & IF and any(int(one) >> 4 > taken_from for one in waiting):
                return True
    return False


# The hooks of pytest; conftest.py takes them.

IF = 1 << 9         # in RFLAGS: interrupts are taken
SILENCE = 60        # seconds in which the agent of a machine that works, however hard, does a command
LOST = {"the guest": ("lost by the emulator", "the guest"), "the machine": ("lost by the emulator", "the machine")}
LOST_MOST = 8       # more often it is not the emulator
lost = []           # tests that were run again


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    report = (yield).get_result()
    if report.when == "teardown" or not report.failed or _what_was_lost(item):
        return
    for machine in _machines(item):
        if is_lost(machine):
            if machine.alive():
                machine.kill()      # and up again, so that what the test has to tidy can be tidied
            machine.start()
            item.user_properties.append(LOST["the machine"])
        elif report.when == "call" and machine.alive():
            if lost_a_guest(machine, call.duration + 10):
                item.user_properties.append(LOST["the guest"])
            elif hasattr(report.longrepr, "addsection") and (activity := guest_activity(machine)):
                report.longrepr.addsection(f"what the guests' processors do in {machine.name}", activity)


def _machines(item):
    """Those that the test used."""
    used = item.funcargs or {}
    if host := used.get("host") or used.get("host_of_all"):
        return [host.machine]
    moving = used.get("moving") or used.get("moving_of_all") or used.get("protecting") or used.get("protecting_of_all")
    if moving:
        return [side.machine for side in moving.sides.values()]
    if place := used.get("place") or used.get("place_of_all"):
        return [place.host.machine, place.outside]
    if pair := used.get("pair"):
        return list(pair.machines.values())
    return [used["machine"]] if "machine" in used else []


def _what_was_lost(item):
    return [what for what, sign in LOST.items() if sign in item.user_properties]


def pytest_runtest_protocol(item, nextitem):
    """A test whose guest or machine the emulator lost says nothing about what it tests: it runs again."""
    def run():
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        return runtestprotocol(item, nextitem=nextitem, log=False)

    reports = run()
    while (what := _what_was_lost(item)) and len(lost) < LOST_MOST:
        lost.append(item.nodeid)
        # The result's word comes behind the name, where pytest has printed that: ./check counts such lines.
        print(f"\n{item.nodeid}: the emulator lost {what[0]} (docs/lab.md); again\n{item.nodeid} ", end="", flush=True)
        item.user_properties.clear()
        if "the machine" in what:
            # With what earlier tests had set up in it: all of it is made anew.
            with contextlib.suppress(Exception):
                item.session._setupstate.teardown_exact(None)
        reports = run()
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
