"""The commit that a session was of."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..git import git
from ..worktree import COMMIT_DIGITS, uncommitted

UNKNOWN = "unknown"


@dataclass(frozen=True)
class Head:
    """``time`` is when it was committed, as ISO 8601 with an offset; ``"unknown"`` and "" outside of a repository."""

    id: str
    time: str = ""
    branch: str = ""
    project: str = ""
    dirty: bool = False

    @classmethod
    def of(cls, root: Path) -> Head:
        """That of the repository around ``root``."""
        told = (git(root, "show", "--no-patch", "--format=%H%n%cI") or "").splitlines()
        if len(told) < 2:
            return cls(UNKNOWN, project=root.name)
        top = (git(root, "rev-parse", "--show-toplevel") or str(root)).rstrip("\n")
        branch = (git(root, "rev-parse", "--abbrev-ref", "HEAD") or "").strip()
        return cls(told[0], told[1], branch, Path(top).name, bool(uncommitted(root)))

    def to_data(self) -> dict[str, Any]:
        """Under pytest-benchmark's keys."""
        return {
            "id": self.id,
            "time": self.time,
            "author_time": self.time,
            "dirty": self.dirty,
            "project": self.project,
            "branch": self.branch,
        }

    def file_name(self, now: datetime.datetime) -> str:
        """The end of a file's name as pytest-benchmark has it."""
        end = "_uncommitted-changes" if self.dirty else ""
        return f"{self.id[:COMMIT_DIGITS]}_{now:%Y%m%d_%H%M%S}{end}"
