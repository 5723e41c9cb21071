"""One metric beside its baseline, in numbers and in words."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..codec import Record
from ..report.units import duration, size
from .metric import Curve, Direction, Metric, Names, Value
from .tolerance import Tolerance

# "new": it has no baseline. "stale": far better than its baseline, which so no longer guards anything.
BAD = ("failed", "missing")
VERDICTS = ("passed", *BAD, "new", "stale", "warning", "not comparable")


@dataclass(frozen=True)
class Comparison(Record):
    """``verdict`` is one of VERDICTS; the texts say what the baseline is, what is seen, by how much it differs, how
    much is allowed, and in ``note`` what else there is to say. ``value`` is what is seen, where it is a number, or a
    curve, of which it is the end; ``samples`` are those that it is the median of.
    """

    metric: str
    verdict: str
    before: str = ""
    now: str = ""
    change: str = ""
    limit: str = ""
    note: str = ""
    value: float | None = None
    unit: str = ""
    direction: str = "same"
    samples: tuple[float, ...] = ()

    @classmethod
    def of(
        cls, metric: Metric, verdict: str, before: str = "", now: str = "", *, change: str = "", limit: str = "",
        note: str = "",
    ) -> Comparison:  # fmt: skip
        """That of ``metric``, which is what is seen."""
        value, unit, direction = one_number(metric.value), metric.unit, metric.direction
        return cls(metric.name, verdict, before, now, change, limit, note, value, unit, direction, metric.samples)

    @property
    def line(self) -> str:
        """``lora/memory.peak_bytes: 301 MB -> 421 MB (+40 %, limit +1 %)``."""
        seen = f"{self.before} -> {self.now}" if self.before and self.now else self.before or self.now
        aside = ", ".join(filter(None, [self.change, self.limit and f"limit {self.limit}"]))
        text = f"{self.metric}: {seen}" + (f" ({aside})" if aside else "")
        return f"{text}{'; ' if seen else ''}{self.note}" if self.note else text


def shown(value: Value, unit: str) -> str:
    """A value as people read it, one line."""
    if isinstance(value, Curve):
        return f"{value.values[-1]:.4g} at step {value.steps[-1]}" if value.values else "no values"
    if isinstance(value, Names):
        return f"{sum(value.groups.values())} parameters"
    if isinstance(value, str):
        return value
    return number(value, unit)


def shown_both(before: float, now: float, unit: str) -> tuple[str, str]:
    """Two numbers as people read them, with as many digits as it takes to tell them apart."""
    texts = number(before, unit), number(now, unit)
    if texts[0] != texts[1] or before == now:
        return texts
    return _whole(before, unit), _whole(now, unit)


def changed(before: float, now: float, unit: str) -> str:
    """The difference, as a share where there is something to take it of."""
    difference = now - before
    if not math.isfinite(difference) or not before:
        return f"{difference:+,.6g}{f' {unit}' if unit else ''}"
    share = 100 * difference / abs(before)
    # A byte of a gigabyte is a difference too.
    return f"{share:+.3g} %" if abs(share) >= 0.001 or not difference else f"{difference:+,} {unit}".rstrip()


def limited(chosen: Tolerance, direction: Direction, unit: str) -> str:
    """A tolerance as people read it: ``"+1 %"``, ``"±0.2 %"``, ``"exactly equal"``."""
    if chosen.exact:
        return {"lower": "no more", "higher": "no less", "same": "exactly equal"}[direction]
    sign = {"lower": "+", "higher": "-", "same": "±"}[direction]
    if chosen.relative is not None:
        return f"{sign}{100 * chosen.relative:.3g} %"
    return f"{sign}{number(chosen.absolute or 0.0, unit)}"


def of_new(metric: Metric) -> Comparison:
    """A metric that nobody has accepted yet."""
    return Comparison.of(metric, "new", now=shown(metric.value, metric.unit))


def of_missing(recorded: Metric) -> Comparison:
    """A baseline of something that is no longer measured."""
    return Comparison(
        recorded.name, "missing", before=shown(recorded.value, recorded.unit), note="it is not measured any more"
    )


def number(value: float, unit: str) -> str:
    """A number and its unit as people read them."""
    if not math.isfinite(value):
        return f"{value} {unit}".rstrip()
    if unit == "bytes":
        return size(value) if value >= 0 else f"-{size(-value)}"
    if unit == "s":
        return duration(value)
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.6g}"
    return f"{text} {unit}".rstrip()


def one_number(value: Value) -> float | None:
    """A value as a number: of a curve its end; None where it is none."""
    if isinstance(value, Curve):
        return value.values[-1] if value.values else None
    return float(value) if isinstance(value, (int, float)) else None


def _whole(value: float, unit: str) -> str:
    return f"{value:,}" + (f" {unit}" if unit else "")
