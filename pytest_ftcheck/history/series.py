"""A metric over commits, read from a history."""

from __future__ import annotations

import datetime
import json
import math
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from ..errors import HistoryError
from ..worktree import COMMIT_DIGITS
from .place import Place

# How many runs of each folder are looked at where nobody says: a page of more is not read by anybody.
LAST = 1000
# What pytest-benchmark itself has timed.
SECONDS = ("time", "s", "lower")


@dataclass(frozen=True)
class Point:
    """The value of a metric in one run; ``time`` (UTC) is the run's, ``committed`` that of its commit."""

    value: float
    commit: str
    committed: datetime.datetime
    time: datetime.datetime
    dirty: bool


@dataclass(frozen=True)
class Series:
    """``metric`` of ``test`` in an environment; ``points`` by time of commit, and by time of run within each."""

    test: str
    metric: str
    unit: str
    direction: str
    environment: str
    points: tuple[Point, ...]

    @property
    def values(self) -> tuple[float, ...]:
        return tuple(point.value for point in self.points)

    @property
    def is_flat(self) -> bool:
        """Whether every run saw the same: nothing to draw."""
        return len(set(self.values)) == 1


@dataclass(frozen=True)
class Chosen:
    """Which series, and which runs: shell patterns for test and metric, a branch, and the last runs of each folder."""

    test: str = "*"
    metric: str = "*"
    branch: str = ""
    last: int = LAST

    def has(self, test: str, metric: str) -> bool:
        return fnmatchcase(test, self.test) and fnmatchcase(metric, self.metric)


Key = tuple[str, str, str]


@dataclass(frozen=True)
class _Seen:
    """One point, and the series that it is of."""

    key: Key
    unit: str
    direction: str
    point: Point


def read(place: Place, chosen: Chosen) -> tuple[list[Series], list[str]]:
    """The series of ``place``, by environment, test and metric; and what could not be read, a line for each file.
    Raises HistoryError where the place itself cannot be read.
    """
    found: dict[Key, list[_Seen]] = {}
    problems = []
    for name, data in place.texts(_newest(place.names(), chosen.last)):
        try:
            if isinstance(data, HistoryError):
                raise data
            for seen in list(_points(json.loads(data), name, chosen)):
                found.setdefault(seen.key, []).append(seen)
        except (HistoryError, ValueError, KeyError, TypeError, AttributeError) as error:
            problems.append(f"{name} was not read: {type(error).__name__}: {error}")
    return [_series(key, found[key]) for key in sorted(found)], problems


def _newest(names: Sequence[str], last: int) -> list[str]:
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(posixpath.dirname(name), []).append(name)
    return [name for several in folders.values() for name in several[-last:]]


def _series(key: Key, several: list[_Seen]) -> Series:
    environment, test, metric = key
    several.sort(key=lambda seen: (seen.point.committed, seen.point.time))
    # What it is called now.
    unit, direction = several[-1].unit, several[-1].direction
    return Series(test, metric, unit, direction, environment, tuple(seen.point for seen in several))


def _points(saved: Any, name: str, chosen: Chosen) -> Iterator[_Seen]:
    """The points in one file of pytest-benchmark's form."""
    commit = saved["commit_info"]
    if chosen.branch and commit.get("branch") != chosen.branch:
        return
    time = _utc(saved["datetime"])
    committed = _utc(commit["time"]) if commit.get("time") else time
    for benchmark in saved["benchmarks"]:
        extra = benchmark.get("extra_info") or {}
        metric, unit, direction = _described(extra)
        test = benchmark["fullname"].removesuffix(f"#{metric}")
        if not chosen.has(test, metric):
            continue
        median = float(benchmark["stats"]["median"])
        value = 1 / median if extra.get("inverted") else median
        if not math.isfinite(value):
            raise HistoryError(f"{benchmark['fullname']} is {value}")
        environment = extra.get("environment") or posixpath.dirname(name)
        point = Point(value, str(commit["id"])[:COMMIT_DIGITS], committed, time, bool(commit.get("dirty")))
        yield _Seen((environment, test, metric), unit, direction, point)


def _described(extra: dict[str, Any]) -> tuple[str, str, str]:
    """Metric, unit and direction."""
    return (extra["metric"], extra["unit"], extra["direction"]) if "metric" in extra else SECONDS


def _utc(text: str) -> datetime.datetime:
    found = datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))
    return found.astimezone(datetime.timezone.utc).replace(tzinfo=None) if found.tzinfo else found
