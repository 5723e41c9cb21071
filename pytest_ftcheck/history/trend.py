"""A series and its change points, as both reports show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .change_points import Change, change_points
from .series import Point, Series


@dataclass(frozen=True)
class Turn:
    """A change point: between which commits, from what to what, and whether for the worse (None: neither is better)."""

    last: Point
    first: Point
    change: Change
    worse: bool | None


@dataclass(frozen=True)
class Trend:
    """``turns`` in the order of commits."""

    series: Series
    turns: tuple[Turn, ...]

    @classmethod
    def of(cls, series: Series) -> Trend:
        """Raises HistoryError where change points cannot be looked for."""
        return cls(series, tuple(_turn(series, change) for change in change_points(series.values)))

    @property
    def worsened(self) -> bool:
        """Whether the newest change is for the worse."""
        return bool(self.turns) and self.turns[-1].worse is True


def in_order(trends: Sequence[Trend]) -> list[Trend]:
    """What got worse first, then what changed otherwise, then the others."""
    return sorted(trends, key=lambda trend: (not trend.worsened, not trend.turns))


def _turn(series: Series, change: Change) -> Turn:
    grew = change.after > change.before
    worse = {"lower": grew, "higher": not grew}.get(series.direction)
    return Turn(series.points[change.index - 1], series.points[change.index], change, worse)
