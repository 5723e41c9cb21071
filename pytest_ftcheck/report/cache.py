"""What ``--ftcheck-cache-info`` and ``--ftcheck-cache-clear`` print."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ..cache_folder import CacheFolder
from ..options import Settings
from ..store import SIZE_LIMIT_BYTES, local_folder
from .units import size


def look_after(chosen: Settings) -> list[str]:
    """Do what the option asks for, and say what there is. Raises pytest.UsageError for runs that are kept at a URL."""
    folder = local_folder(chosen.cache_dir)
    if folder is None:
        flag = "--ftcheck-cache-info" if chosen.cache_info else "--ftcheck-cache-clear"
        raise pytest.UsageError(
            f"{flag} with --ftcheck-cache-dir={chosen.cache_dir}; allowed: a folder of this machine"
        )
    return information(folder, chosen.cache_size) if chosen.cache_info else cleared(folder)


def information(folder: Path, limit_bytes: int | None) -> list[str]:
    """What is kept in ``folder``: how many runs, their size and its limit, when they were used, what is in training."""
    kept = CacheFolder(folder)
    entries, busy = kept.entries(), kept.in_training()
    total = sum(entry.size_bytes for entry in entries)
    limit = SIZE_LIMIT_BYTES if limit_bytes is None else limit_bytes
    lines = [
        f"ftcheck: {_runs(len(entries))} in {folder}",
        f"  size: {size(total)} of at most {size(limit)} (--ftcheck-cache-size)",
    ]
    if entries:
        first, last = _date(entries[0].used_at_s), _date(entries[-1].used_at_s)
        lines.append(f"  last used: {first} (the first to go) to {last}")
    if unfinished := kept.unfinished():
        held = size(sum(entry.size_bytes for entry in unfinished))
        lines.append(f"  interrupted, with checkpoints to go on from: {_runs(len(unfinished))}, {held} besides")
    if busy:
        lines.append(f"  being trained now: {len(busy)}")
    return lines


def cleared(folder: Path) -> list[str]:
    """Remove what is kept in ``folder``, and say what that was."""
    removed = CacheFolder(folder).clear()
    besides = f" and checkpoints of {removed.unfinished} that were interrupted" if removed.unfinished else ""
    lines = [f"ftcheck: {_runs(removed.runs)}{besides} ({size(removed.size_bytes)}) removed from {folder}"]
    if removed.in_training:
        lines.append(f"  left: {len(removed.in_training)} that a live process is training")
    return lines


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
