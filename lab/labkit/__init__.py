# SPDX-License-Identifier: Apache-2.0
"""Emulated machines with a real KVM in them, for tests and for trying things out."""

from .channel import Process
from .errors import LabError
from .lab import Lab
from .machine import Machine, Result

__all__ = ["Lab", "LabError", "Machine", "Process", "Result"]
