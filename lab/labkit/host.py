# SPDX-License-Identifier: Apache-2.0
"""What this computer can do for the lab."""

import os
import re


def cpu_flags():
    with open("/proc/cpuinfo") as info:
        match = re.search(r"^flags\s*:(.*)$", info.read(), re.M)
    return set(match.group(1).split()) if match else set()


def has_real_kvm():
    """A /dev/kvm alone proves nothing: only with VT-x or SVM does it run stock kernels."""
    return bool(cpu_flags() & {"vmx", "svm"}) and os.access("/dev/kvm", os.R_OK | os.W_OK)


def accelerator():
    """(emulator options, kernel module that gives a machine its KVM)"""
    if has_real_kvm():
        module = "kvm_intel" if "vmx" in cpu_flags() else "kvm_amd"
        return ["-accel", "kvm", "-cpu", "host"], module
    return ["-accel", "tcg,thread=multi", "-cpu", "EPYC,+svm,+npt,-topoext"], "kvm_amd"
