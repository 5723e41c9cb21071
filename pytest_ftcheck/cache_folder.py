"""What a folder of stored runs holds, and what may leave it: runs, locks, checkpoints of runs that were interrupted,
and what dead processes left behind.

Only files are removed whose names are of our own making, and never a run that a live process is training.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .lock import exclusively

RUN = re.compile(r"[0-9a-f]{32}\.json")
LOCK = re.compile(r"[0-9a-f]{32}\.lock")
PARTIAL = re.compile(r"\.partial-\w+\.json")
# What the name of the folder ends with in which an unfinished run's checkpoints are.
UNFINISHED = ".unfinished"
UNFINISHED_FOLDER = re.compile(r"[0-9a-f]{32}\.unfinished")
# They may be large, and who has not come back for them within a week has other code by now.
UNFINISHED_KEPT_S = 7 * 24 * 3600
# Writing a run takes milliseconds: what has been half written for ten minutes is of a process that has died.
LEFT_BEHIND_S = 600


@dataclass(frozen=True)
class Entry:
    """A stored run: its file, its size, and when it was last read or written (seconds since 1970)."""

    path: Path
    size_bytes: int
    used_at_s: float


@dataclass(frozen=True)
class Removed:
    """What a clearing removed, and the keys that it left because a live process is training them."""

    runs: int
    size_bytes: int
    in_training: tuple[str, ...]
    unfinished: int = 0


class CacheFolder:
    """The stored runs in ``folder``, as files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entries(self) -> list[Entry]:
        """Every stored run; first the one that was used longest ago."""
        found = [Entry(Path(file.path), s.st_size, max(s.st_atime, s.st_mtime)) for file, s in self._files(RUN)]
        return sorted(found, key=lambda entry: (entry.used_at_s, entry.path))

    def in_training(self) -> list[str]:
        """The keys that live processes are training."""
        keys = sorted(Path(file.path).stem for file, _ in self._files(LOCK))
        return [key for key in keys if not self._is_free(key)]

    def unfinished(self) -> list[Entry]:
        """What is kept to go on with runs that were interrupted, and nobody trains now; the oldest first."""
        found = [_of_folder(Path(folder.path)) for folder in self._folders() if self._is_free(Path(folder.name).stem)]
        return sorted(found, key=lambda entry: (entry.used_at_s, entry.path))

    def keep_within(self, limit_bytes: int, newest: str) -> None:
        """Remove the runs that were used longest ago as long as all together take more than ``limit_bytes``, except the
        one called ``newest``; and what dead processes have left behind.
        """
        entries = self.entries()
        total = sum(entry.size_bytes for entry in entries)
        for entry in entries:
            if total > limit_bytes and entry.path.stem != newest and self._remove(entry):
                total -= entry.size_bytes
        self._sweep()

    def clear(self) -> Removed:
        """Remove every stored run that nobody is training, and what dead processes have left behind."""
        entries, busy = self.entries(), self.in_training()
        removed = [entry for entry in entries if self._remove(entry)]
        unfinished = [entry for entry in self.unfinished() if self._remove(entry)]
        for file, _ in self._files(LOCK):
            self._remove_lock(Path(file.path))
        self._sweep()
        size_bytes = sum(entry.size_bytes for entry in (*removed, *unfinished))
        return Removed(len(removed), size_bytes, tuple(busy), len(unfinished))

    def _remove(self, entry: Entry) -> bool:
        """Whether it is gone; not where a process is training it."""
        lock = entry.path.with_suffix(".lock")
        with exclusively(lock) as ours, contextlib.suppress(OSError):
            if ours:
                shutil.rmtree(entry.path) if entry.path.is_dir() else entry.path.unlink(missing_ok=True)
                lock.unlink(missing_ok=True)
                return True
        return False

    def _sweep(self) -> None:
        long_ago = time.time() - LEFT_BEHIND_S
        for entry in self.unfinished():
            if entry.used_at_s < time.time() - UNFINISHED_KEPT_S:
                self._remove(entry)
        for file, status in self._files(PARTIAL):
            if status.st_mtime < long_ago:
                with contextlib.suppress(OSError):
                    os.unlink(file.path)
        for file, status in self._files(LOCK):
            if status.st_mtime < long_ago:
                self._remove_lock(Path(file.path))

    def _remove_lock(self, lock: Path) -> None:
        """Remove a lock that nobody holds, while holding it: who has opened the file meanwhile locks one without a
        name, which filelock notices.
        """
        with exclusively(lock) as ours, contextlib.suppress(OSError):
            if ours:
                lock.unlink(missing_ok=True)

    def _is_free(self, key: str) -> bool:
        with exclusively(self.folder / f"{key}.lock") as ours:
            return ours

    def _folders(self) -> list[os.DirEntry[str]]:
        """Those of unfinished runs, links left out."""
        with contextlib.suppress(OSError):
            found = [one for one in os.scandir(self.folder) if UNFINISHED_FOLDER.fullmatch(one.name)]
            return [one for one in found if one.is_dir(follow_symlinks=False)]
        return []

    def _files(self, name: re.Pattern[str]) -> Iterator[tuple[os.DirEntry[str], os.stat_result]]:
        """The regular files of such a name, links left out; none where there is no folder."""
        with contextlib.suppress(OSError):
            for file in list(os.scandir(self.folder)):
                # Another process may remove it meanwhile.
                with contextlib.suppress(OSError):
                    if name.fullmatch(file.name) and file.is_file(follow_symlinks=False):
                        yield file, file.stat(follow_symlinks=False)


def _of_folder(folder: Path) -> Entry:
    """All that is in ``folder``, as it was last written."""
    sizes, times = [0], [0.0]
    for path in [folder, *folder.rglob("*")]:
        with contextlib.suppress(OSError):
            status = path.lstat()
            times.append(status.st_mtime)
            sizes.append(0 if path.is_dir() else status.st_size)
    return Entry(folder, sum(sizes), max(times))
