"""How much a number may differ from its baseline: ``"2%"``, ``"24 MiB"``, ``"0.5 ms"``, ``"0"``.

A sign says which way is held to: ``"+2%"`` only growth, ``"-2%"`` only a fall; without one it is the way for the worse
that the metric has. ``"warn 2%"`` warns and does not fail.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..errors import RecipeError
from ..sizes import bytes_of
from .metric import Direction

ALLOWED = "'2%', '24 MiB', '0.5 ms', '0', '+2%' (only growth), '-2%' (only a fall), 'warn 10%'"
FORM = re.compile(r"(?P<warn>warn\s+)?(?P<sign>[+-])?\s*(?P<number>\d+(?:\.\d*)?(?:e-?\d+)?)\s*(?P<unit>%|[^\s%]*)")
SECONDS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0}
SIGNS: dict[str | None, Direction | None] = {"+": "lower", "-": "higher", None: None}


@dataclass(frozen=True)
class Tolerance:
    """``relative`` is a share of the baseline, ``absolute`` in the metric's own unit: one of them is None.

    ``direction`` replaces the metric's own, where it is not None: "lower" fails on growth. ``warns``: beyond it is a
    warning, and no failure.
    """

    relative: float | None = None
    absolute: float | None = None
    direction: Direction | None = None
    warns: bool = False

    def allowed(self, scale: float) -> float:
        """The largest difference that is no change, beside a baseline of the size ``scale``."""
        if self.relative is not None:
            return self.relative * abs(scale)
        return self.absolute or 0.0

    @property
    def exact(self) -> bool:
        return not (self.relative or self.absolute)


def tolerance(text: object, metric: str, unit: str) -> Tolerance:
    """The tolerance that ``text`` stands for, of a metric called ``metric`` in ``unit``. Raises RecipeError."""
    match = FORM.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise RecipeError(f"tolerance of {metric} is {text!r}; allowed: {ALLOWED}")
    number, given = float(match["number"]), match["unit"]
    direction, warns = SIGNS[match["sign"]], bool(match["warn"])
    if given == "%":
        return Tolerance(relative=number / 100, direction=direction, warns=warns)
    factor = _factor(given or unit, unit)
    if factor is None:
        raise RecipeError(f"tolerance of {metric} is {text!r}, and it is in {unit or 'no unit'}; allowed: {ALLOWED}")
    return Tolerance(absolute=number * factor, direction=direction, warns=warns)


def _factor(given: str, unit: str) -> float | None:
    """How many of ``unit`` one of ``given`` is; None where they measure different things."""
    if given == unit:
        return 1.0
    if given in SECONDS and unit in SECONDS:
        return SECONDS[given] / SECONDS[unit]
    one, of = (1 if name == "bytes" else bytes_of(f"1 {name}") for name in (given, unit))
    return one / of if one and of else None
