"""What a report is made of, whatever it is written as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Tone = Literal["", "good", "bad", "warning"]


@dataclass(frozen=True)
class Heading:
    """``level`` 2 begins a part, 3 a section of one."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Lines:
    """Text, a paragraph for each line. ``code``: as it is, in one piece."""

    lines: Sequence[str]
    tone: Tone = ""
    code: bool = False


@dataclass(frozen=True)
class Table:
    """``rows`` [rows][columns] below ``head``; all but the first ``texts`` columns are numbers."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1


@dataclass(frozen=True)
class Curve:
    """A loss (nats) at ``steps``: its mean over the seeds, and the lowest and highest of them."""

    name: str
    steps: Sequence[int]
    mean: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]


@dataclass(frozen=True)
class Curves:
    """Loss curves; ``marks`` are steps with what they are. ``told`` says in words what is to be seen."""

    caption: str
    curves: Sequence[Curve]
    marks: Sequence[tuple[int, str]]
    told: str


@dataclass(frozen=True)
class Bars:
    """For each of ``names`` a bar of bytes, divided into ``parts``: what they are for, and their sizes [names]."""

    caption: str
    names: Sequence[str]
    parts: Sequence[tuple[str, Sequence[int]]]
    told: str


Block = Heading | Lines | Table | Curves | Bars
