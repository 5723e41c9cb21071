"""Where a series of values has changed for good: its change points, by a kept library (ruptures).

The penalty is a multiple of the series' own noise, taken from the differences of neighbours, which a step in the level
hardly touches. So a series that repeats to the bit shows every step, and a noisy one only what stands out. How often
noise alone is taken for a change is measured: docs/statistics.md.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import HistoryError

# Runs that a level must last for: one run that happened to be slow is no change.
SHORTEST = 3
# In units of noise variance times the logarithm of the number of runs: 2 is the Bayesian information criterion for one
# more change and one more level; more than that, because times have heavier tails than a normal distribution.
PENALTY = 5.0
# In units of noise: what is further from its neighbours on both sides is moved so near. A machine that was busy during
# one run would otherwise be two changes.
FURTHEST = 3.0
# A normal distribution's standard deviation over its median absolute deviation.
OF_A_NORMAL = 1.4826
# Of the values themselves: what is closer is rounding.
RESOLUTION = 1e-9


@dataclass(frozen=True)
class Change:
    """``values[index]`` is the first of the new level; ``before`` and ``after`` are the medians of both levels."""

    index: int
    before: float
    after: float

    @property
    def ratio(self) -> float:
        """After over before; infinite from 0."""
        return self.after / self.before if self.before else math.inf


def change_points(values: Sequence[float]) -> list[Change]:
    """The changes in ``values``, in order. Raises HistoryError where ruptures is not installed."""
    if len(values) < 2 * SHORTEST or len(set(values)) == 1:
        return []
    try:
        import ruptures
    except ImportError:
        raise HistoryError(
            "change points are found by ruptures, which is not installed: pip install 'pytest-ftcheck[history]'"
        ) from None
    import numpy as np

    noise, middle = _noise(values), statistics.median(values)
    signal = np.array([(value - middle) / noise for value in _without_outliers(values, FURTHEST * noise)])
    found = ruptures.KernelCPD(kernel="linear", min_size=SHORTEST).fit(signal.reshape(-1, 1))
    ends = found.predict(pen=PENALTY * math.log(len(values)))
    levels = [statistics.median(values[start:end]) for start, end in zip([0, *ends], ends, strict=False)]
    pairs = zip(ends, levels[:-1], levels[1:], strict=False)
    return [Change(index, before, after) for index, before, after in pairs if before != after]


def _without_outliers(values: Sequence[float], furthest: float) -> list[float]:
    """The values, none further from the median of its neighbours than ``furthest``. A level of SHORTEST runs stays."""
    reach = SHORTEST - 1
    medians = [statistics.median(values[max(0, i - reach) : i + reach + 1]) for i in range(len(values))]
    return [min(max(value, near - furthest), near + furthest) for value, near in zip(values, medians, strict=True)]


def _noise(values: Sequence[float]) -> float:
    """The standard deviation of the values around their level."""
    steps = [abs(b - a) for a, b in itertools.pairwise(values)]
    scale = max(map(abs, values)) * RESOLUTION
    # The difference of two has twice the variance of one.
    return max(OF_A_NORMAL * statistics.median(steps) / math.sqrt(2), scale)
