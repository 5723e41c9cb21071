"""From repetitions of one thing to what is recorded of it: samples, and the tolerance that their spread calls for."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace

from .metric import Curve, Metric
from .rules import default

# One more run lies beyond the limit in one of a thousand builds, were the repetitions drawn from a normal distribution.
FALSE_ALARMS = 0.001
# Repetitions in one session share its noise: however alike they are, the limit is no less than this share of the usual.
LEAST_SHARE = 0.1


def is_measured(metric: Metric) -> bool:
    """Whether two runs of the same code may differ in it."""
    return isinstance(metric.value, Curve) or (isinstance(metric.value, (int, float)) and not default(metric).exact)


def summarised(repeats: Sequence[tuple[Metric, ...]], derive: bool) -> tuple[Metric, ...]:
    """The metrics of ``repeats``, which all have the same ones; with ``derive`` with limits from their spread."""
    return tuple(_summarised(list(same), derive) for same in zip(*repeats, strict=True))


def _summarised(same: list[Metric], derive: bool) -> Metric:
    first = same[0]
    if not is_measured(first) or len(same) == 1:
        return first
    if isinstance(first.value, Curve):
        return _summarised_curve(first, [m.value for m in same if isinstance(m.value, Curve)], derive)
    samples = tuple(float(m.value) for m in same if isinstance(m.value, (int, float)))
    middle = statistics.median(samples)
    value = int(middle) if isinstance(first.value, int) and middle == int(middle) else middle
    if not derive and len(set(samples)) == 1:
        return first
    limit = _limit(_bound(samples), abs(middle), default(first).relative) if derive else ""
    return replace(first, value=value, samples=samples, limit=limit)


def _summarised_curve(metric: Metric, curves: list[Curve], derive: bool) -> Metric:
    """The mean of the curves. A curve that repeats to the bit needs no limit: it is held to its bits."""
    first = curves[0]
    if all(curve == first for curve in curves):
        return metric
    points = list(zip(*(curve.values for curve in curves), strict=True))
    means = tuple(statistics.fmean(point) for point in points)
    largest = max(_bound(point) / abs(mean) if mean else 0.0 for point, mean in zip(points, means, strict=True))
    limit = _limit(largest, 1.0, default(metric).relative) if derive else ""
    return replace(metric, value=Curve(first.steps, means), limit=limit)


def _bound(samples: Sequence[float]) -> float:
    """How far from the mean of ``samples`` the next one may be (a prediction interval, one-sided, of Student's t)."""
    from scipy.special import stdtrit

    count = len(samples)
    quantile = float(stdtrit(count - 1, 1 - FALSE_ALARMS))
    return quantile * statistics.stdev(samples) * math.sqrt(1 + 1 / count)


def _limit(bound: float, scale: float, usual: float | None) -> str:
    """A tolerance as a text, rounded up; as a share where there is something to take it of."""
    if not scale:
        return f"{bound:.6g}"
    share = max(bound / scale, LEAST_SHARE * (usual or 0.0))
    return f"{math.ceil(share * 1e5 - 1e-6) / 1e3:g}%"
