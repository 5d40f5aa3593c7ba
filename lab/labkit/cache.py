# SPDX-License-Identifier: Apache-2.0
"""Things built once, kept by the content of what they were built from."""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import tempfile
import time
from pathlib import Path

from .paths import cache_directory


def key_of(inputs):
    digest = hashlib.sha256()
    for item in inputs:
        data = item.read_bytes() if isinstance(item, Path) else str(item).encode()
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def locked(path):
    """Holds the lock of that name, whose holder may unlink it; its holder's death releases it."""
    while True:
        with open(path, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists() or path.stat().st_ino != os.fstat(lock.fileno()).st_ino:
                continue
            yield
            return


def lookup(name, inputs):
    return cache_directory() / f"{name}-{key_of(inputs)}"


def built(name, inputs, build):
    """Returns the folder of what build(folder) makes from the inputs; builds it at most once."""
    path = lookup(name, inputs)
    if path.exists():
        os.utime(path)      # prune() goes by the last use
        return path
    with locked(cache_directory() / f".{name}.lock"):
        if path.exists():
            return path
        for stale in cache_directory().glob(f".{name}~*"):
            shutil.rmtree(stale, ignore_errors=True)    # its builder was killed
        work = Path(tempfile.mkdtemp(prefix=f".{name}~", dir=cache_directory()))
        try:
            work.chmod(0o755)
            build(work)
            os.rename(work, path)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return path


def prune(days):
    """Takes away what nobody has used for so many days; returns the names."""
    limit = time.time() - days * 86400
    gone = [path for path in cache_directory().iterdir()
            if re.fullmatch(r"[^.].*-[0-9a-f]{16}", path.name) and path.stat().st_mtime < limit]
    for path in gone:
        shutil.rmtree(path)
    return sorted(path.name for path in gone)
