"""A lock between processes that ends with the process which holds it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def exclusively(lock_file: Path) -> Iterator[bool]:
    """Whether this process holds the lock now; False, at once, where another one does."""
    from filelock import FileLock, Timeout

    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    except OSError:
        # A folder that cannot be written has no locks, and keeps no runs: everybody trains for themselves.
        yield True
        return
    try:
        yield True
    finally:
        lock.release()
