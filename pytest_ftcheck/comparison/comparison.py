"""What was found where two trainings were compared."""

from __future__ import annotations

from dataclasses import dataclass

from ..baseline.decision import FAILED
from ..codec import Record
from .cost import Change
from .step_time import StepTime


@dataclass(frozen=True)
class Comparison(Record):
    """One method of a recipe in two trainings: the exact quantities that changed, and the step time."""

    recipe: str
    changes: tuple[Change, ...]
    step_time: StepTime

    @property
    def verdict(self) -> str:
        """``"failed"`` where anything got worse; else what the step time came to."""
        return FAILED if any(change.worse for change in self.changes) else self.step_time.verdict

    def lines(self) -> list[str]:
        """What got worse first, one line each; then the step time, and what changed otherwise."""
        method = self.step_time.method
        worse = [f"{method}: {change.text}" for change in self.changes if change.worse]
        better = [f"{method}: {change.text}" for change in self.changes if not change.worse]
        return [*worse, *self.step_time.lines(), *better]
