"""Confidence intervals for the mean, or the centre, of paired differences: few numbers, one for each pair."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from .codec import Record


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
    means = sorted((a + b) / 2 for i, a in enumerate(differences) for b in differences[i:])
    outside = _critical_rank_sum(len(differences), (1 - confidence) / 2)
    if outside < 0:
        return Interval(statistics.median(means), -math.inf, math.inf)
    return Interval(statistics.median(means), means[outside], means[-1 - outside])


def signed_rank_p(differences: Sequence[float]) -> float:
    """The one-sided p of Wilcoxon's signed-rank test for a centre above 0, exact, of finite numbers: so small that the
    interval of this level begins at 0. (scipy.stats has the test, not the interval, and takes a second to import.)
    """
    count = len(differences)
    against = sum(a + b <= 0 for i, a in enumerate(differences) for b in differences[i:])
    return sum(_subsets(count)[: against + 1]) / float(2**count)


def _critical_rank_sum(count: int, alpha: float) -> int:
    """The largest sum of ranks that is reached from below with probability ``alpha`` at most; -1 where none is."""
    below, allowed = 0, alpha * 2**count
    for total, number in enumerate(_subsets(count)):
        below += number
        # Not by division: of a level such as 1 - 0.98 the last bits are rounding.
        if not below <= allowed * (1 + 1e-9):
            return total - 1
    return count * (count + 1) // 2


@functools.lru_cache(maxsize=16)
def _subsets(count: int) -> tuple[int, ...]:
    """How many subsets of 1, ..., count have each sum: the distribution of the sum of ranks, times 2**count."""
    subsets = [1] + [0] * (count * (count + 1) // 2)
    for rank in range(1, count + 1):
        for total in range(len(subsets) - 1, rank - 1, -1):
            subsets[total] += subsets[total - rank]
    return tuple(subsets)
