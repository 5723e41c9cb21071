"""What a prediction was doing last, readable after its process has died."""

from __future__ import annotations

import mmap
from pathlib import Path

SIZE = 512


class Journal:
    """One line of text in a file that two processes have mapped: an abort cannot be caught, but it can be explained."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(SIZE))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), SIZE)

    def note(self, text: str) -> None:
        """Replace the line. What is longer than ``SIZE`` bytes is cut."""
        line = text.encode(errors="replace")[: SIZE - 1]
        self._map[: len(line) + 1] = line + b"\0"

    def read(self) -> str:
        """The line that was noted last; empty where none was."""
        return self._map[:].partition(b"\0")[0].decode(errors="replace")

    def close(self) -> None:
        """Let go of the file, which Windows does not delete before."""
        self._map.close()
