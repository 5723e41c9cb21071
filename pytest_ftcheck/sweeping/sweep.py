"""The settings of an adapter that were tried, and how much of the gap to full fine-tuning the best of them closes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..codec import Record
from ..order import Gap
from ..report.table import table


@dataclass(frozen=True)
class Setting(Record):
    """One that was tried, from seed 0. ``changed`` says what differs from the one before it that was kept, ``stage``
    what kind of thing that is. ``loss`` (nats) is that at the horizon, and ``failed`` why there is none. ``trainable``
    are its parameters.
    """

    label: str
    changed: str
    stage: str
    loss: float
    trainable: int
    failed: str = ""


@dataclass(frozen=True)
class Sweep(Record):
    """``settings`` in the order in which they were tried, first the declared one; ``best`` is the label of the best.

    ``declared_gap`` and ``best_gap`` are the losses of the declared and of the best setting minus that of full (nats,
    98 % intervals over paired seeds), after ``steps`` updates. ``parameters`` is what full trains, and ``full_loss``
    what it comes to from seed 0.
    """

    recipe: str
    steps: int
    settings: tuple[Setting, ...]
    best: str
    declared_gap: Gap
    best_gap: Gap
    parameters: int
    full_loss: float

    @property
    def closes(self) -> float:
        """The share of the declared setting's gap that the best one closes: 1 where it reaches full, above 1 where it
        is ahead of it. NaN where there is no gap: the declared setting is not behind by more than its interval.
        """
        gap = self.declared_gap
        return 1 - self.best_gap.mean / gap.mean if gap.low > 0 else math.nan

    @property
    def share(self) -> float:
        """The best setting's trainable parameters, of those that full trains."""
        return next(one.trainable for one in self.settings if one.label == self.best) / self.parameters

    @property
    def declared_is_best(self) -> bool:
        return self.best == self.settings[0].label

    def __repr__(self) -> str:
        # pytest prints the representation where a sweep is the message of an assert.
        what = f"{self.best} for {100 * self.share:.3g} % of the parameters"
        if math.isnan(self.closes):
            ahead = "is not behind full" if self.declared_gap.high > 0 else "is ahead of full"
            return f"no gap to close: the declared setting {ahead}, {_gap(self.declared_gap)}; best: {what}"
        if self.declared_is_best:
            return f"closes 0 % of the gap: none is better than the declared setting, {_gap(self.declared_gap)}"
        gaps = f"{_gap(self.declared_gap)} -> {_gap(self.best_gap)}"
        return f"closes {100 * self.closes:.0f} % of the gap: {what}, {gaps}"

    def lines(self) -> list[str]:
        """A table of all settings, and what it comes to."""
        marks = ["*" if one.label == self.best else "" for one in self.settings]
        losses = ["loss", *(f"{one.loss:.4g}" if not one.failed else "-" for one in self.settings)]
        trains = ["trainable", *(f"{one.trainable:,}" if one.trainable else "-" for one in self.settings)]
        names = ["", *(f"{mark}{one.label}" for mark, one in zip(marks, self.settings, strict=True))]
        changed = ["changed", *(one.failed or one.changed for one in self.settings)]
        return [*table(names, [losses, trains, changed]), f"  {self!r}"]


def _gap(gap: Gap) -> str:
    return f"{gap.mean:+.4g} nats ({gap.low:+.4g} to {gap.high:+.4g})"
