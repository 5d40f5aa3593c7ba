# SPDX-License-Identifier: Apache-2.0
"""Where things are: the tree, its build, the cache, and the state of running labs."""

import hashlib
import os
import pwd
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]


def build_directory():
    return Path(os.environ.get("UTSUSU_BUILD", TREE / "build")).resolve()


def cache_directory():
    path = Path(os.environ.get("UTSUSU_CACHE", Path.home() / ".cache" / "utsusu"))
    path.mkdir(parents=True, exist_ok=True)
    return path.resolve()


def labs_directory():
    """Short on purpose: UNIX socket names end at 107 bytes."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and os.access(base, os.W_OK) and len(base) < 40:
        path = Path(base) / "utsusu-lab"
    else:
        path = Path(f"/tmp/utsusu-lab-{os.getuid()}")
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.stat().st_uid != os.getuid():
        raise PermissionError(f"{path}: belongs to someone else")
    return path


def default_lab_name():
    user = pwd.getpwuid(os.getuid()).pw_name[:12]
    return f"{user}-{hashlib.sha256(str(TREE).encode()).hexdigest()[:6]}"
