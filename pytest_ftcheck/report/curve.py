"""Loss curves as a line of text."""

from __future__ import annotations

import math
from collections.abc import Sequence

BARS = "▁▂▃▄▅▆▇█"


def sparklines(curves: Sequence[Sequence[float]]) -> list[str]:
    """One bar for each loss, all curves on one logarithmic scale; ``x`` where a loss is not finite."""
    shown = [value for curve in curves for value in curve if math.isfinite(value) and value > 0]
    low, high = (math.log(min(shown)), math.log(max(shown))) if shown else (0.0, 0.0)
    return ["".join(_bar(value, low, high) for value in curve) for curve in curves]


def _bar(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return "x"
    if value <= 0 or high == low:
        return BARS[0]
    share = (math.log(value) - low) / (high - low)
    return BARS[min(len(BARS) - 1, int(share * len(BARS)))]
