"""One thing that is recorded of a training, and held to later: a number, a word, a curve, or names."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Union, get_args

from ..codec import Record
from ..errors import RecipeError

# Which way is better; "same": any change is for the worse.
Direction = Literal["lower", "higher", "same"]
DIRECTIONS = get_args(Direction)


@dataclass(frozen=True)
class Curve(Record):
    """A loss curve: ``values[i]`` (nats) at step ``steps[i]``. ``bits`` is a digest of all that it was taken from, to
    the last bit; "" where that does not repeat.
    """

    steps: tuple[int, ...]
    values: tuple[float, ...]
    bits: str = ""


@dataclass(frozen=True)
class Names(Record):
    """Parameters by what they are: ``"h.*.attn.weight float32 4x12 trainable"`` -> how many; ``digest`` is of the names
    themselves, with the layers' numbers.
    """

    groups: dict[str, int]
    digest: str

    def __hash__(self) -> int:
        return hash(self.digest)


# A whole number is held to exactly, unless somebody allows more.
Value = Union[int, float, str, Curve, Names]


@dataclass(frozen=True)
class Metric:
    """``name`` is such as ``"lora/memory.peak_bytes"``: which run, what of it. ``samples`` are the values of
    repetitions, of which ``value`` is the median. ``limit`` is the tolerance that they call for, as a text. ``unlike``
    says why it can be held to no baseline; empty where it can.
    """

    name: str
    value: Value
    unit: str = ""
    direction: Direction = "same"
    samples: tuple[float, ...] = ()
    limit: str = ""
    unlike: str = ""

    @property
    def kind(self) -> str:
        """What it is without the run that it is of: ``"memory.peak_bytes"``."""
        return self.name.rpartition("/")[2]

    @property
    def numbers(self) -> tuple[float, ...]:
        """All numbers in it."""
        if isinstance(self.value, Curve):
            return self.value.values
        own = (self.value,) if isinstance(self.value, (int, float)) else ()
        return (*own, *self.samples)

    @property
    def finite(self) -> bool:
        return all(math.isfinite(number) for number in self.numbers)


def recorded(name: str, value: object, unit: str, direction: str) -> Metric:
    """A user's own metric: ``value`` is a number, or several of repetitions, whose median counts. Raises RecipeError.

    Numbers of numpy and torch, one each, are numbers too.
    """
    if not isinstance(name, str) or not name.strip() or "/" in name or "\n" in name:
        raise RecipeError(f"record({name!r}, ...); allowed: a name on one line, without '/'")
    if direction not in DIRECTIONS:
        raise RecipeError(f"record({name!r}, direction={direction!r}); allowed: {', '.join(map(repr, DIRECTIONS))}")
    if not isinstance(unit, str):
        raise RecipeError(f"record({name!r}, unit={unit!r}); allowed: a text such as 'MiB' or 'tokens/s'")
    several = isinstance(value, (tuple, list))
    numbers = [_number(name, item) for item in value] if isinstance(value, (tuple, list)) else [_number(name, value)]
    if not numbers:
        raise RecipeError(f"record({name!r}, {value!r}); allowed: a number, or a list of at least one")
    middle = statistics.median(numbers) if several else numbers[0]
    return Metric(name, middle, unit, direction, tuple(map(float, numbers)) if several else ())  # type: ignore[arg-type]


def _number(name: str, value: object) -> int | float:
    item = getattr(value, "item", None)
    if callable(item):
        try:
            value = item()
        except (ValueError, RuntimeError, TypeError):
            value = None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise RecipeError(f"record({name!r}, ...) was given what is no number; allowed: numbers")
    return int(value) if isinstance(value, int) else float(value)


def by_name(metrics: tuple[Metric, ...]) -> Mapping[str, Metric]:
    return {metric.name: metric for metric in metrics}
