"""Where a history is kept: a folder, or a bucket or server that fsspec reaches."""

from __future__ import annotations

import posixpath
import re
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..committed import CommittedFile
from ..errors import FtcheckError, HistoryError

NUMBERED = re.compile(r"(\d{4,})_.*\.json")
# What keeps a new folder out of commits; a history that should be in them loses nothing with it.
IGNORE_ALL = "*\n"


class Place:
    """A folder's path or a URL, such as ``s3://bucket/ci``. Every error is a HistoryError of one line."""

    def __init__(self, where: str) -> None:
        self.where = where
        try:
            from fsspec.core import url_to_fs

            self._files, self._root = url_to_fs(where)
        except Exception as error:  # whatever a file system of somebody else's raises
            raise self._refused("cannot be opened", error) from None

    def names(self) -> list[str]:
        """The names of all numbered files, relative, in order of their numbers within each folder."""
        try:
            found = self._files.find(self._root)
        except Exception as error:
            raise self._refused("cannot be read", error) from None
        names = [posixpath.relpath(path, self._root) for path in found if NUMBERED.fullmatch(posixpath.basename(path))]
        return sorted(names, key=lambda name: (posixpath.dirname(name), number(name), name))

    def texts(self, names: Sequence[str]) -> Iterator[tuple[str, bytes | HistoryError]]:
        """What each of ``names`` holds, or why it cannot be read. All are fetched at once, where that is faster."""
        paths = {posixpath.join(self._root, name): name for name in names}
        if not paths:
            return
        try:
            found: dict[str, Any] = self._files.cat(list(paths), on_error="return")
        except Exception as error:
            raise self._refused("cannot be read", error) from None
        for path, data in found.items():
            name = paths.get(path) or posixpath.relpath(path, self._root)
            yield name, data if isinstance(data, bytes) else self._refused(f"{name} cannot be read", data)

    def add(self, folder: str, name: str, text: str) -> str:
        """Keep ``text`` in ``folder`` under the next number and ``name``, whole or not at all. Returns its name.

        Sessions that end at the same time may take the same number, and do not take each other's files.
        """
        taken = [number(one) for one in self.names() if posixpath.dirname(one) == folder]
        full = f"{folder}/{max(taken, default=0) + 1:04}_{name}_{secrets.token_hex(2)}.json"
        path = posixpath.join(self._root, full)
        try:
            if self._is_local:
                self._ignore(Path(self._root))
                CommittedFile(Path(path)).write(text)
            else:
                self._files.pipe_file(path, text.encode())
        except Exception as error:
            raise self._refused("cannot be written", error) from None
        return full

    @property
    def _is_local(self) -> bool:
        from fsspec.implementations.local import LocalFileSystem

        return isinstance(self._files, LocalFileSystem)

    def _ignore(self, root: Path) -> None:
        if not root.exists():
            root.mkdir(parents=True)
            (root / ".gitignore").write_text(IGNORE_ALL, encoding="utf-8")

    def _refused(self, what: str, error: BaseException) -> HistoryError:
        # Ours name the file.
        why = str(error) if isinstance(error, FtcheckError) else f"{type(error).__name__}: {error}"
        return HistoryError(f"history {self.where!r} {what}: {' '.join(why.split())}")


def number(name: str) -> int:
    """The number that a file's name begins with."""
    return int(posixpath.basename(name).partition("_")[0])
