"""Where the workers of a session leave word for its controller while they run: xdist carries reports, and no more."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import Any


class Board:
    """A folder of small notices in JSON, each whole or not there. Nobody depends on one: what cannot be written or read
    is left out.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def new(cls) -> Board:
        """One that nobody else knows of. Its folder is made when something is posted."""
        return cls(Path(tempfile.gettempdir()) / f"ftcheck-board-{secrets.token_hex(8)}")

    def open(self) -> None:
        """Make the folder: once and at the start, so that nothing is left behind by who writes when all is over."""
        with contextlib.suppress(OSError):
            self.folder.mkdir(mode=0o700, exist_ok=True)

    def post(self, name: str, data: Any) -> None:
        """Put up a notice, in place of one of the same name."""
        draft = self.folder / f".{name}-{os.getpid()}"
        with contextlib.suppress(OSError):
            draft.write_text(json.dumps(data), encoding="utf-8")
            os.replace(draft, self._path(name))

    def read(self, name: str) -> Any:
        """The notice of that name; None where there is none."""
        try:
            return json.loads(self._path(name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def names(self) -> list[str]:
        """The names of all notices, sorted."""
        try:
            return sorted(name.removesuffix(".json") for name in os.listdir(self.folder) if name.endswith(".json"))
        except OSError:
            return []

    def remove(self, name: str) -> None:
        """Take a notice down, if it is there."""
        with contextlib.suppress(OSError):
            self._path(name).unlink()

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.json"
