"""What a report is made of, whatever it is written as."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

# A page that is read to its end has limits.
ROWS = 300

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
    """``rows`` [rows][columns] below ``head``; all but the first ``texts`` columns are numbers. ``folded``: shown
    to who asks for it.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1
    folded: bool = False


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
    """For each of ``names`` a bar of bytes, divided into ``parts``: what they are for, and their sizes [names].
    ``predicted`` [names] are those that nobody has measured.
    """

    caption: str
    names: Sequence[str]
    parts: Sequence[tuple[str, Sequence[int]]]
    told: str
    predicted: Sequence[bool] = ()


@dataclass(frozen=True)
class Group:
    """Points of one kind: (``x[i]``, ``y[i]``) is called ``names[i]``."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    names: Sequence[str]


@dataclass(frozen=True)
class Points:
    """Losses (nats) over trainable parameters. ``marked`` is the one to find; ``line`` a loss to hold all against, with
    its name.
    """

    caption: str
    groups: Sequence[Group]
    marked: str
    line: tuple[str, float]
    told: str


Block = Heading | Lines | Table | Curves | Bars | Points
