"""Confidence intervals for the mean, or the centre, of paired differences: tens or hundreds, one for each pair."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .codec import Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Interval(Record):
    """An estimate and its confidence limits, in the unit of the differences; all NaN where a difference is not finite,
    infinite limits where there are too few differences for the confidence.
    """

    estimate: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


UNKNOWN = Interval(math.nan, math.nan, math.nan)


def student(differences: Sequence[float], confidence: float) -> Interval:
    """Student's interval for the mean of differences that are about normal; one difference shows no spread."""
    # Of a number that is not finite, the statistics module makes an error.
    if not (differences and all(map(math.isfinite, differences))):
        return UNKNOWN
    count, mean = len(differences), statistics.fmean(differences)
    if count < 2:
        return Interval(mean, -math.inf, math.inf)
    # The inverse of Student's distribution; scipy.stats has it too, and takes a second to import.
    from scipy.special import stdtrit

    quantile = float(stdtrit(count - 1, (1 + confidence) / 2))
    half = quantile * statistics.stdev(differences) / math.sqrt(count)
    return Interval(mean, mean - half, mean + half)


def normal(differences: Sequence[float], sd: float, confidence: float) -> Interval:
    """The interval for the mean of differences whose standard deviation ``sd`` is known from before."""
    if not (differences and all(map(math.isfinite, differences))):
        return UNKNOWN
    mean = statistics.fmean(differences)
    half = statistics.NormalDist().inv_cdf((1 + confidence) / 2) * sd / math.sqrt(len(differences))
    return Interval(mean, mean - half, mean + half)


def signed_rank(differences: Sequence[float], confidence: float) -> Interval:
    """Hodges and Lehmann's estimate of the centre, and the interval of Wilcoxon's signed-rank test: the values that the
    test, one-sided at (1 - confidence) / 2 towards either side, would not reject.

    It asks for symmetry and not for normality. An outlier among the pairs moves the estimate and the limit opposite to
    it by little; of 12 pairs at 1 %, one is enough to move the limit on its own side.
    """
    if not (differences and all(map(math.isfinite, differences))):
        return UNKNOWN
    means = _means_of_two(differences)
    middle, last = (len(means) - 1) // 2, len(means) - 1
    outside = _critical_rank_sum(len(differences), (1 - confidence) / 2)
    # Four of them in their order, and not all: there are 50,000 of 320 pairs.
    means.partition(sorted({middle, last - middle, max(outside, 0), last - max(outside, 0)}))
    estimate = float(means[middle] + means[last - middle]) / 2
    if outside < 0:
        return Interval(estimate, -math.inf, math.inf)
    return Interval(estimate, float(means[outside]), float(means[last - outside]))


def signed_rank_p(differences: Sequence[float]) -> float:
    """The one-sided p of Wilcoxon's signed-rank test for a centre above 0, exact, of finite numbers: so small that the
    interval of this level begins at 0. (scipy.stats has the test, not the interval, and takes a second to import.)
    """
    against = int((_means_of_two(differences) <= 0).sum())
    return min(1.0, float(_rank_sums(len(differences))[: against + 1].sum()))


def _means_of_two(differences: Sequence[float]) -> NDArray[np.float64]:
    """The means of all pairs of ``differences``, each with itself too: as many as there are ranks in all."""
    import numpy as np

    first, second = _triangle(len(differences))
    values = np.asarray(differences, dtype=np.float64)
    means: NDArray[np.float64] = (values[first] + values[second]) / 2
    return means


@functools.lru_cache(maxsize=64)
def _triangle(count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    import numpy as np

    return np.triu_indices(count)


@functools.lru_cache(maxsize=1024)
def _critical_rank_sum(count: int, alpha: float) -> int:
    """The largest sum of ranks that is reached from below with probability ``alpha`` at most; -1 where none is."""
    # The last bits are rounding: of the sums, and of a level such as 1 - 0.98.
    return int((_rank_sums(count).cumsum() <= alpha * (1 + 1e-9)).sum()) - 1


@functools.lru_cache(maxsize=64)
def _rank_sums(count: int) -> NDArray[np.float64]:
    """The probability of each sum of ranks [0 to count (count + 1) / 2], where each rank is counted or not."""
    import numpy as np

    found = np.zeros(count * (count + 1) // 2 + 1)
    found[0] = 1.0
    for rank in range(1, count + 1):
        found[rank:] += found[:-rank].copy()
        found /= 2
    return found
