"""Accepting what is seen now as what is declared from now on: one set of rules, whatever is accepted.

Somebody says why; what is accepted can be committed, so not in CI; it can be seen again, so not from files that no
commit has, and not what differs when it is done a second time.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from .errors import AcceptanceError
from .option_values import FALSE
from .options import Settings

T = TypeVar("T")

# How often a thing is done before it is accepted: once more than it was seen.
TWICE = 2
SHOWN_FILES = 3


@dataclass(frozen=True)
class Acceptance:
    """That declared values may be replaced, and why. ``tell`` shows a line to whoever asked for it.

    With ``new_only`` what is declared already stays, and is held to. ``repeats`` is how often a thing is done in all.
    """

    reason: str
    tell: Callable[[str], None]
    new_only: bool = False
    repeats: int = TWICE

    def confirmed(self, what: str, seen: T, again: Callable[[], T], differ: Callable[[T, T], Sequence[str]]) -> list[T]:
        """``seen``, and what doing it ``again`` gave each time. Raises AcceptanceError where ``differ(seen, other)``
        finds a difference.
        """
        made = [seen]
        while len(made) < self.repeats:
            made.append(again())
            found = differ(seen, made[-1])
            if found:
                raise AcceptanceError(f"not accepted: {what}, done again, is not the same: {found[0]}")
        return made


def refusal(chosen: Settings, root: Path) -> str | None:
    """Why nothing may be accepted in this session, in one line; None where it may."""
    flag = chosen.accepting
    if flag is None:
        return None
    if not chosen.reason:
        return f"{flag} without --ftcheck-reason=TEXT: say why what is declared changes"
    if os.environ.get("CI", "").lower() not in ("", *FALSE):
        return f"{flag} in CI (environment variable CI): update where it can be committed"
    from .worktree import uncommitted

    files = [path for path in uncommitted(root) if not _was_accepted(path)]
    if files:
        more = f" and {len(files) - SHOWN_FILES} more" if len(files) > SHOWN_FILES else ""
        names = ", ".join(os.path.relpath(path, root) for path in files[:SHOWN_FILES])
        return f"{flag} with files that are not committed ({names}{more}): commit them, so that it can be repeated"
    return None


def _was_accepted(path: Path) -> bool:
    """Whether the file holds what was accepted: baselines, or declared costs. It is not committed yet, and need not be
    before more is accepted.
    """
    if path.suffix != ".json":
        return False
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if not isinstance(data, dict) or not data:
        return False
    return {"environment", "format", "tests"} <= data.keys() or all(map(_are_costs, data.values()))


def _are_costs(methods: Any) -> bool:
    """Whether this is an object of methods, each with a cost and its reason."""
    return isinstance(methods, dict) and all(
        isinstance(entry, dict) and entry.keys() == {"reason", "cost"} for entry in methods.values()
    )
