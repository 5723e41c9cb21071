"""Loss curves beside their baselines: to the bit where that can be, else within a band and without drift."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace

from .comparison import Comparison, limited
from .metric import Curve, Direction, Metric
from .rules import DRIFT_SHARE, Chosen
from .tolerance import Tolerance

# A loss near the floor of a task is all rounding: points count as no smaller than this share of the largest.
SMALLEST_SHARE = 0.01


def compare_curves(before: Metric, metric: Metric, chosen: Chosen, same_bits: bool) -> Comparison:
    """``same_bits``: code and environment being what they were, the curve must be equal to the last bit. A tolerance
    that somebody chose, or that repetitions gave, stands before that.
    """
    old, new = before.value, metric.value
    assert isinstance(old, Curve)
    assert isinstance(new, Curve)
    direction = chosen.tolerance.direction or metric.direction
    if old.steps != new.steps or not old.steps:
        return Comparison.of(metric, "failed", _extent(old), _extent(new), note="losses at other steps")
    to_the_bit = same_bits and bool(old.bits) and chosen.by == "default"
    if to_the_bit and old.bits == new.bits:
        return Comparison.of(metric, "passed", *_ends(old, new), limit="the same bits")
    scales = _scales(old.values)
    differences = [b - a for a, b in zip(old.values, new.values, strict=True)]
    largest = max(range(len(scales)), key=lambda i: _worse(differences[i], direction) / scales[i])
    step = old.steps[largest]
    texts = f"{old.values[largest]:.9g}", f"{new.values[largest]:.9g} at step {step}"
    change = f"{100 * differences[largest] / scales[largest]:+.3g} %"
    if to_the_bit:
        note = "this is the largest difference"
        return Comparison.of(metric, "failed", *texts, change=change, limit="the same bits", note=note)
    verdict, drift = _banded(differences, scales, chosen.tolerance, direction)
    limits = [limited(t, direction, metric.unit) for t in (chosen.tolerance, _of_drift(chosen.tolerance))]
    note = f"mean drift {100 * drift:+.3g} %, limit {limits[1]}" if verdict != "passed" else ""
    return Comparison.of(metric, verdict, *texts, change=change, limit=limits[0], note=note)


def _banded(
    differences: Sequence[float], scales: Sequence[float], tolerance: Tolerance, direction: Direction
) -> tuple[str, float]:
    """The verdict, and the mean of the differences as a share of the curve."""
    shares = [_share(d, tolerance.allowed(scale)) for d, scale in zip(differences, scales, strict=True)]
    drift = statistics.fmean(d / scale for d, scale in zip(differences, scales, strict=True))
    largest = max(_worse(share, direction) for share in shares)
    if largest <= 1 and _worse(statistics.fmean(shares), direction) <= DRIFT_SHARE:
        return "passed", drift
    return "warning" if tolerance.warns else "failed", drift


def _of_drift(tolerance: Tolerance) -> Tolerance:
    """The tolerance of the mean difference, where ``tolerance`` is that of the largest."""
    scaled = [None if limit is None else DRIFT_SHARE * limit for limit in (tolerance.relative, tolerance.absolute)]
    return replace(tolerance, relative=scaled[0], absolute=scaled[1])


def _share(difference: float, allowed: float) -> float:
    """How much of what is allowed a difference takes up."""
    if allowed:
        return difference / allowed
    return 0.0 if difference == 0 else math.copysign(math.inf, difference)


def _worse(difference: float, direction: Direction) -> float:
    return {"lower": difference, "higher": -difference, "same": abs(difference)}[direction]


def _scales(values: Sequence[float]) -> list[float]:
    """What a difference at each point is a share of."""
    floor = SMALLEST_SHARE * max(abs(value) for value in values) or 1.0
    return [max(abs(value), floor) for value in values]


def _extent(curve: Curve) -> str:
    return f"{len(curve.steps)} losses to step {curve.steps[-1]}" if curve.steps else "no losses"


def _ends(old: Curve, new: Curve) -> tuple[str, str]:
    return f"{old.values[-1]:.9g}", f"{new.values[-1]:.9g} at step {new.steps[-1]}"
