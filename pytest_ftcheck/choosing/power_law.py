"""The floor that a loss curve heads for, by the law L(t) = floor + scale * t ** -exponent, or why it cannot be told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..codec import Record
from ..interval import Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Three numbers are fitted: with fewer points than this the rest of them shows no spread to judge by.
FEWEST_POINTS = 8
CONFIDENCE = 0.95
# An exponent whose interval reaches one of these is not one: the curve is a straight line, or a step, in its range.
FLATTEST, STEEPEST = 0.05, 3.0
EXPONENTS = 400
# The exponents that are tried go beyond both, so that an interval which ends within is seen to.
BEYOND = 2.0
# How far below the lowest loss a floor is looked for, in heights of the curve.
DEPTH = 100.0


@dataclass(frozen=True)
class PowerLaw(Record):
    """The law that fits a curve of ``points`` points. ``floor`` (nats) and ``exponent`` have 95 % intervals by their
    profile likelihood: the values that an F test would not reject. ``refused`` says why nothing may be concluded from
    it; it is empty where something may.
    """

    floor: Interval
    exponent: Interval
    scale: float
    points: int
    refused: str = ""

    def at(self, step: float) -> float:
        """The loss that it has after ``step`` updates."""
        return float(self.floor.estimate + self.scale * step**-self.exponent.estimate)

    def step_of_decrease(self, per_doubling: float) -> float:
        """The step from which on the loss falls by less than ``per_doubling`` nats while the steps double."""
        share = 1 - 2**-self.exponent.estimate
        return float((self.scale * share / per_doubling) ** (1 / self.exponent.estimate))


def fitted(curve: Sequence[tuple[int, float]], confidence: float = CONFIDENCE) -> PowerLaw | None:
    """The law of ``curve``, (step, loss) pairs; None where there are too few, or one is not finite."""
    import numpy as np

    pairs = [(step, loss) for step, loss in curve if step > 0]
    if len(pairs) < FEWEST_POINTS or not all(math.isfinite(loss) for _, loss in pairs):
        return None
    steps, losses = (np.array(values, dtype=float) for values in zip(*pairs, strict=True))
    coarse = _Fit(steps, losses, np.geomspace(FLATTEST / BEYOND, STEEPEST * BEYOND, EXPONENTS), confidence)
    # As many again where the good ones are: a grid that is too wide leaves out what an interval should hold.
    return _Fit(steps, losses, np.geomspace(*coarse.surroundings(), EXPONENTS), confidence).law()


class _Fit:
    """Least squares over a grid of exponents, in which the two other numbers are linear."""

    def __init__(
        self,
        steps: NDArray[np.float64],
        losses: NDArray[np.float64],
        exponents: NDArray[np.float64],
        confidence: float,
    ) -> None:
        import numpy as np
        from scipy.special import stdtrit

        self._losses, self._count, self._exponents = losses, len(losses), exponents
        # In units of the first step, so that no power is tiny: [exponents, points].
        self._first = float(steps[0])
        self._powers = (steps / self._first) ** -self._exponents[:, None]
        centred = self._powers - self._powers.mean(axis=1, keepdims=True)
        self._scales = np.maximum((centred @ losses) / (centred**2).sum(axis=1), 0.0)
        self._floors = losses.mean() - self._scales * self._powers.mean(axis=1)
        self._errors = ((losses - self._floors[:, None] - self._scales[:, None] * self._powers) ** 2).sum(axis=1)
        self._best = int(self._errors.argmin())
        freedom = self._count - 3
        # Of losses without any noise the least error is rounding.
        least = float(self._errors[self._best]) + 1e-24 * float((losses**2).sum())
        self._limit = least * (1 + float(stdtrit(freedom, (1 + confidence) / 2)) ** 2 / freedom)

    def surroundings(self) -> tuple[float, float]:
        """The exponents that are not rejected, and one more at either end."""
        import numpy as np

        allowed = np.flatnonzero(self._errors <= self._limit)
        first, last = max(0, int(allowed[0]) - 1), min(len(self._exponents) - 1, int(allowed[-1]) + 1)
        return float(self._exponents[first]), float(self._exponents[last])

    def law(self) -> PowerLaw:
        allowed = self._exponents[self._errors <= self._limit]
        best = float(self._exponents[self._best])
        exponent = Interval(best, float(allowed[0]), float(allowed[-1]))
        centre = float(self._floors[self._best])
        floor = Interval(centre, self._edge(centre, -1), self._edge(centre, +1))
        scale = float(self._scales[self._best]) * self._first**best
        return PowerLaw(floor, exponent, scale, self._count, _refusal(exponent, floor, scale))

    def _error_with(self, floor: float) -> float:
        """The least error of all laws with this floor."""
        import numpy as np

        above = self._losses - floor
        scales = np.maximum((self._powers @ above) / (self._powers**2).sum(axis=1), 0.0)
        return float(((above - scales[:, None] * self._powers) ** 2).sum(axis=1).min())

    def _edge(self, centre: float, side: int) -> float:
        """How far the floor may lie to one side; infinite where no limit is found."""
        height = float(self._losses.max() - self._losses.min()) or 1.0
        inside, outside = centre, centre + side * height * 1e-6
        while self._error_with(outside) <= self._limit:
            inside, outside = outside, centre + 2 * (outside - centre)
            if abs(outside - centre) > DEPTH * height:
                return side * math.inf
        for _ in range(40):
            middle = (inside + outside) / 2
            inside, outside = (middle, outside) if self._error_with(middle) <= self._limit else (inside, middle)
        return inside


def _refusal(exponent: Interval, floor: Interval, scale: float) -> str:
    if scale <= 0:
        return "the loss does not fall"
    if exponent.low <= FLATTEST or exponent.high >= STEEPEST:
        return f"its exponent may be anything from {exponent.low:.2g} to {exponent.high:.2g}"
    if not (math.isfinite(floor.low) and math.isfinite(floor.high)):
        return "its floor has no limit"
    return ""
