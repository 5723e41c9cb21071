"""What a statistical gate decided, and on what."""

from __future__ import annotations

from dataclasses import dataclass

from ..codec import Record
from ..interval import Interval

PASSED, FAILED, UNSTABLE = "passed", "failed", "unstable"


@dataclass(frozen=True)
class Decision(Record):
    """``verdict`` is ``"passed"``, ``"failed"`` or ``"unstable"``: the samples allow neither of the two.

    ``interval`` has one-sided level ``alpha`` at either end; ``p`` is the probability of samples at least as bad where
    nothing is wrong (of samples at least as close, for a claim of equality). ``pairs`` is their number. ``close``: what
    passed was worse than it may be, by its estimate, and not by as much as matters.
    """

    verdict: str
    reason: str
    p: float
    interval: Interval
    pairs: int
    alpha: float
    close: bool = False

    @property
    def failed(self) -> bool:
        """Whether it is a failure; ``"unstable"`` is none, and no pass either."""
        return self.verdict == FAILED

    @property
    def finite(self) -> bool:
        """Whether every sample was a finite number; if not, the gate has failed, and no other samples change that."""
        return self.p == self.p

    def __str__(self) -> str:
        return f"unstable: cannot decide: {self.reason}" if self.verdict == UNSTABLE else self.reason


def not_finite(pairs: int, alpha: float, interval: Interval) -> Decision:
    """The decision on samples with a NaN or an infinity among them."""
    return Decision(FAILED, "a sample is not a finite number", float("nan"), interval, pairs, alpha)
