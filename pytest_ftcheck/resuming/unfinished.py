"""What is kept of a run while it is trained: the checkpoints of its loop, with a note on each."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..board import Board
from ..codec import Record
from ..errors import RecordError
from ..observers.beginning import Beginning
from ..reads import file_digest
from .moment import Moment

# The newest may be of a checkpoint that was cut off in the middle, or that the loop has removed since.
KEPT_NOTES = 2


@dataclass(frozen=True)
class Note(Record):
    """A checkpoint: its place below the folder of the loop's output, with the digest of each of its files; ``present``
    are all files that were there. ``seen`` is what was seen of the training until then, ``moment`` the state in which
    it went on, and ``opened`` the files that it had read.
    """

    checkpoint: str
    files: dict[str, str]
    present: tuple[str, ...]
    seen: Beginning
    moment: Moment
    opened: tuple[str, ...]


class Unfinished:
    """The folder of a run that somebody trains; who does holds its claim, and so has the folder alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "output"
        self._notes = Board(folder / "notes")

    def open(self) -> bool:
        """Make the folder; whether that is possible."""
        try:
            self.output.mkdir(parents=True, exist_ok=True)
        except OSError:
            return False
        self._notes.open()
        return True

    def write(self, checkpoint: Path, seen: Beginning, moment: Moment, opened: Iterable[str]) -> None:
        """Note ``checkpoint``. What cannot be written is left out: then there is an older one, or none."""
        files = {self._name(path): file_digest(path) for path in _files_of(checkpoint)}
        present = tuple(self._name(path) for path in _files_of(self.output))
        note = Note(self._name(checkpoint), files, present, seen, moment, tuple(opened))
        self._notes.post(f"{seen.updates:012d}", note.to_json())
        for name in self._notes.names()[:-KEPT_NOTES]:
            self._notes.remove(name)

    def latest(self) -> Note | None:
        """The note on the newest checkpoint whose files are all as they were written."""
        found = (self._read(name) for name in reversed(self._notes.names()))
        return next((note for note in found if note is not None and self._is_sound(note)), None)

    def go_back_to(self, note: Note) -> None:
        """Remove what the loop has written after ``note``: a loop need not expect that it has been there before."""
        present = frozenset(note.present)
        for path in sorted(self.output.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                with contextlib.suppress(OSError):
                    path.rmdir()  # one that is empty now
            elif self._name(path) not in present:
                path.unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove all of it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self.output))

    def _read(self, name: str) -> Note | None:
        text = self._notes.read(name)
        try:
            return Note.from_json(text) if isinstance(text, str) else None
        except RecordError:
            return None

    def _is_sound(self, note: Note) -> bool:
        try:
            return bool(note.files) and all(file_digest(self.output / p) == was for p, was in note.files.items())
        except OSError:
            return False


def _files_of(checkpoint: Path) -> list[Path]:
    return [path for path in sorted(checkpoint.rglob("*")) if path.is_file()] if checkpoint.is_dir() else [checkpoint]
