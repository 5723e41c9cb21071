"""The repository under guard: where the session has it, and where Ray has put a copy of it on a node."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..codec import Record


@dataclass(frozen=True)
class Checkout(Record):
    """``root`` is what nodes get a copy of, as the session names it; ``folder`` is where the session is, and ``path``
    where it imports from. What is not below ``root`` is taken to be the same on every machine.
    """

    root: str
    folder: str
    path: tuple[str, ...]

    @classmethod
    def of(cls, root: Path) -> Checkout:
        """The session's, as it is now."""
        return cls(os.path.realpath(root), os.path.realpath(os.curdir), tuple(map(os.path.realpath, sys.path)))

    @contextlib.contextmanager
    def entered(self) -> Iterator[Callable[[str], str]]:
        """On a node, in the copy: go where the session is, and import from where it does. Gives what turns a text with
        names of the copy's files into one with the session's.
        """
        copy, before = os.getcwd(), os.getcwd()
        sys.path += [place for entry in self.path if (place := self._in(copy, entry)) not in sys.path]
        folder = self._in(copy, self.folder)
        os.chdir(folder if os.path.isdir(folder) else copy)
        try:
            yield lambda text: text.replace(os.path.realpath(copy), self.root).replace(copy, self.root)
        finally:
            # The process may be given another run, which is to find itself in the copy.
            os.chdir(before)

    def _in(self, copy: str, place: str) -> str:
        inside = place == self.root or place.startswith(self.root + os.sep)
        return os.path.normpath(os.path.join(copy, os.path.relpath(place, self.root))) if inside else place
