"""How far a training has come, as one line says it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..codec import Record

TRAINS, MEASURES, WAITS = "trains", "measures", "waits"


@dataclass(frozen=True)
class State(Record):
    """A training (``what``: recipe, method, seed) for ``test``, which has trained or waited for ``elapsed_s``.

    ``doing``: it trains; its memory is measured, in a short pass of its own; or another process trains it.
    """

    what: str
    test: str
    doing: str
    elapsed_s: float
    step: int = 0
    steps: int = 0
    loss: float | None = None
    left_s: float | None = None

    def __str__(self) -> str:
        if self.doing == WAITS:
            return f"{self.what}: waits, another process trains it"
        if self.doing == MEASURES:
            return f"{self.what}: memory is measured"
        loss = "" if self.loss is None else f", loss {self.loss:.4g}"
        left = "" if self.left_s is None else f", {clock(self.left_s)} left"
        return f"{self.what}: step {self.step} of {self.steps}{loss}{left}"


def clock(seconds: float) -> str:
    """``48 s``, ``1:32`` (minutes), ``2:05:10`` (hours)."""
    whole = math.ceil(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
