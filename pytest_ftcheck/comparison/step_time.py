"""How long a step of one training takes against a step of another, measured in turns."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ..baseline.decision import FAILED, Decision
from ..baseline.statistics import ALPHA
from ..codec import Record
from ..explained import Ratio
from ..interval import Interval, signed_rank
from ..report.units import duration


@dataclass(frozen=True)
class Round(Record):
    """The pairs of one round, from two fresh processes: the median seconds of a step in each turn, [pairs] both."""

    reference_s: tuple[float, ...]
    candidate_s: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.reference_s)

    @classmethod
    def of(cls, pairs: Sequence[tuple[float, float]]) -> Round:
        """``pairs``: the seconds of the reference, and of the candidate."""
        return cls(tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs))

    @property
    def log_ratios(self) -> tuple[float, ...]:
        """log(candidate / reference) of each pair; NaN where a time is not a positive number."""
        pairs = zip(self.reference_s, self.candidate_s, strict=True)
        return tuple(math.log(b / a) if a > 0 and b > 0 else math.nan for a, b in pairs)


@dataclass(frozen=True)
class StepTime(Record):
    """The comparison of a candidate's step time with a reference's.

    ``decision`` is what all ``rounds`` came to. ``names`` are those of reference and candidate.
    """

    method: str
    names: tuple[str, str]
    device: str
    rounds: tuple[Round, ...]
    decision: Decision

    @property
    def verdict(self) -> str:
        """``"passed"``, ``"failed"`` (slower, and confirmed on fresh samples) or ``"unstable"``."""
        return self.decision.verdict

    @property
    def ratio(self) -> Ratio:
        """A candidate's step over a reference's: the centre of all pairs."""
        return Ratio(math.exp(self._pooled.estimate), "step time of the candidate over the reference", self)

    @property
    def interval(self) -> tuple[float, float]:
        """Its 98 % confidence interval, over the pairs of all rounds."""
        return math.exp(self._pooled.low), math.exp(self._pooled.high)

    @property
    def _pooled(self) -> Interval:
        return signed_rank([ratio for one in self.rounds for ratio in one.log_ratios], 1 - 2 * ALPHA)

    def __repr__(self) -> str:
        # pytest prints the representation where a comparison is the message of an assert.
        return "\n".join(self.lines())

    def lines(self) -> list[str]:
        """What was found, first line first."""
        reference, candidate = (_median(self.rounds, side) for side in ("reference_s", "candidate_s"))
        verb = {FAILED: "slower"}.get(self.verdict, self.verdict)
        return [
            f"{self.method}: step time {verb}: {self.names[1]} takes {self.ratio:.4g}x that of {self.names[0]} "
            f"({duration(candidate)} against {duration(reference)}, {self.device})",
            f"  in round {len(self.rounds)}: {self.decision}",
        ]


def _median(rounds: Sequence[Round], side: str) -> float:
    times: list[float] = [seconds for one in rounds for seconds in getattr(one, side)]
    return statistics.median(times)
