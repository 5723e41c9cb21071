"""The learning rates of a training, update by update, and what they are multiples of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..observers.trace import Trace


@dataclass(frozen=True)
class GroupRates:
    """The rates of one parameter group that holds something. ``base`` is what its schedule multiplies; None where no
    schedule of torch has been built for it, so that the loop sets the rates by itself.
    """

    rates: tuple[float, ...]
    base: float | None

    @property
    def peak(self) -> float:
        return max(self.rates)

    @property
    def is_constant(self) -> bool:
        return self.peak - min(self.rates) <= 1e-9 * abs(self.peak)


def group_rates(trace: Trace) -> list[GroupRates]:
    """The groups of all optimizers that hold parameters; only those that every later update has."""
    # A second optimizer is known from its own first step on, which comes after the first update has begun.
    updates = trace.updates[1:] if len(trace.updates) > 1 else trace.updates
    count = min(len(update.groups) for update in updates)
    found = []
    for index, group in enumerate(updates[-1].groups[:count]):
        if group.names:
            first = trace.updates[0].lr[index : index + 1]
            rates = (*first, *(update.lr[index] for update in updates)) if len(trace.updates) > 1 else first
            base = group.settings.get("max_lr", group.settings.get("initial_lr"))
            found.append(GroupRates(rates, float(base) if base is not None else None))
    return found
