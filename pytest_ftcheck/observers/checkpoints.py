"""The checkpoints that a training writes, told from its files: loops name them as they like."""

from __future__ import annotations

import re
from pathlib import Path


class Checkpoints:
    """What is written below ``folder``, between one look and the next."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known = _stamps(folder)

    def look(self, update: int) -> Path | None:
        """The checkpoint that was written since the last look, which is that after ``update`` (0: none counts): its
        folder, or its only file. None where nothing was written.
        """
        stamps = _stamps(self.folder)
        written = [path for path, stamp in stamps.items() if self._known.get(path) != stamp]
        known, self._known = set(self._known), stamps
        return _checkpoint_of(written, self.folder, known, update) if written and update else None


def _stamps(folder: Path) -> dict[Path, tuple[int, int]]:
    """Every file below ``folder``, with what changes when it is written to."""
    return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in folder.rglob("*") if p.is_file()}


def _checkpoint_of(written: list[Path], folder: Path, known: set[Path], update: int) -> Path:
    """The folder that one checkpoint fills, or its only file, told from the files that were written after ``update``.

    It is around the largest file: that file itself, if its name has the update's number; or a folder that holds nothing
    older and has that number, or any, in its name; or else the lowest.
    """
    largest = max(written, key=lambda path: path.stat().st_size)
    own = [p for p in largest.parents if folder in p.parents and not any(p in other.parents for other in known)]
    if update in _numbers(largest):
        return largest
    if not own:
        # One folder that is written over at each checkpoint, or one with a file for each.
        return largest.parent if largest.parent != folder and largest in known else largest
    of_update = [path for path in own if update in _numbers(path)]
    numbered = [path for path in own if _numbers(path)]
    return of_update[-1] if of_update else numbered[0] if numbered else own[0]


def _numbers(path: Path) -> list[int]:
    return [int(digits) for digits in re.findall(r"\d+", path.name)]
