# SPDX-License-Identifier: Apache-2.0
"""A guest's program whose work can be checked from outside (load.c), and its other side: client.py asks, counts and measures,
history.py logs every operation of several clients, and judge.py finds in that log what was lost."""

from pathlib import Path

CLIENT = Path(__file__).parent / "client.py"
HISTORY = Path(__file__).parent / "history.py"
WIRETAP = Path(__file__).parent / "wiretap.py"
