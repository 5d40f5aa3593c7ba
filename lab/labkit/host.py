# SPDX-License-Identifier: Apache-2.0
"""What this computer can do for the lab."""

import functools
import os
import re
import subprocess

from .errors import LabError
from .packages import BACKPORTS
from .programs import program

INSTALLED = "qemu-system-x86_64"
PACKAGES = ["qemu-system-x86", "qemu-system-data"]
SOUND = (8, 1)


def cpu_flags():
    with open("/proc/cpuinfo") as info:
        match = re.search(r"^flags\s*:(.*)$", info.read(), re.M)
    return set(match.group(1).split()) if match else set()


def has_real_kvm():
    """A /dev/kvm alone proves nothing: only with VT-x or SVM does it run stock kernels."""
    return bool(cpu_flags() & {"vmx", "svm"}) and os.access("/dev/kvm", os.R_OK | os.W_OK)


def _version(program):
    text = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    match = re.search(r"version (\d+)\.(\d+)", text)
    return tuple(map(int, match.groups())) if match else (0, 0)


@functools.cache
def emulator():
    """(program, whether its emulated processors may run side by side)

    Before 8.1 a processor could go on with old code after another one had changed it: kernels, which patch
    themselves while they run, then stand still now and then. Debian 12's backports have a newer one; it is
    used from the cache and not installed. Without it the emulated processors take turns.
    """
    if has_real_kvm():
        return INSTALLED, True
    if _version(INSTALLED) >= SOUND:
        return INSTALLED, True
    try:
        return str(BACKPORTS.files(PACKAGES) / "usr/bin" / INSTALLED), True
    except LabError:
        return INSTALLED, False


def processors():
    """Of a machine that nobody gave more. Emulated ones disturb each other on their way into guests and out (docs/lab.md)."""
    return 2 if has_real_kvm() else 1


@functools.cache
def tsc_khz():
    """Of this computer, and so of each machine that it emulates."""
    return int(subprocess.run([program("tsc")], capture_output=True, text=True, check=True).stdout)


def accelerator():
    """(emulator options, kernel module that gives a machine its KVM)"""
    if has_real_kvm():
        module = "kvm_intel" if "vmx" in cpu_flags() else "kvm_amd"
        return ["-accel", "kvm", "-cpu", "host"], module
    threads = "multi" if emulator()[1] else "single"
    return ["-accel", f"tcg,thread={threads}", "-cpu", "EPYC,+svm,+npt,-topoext"], "kvm_amd"
