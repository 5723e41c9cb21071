"""One metric of one test, as a session has measured it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ..baseline.fingerprint import Fingerprint
from ..baseline.judgement import Judgement


@dataclass(frozen=True)
class Measurement:
    """``values`` [repetitions] of ``metric`` in ``test`` (its node id), all finite, and where they were measured."""

    test: str
    metric: str
    values: tuple[float, ...]
    unit: str
    direction: str
    fingerprint: Fingerprint

    @property
    def kind(self) -> str:
        """What it is, whichever run it is of: ``"memory.peak_bytes (bytes)"``."""
        name = self.metric.rpartition("/")[2]
        return f"{name} ({self.unit})" if self.unit else name

    @property
    def is_inverted(self) -> bool:
        """Whether it is recorded as 1 / value: in pytest-benchmark's tables, less is better."""
        return self.direction == "higher" and min(self.values) > 0


def measurements(judgements: Sequence[Judgement]) -> list[Measurement]:
    """What the tests of a session have measured, whatever became of them; of a test that ran twice, the last."""
    found = {}
    for judgement in judgements:
        for one in judgement.comparisons:
            values = one.samples or (() if one.value is None else (one.value,))
            if judgement.fingerprint is None or not values or not all(map(math.isfinite, values)):
                continue
            found[judgement.test, one.metric] = Measurement(
                judgement.test, one.metric, values, one.unit, one.direction, judgement.fingerprint
            )
    return list(found.values())
