"""What became of one way to break a recipe."""

from __future__ import annotations

from dataclasses import dataclass

from .codec import Record


@dataclass(frozen=True)
class Trial(Record):
    """One way to break a recipe, and who noticed first: a check, a test; "" for nobody, None where nobody was asked.

    ``not_tried`` says why the recipe could not be broken in that way.
    """

    sabotage: str
    breaks: str
    recipe: str
    by_check: str | None = None
    by_test: str | None = None
    not_tried: str = ""
    seconds: float = 0.0

    @property
    def missed(self) -> bool:
        return not (self.by_check or self.by_test or self.not_tried)
