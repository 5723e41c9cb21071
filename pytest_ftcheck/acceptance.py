"""Accepting what is seen now as what is declared from now on (``--ftcheck-update``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Acceptance:
    """That declared values may be replaced, and why. ``tell`` shows a line to whoever asked for it."""

    reason: str
    tell: Callable[[str], None]
