# SPDX-License-Identifier: Apache-2.0
"""A guest's program whose work can be checked from outside (load.c), and its other side (client.py)."""

from pathlib import Path

CLIENT = Path(__file__).parent / "client.py"
