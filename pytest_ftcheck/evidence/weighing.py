"""By how much each token counts in the gradient of its update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from .lessons import lessons

if TYPE_CHECKING:
    from torch import Tensor

    from .evidence import Evidence
    from .lessons import Lesson

# Weights in one micro-batch differ by rounding: 1e-5 in float32, in bfloat16 by 2 %.
EVEN, EVEN_ROUNDED = 1e-3, 0.05


@dataclass(frozen=True)
class WeighedForward:
    """A micro-batch: ``count`` supervised tokens of on average ``weight`` each. ``by_token``: all weigh the same;
    ``by_row``: those of a row weigh the same, and the rows as wholes do.
    """

    count: int
    rows: int
    total: float
    by_token: bool
    by_row: bool

    @property
    def weight(self) -> float:
        return self.total / self.count


@dataclass(frozen=True)
class Weighed:
    """An update (``number`` from 1) and its micro-batches, in as far as they were taught something."""

    number: int
    forwards: tuple[WeighedForward, ...]
    is_rounded: bool
    is_tokens: bool

    @property
    def total(self) -> float:
        return sum(part.total for part in self.forwards)

    @property
    def count(self) -> int:
        return sum(part.count for part in self.forwards)

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.forwards)

    @property
    def is_by_token(self) -> bool:
        return self.is_tokens and all(part.by_token for part in self.forwards)

    @property
    def is_by_row(self) -> bool:
        return all(part.by_row for part in self.forwards)


def weighed(evidence: Evidence) -> list[Weighed]:
    """Every update whose loss is a cross-entropy throughout. NotApplicable where one is not."""
    return evidence.once("weighed", lambda: _weighed(evidence))


def _weighed(evidence: Evidence) -> list[Weighed]:
    by_update: dict[int, list[Lesson]] = {}
    for lesson in lessons(evidence):
        if lesson.seen.count and not lesson.seen.is_cross_entropy:
            raise NotApplicable("the loss is not a cross-entropy of the model's logits")
        by_update.setdefault(lesson.number, []).append(lesson)
    found = []
    for number, members in by_update.items():
        taught = [lesson for lesson in members if lesson.seen.count]
        # A forward pass whose logits no gradient came back to is not in the loss: a look at something else.
        in_loss = [f for f in members[0].update.forwards if f.logits is None or f.logits_gradient is not None]
        if taught and len(members) == len(in_loss):
            parts = tuple(_weighed_forward(lesson) for lesson in taught)
            is_tokens = all(lesson.seen.weights.dim() > 1 for lesson in taught)
            found.append(Weighed(number, parts, any(one.seen.is_rounded for one in taught), is_tokens))
    if not found:
        raise NotApplicable("no update showed a cross-entropy of the model's logits")
    return found


def _weighed_forward(lesson: Lesson) -> WeighedForward:
    weights, within = lesson.seen.weights, EVEN_ROUNDED if lesson.seen.is_rounded else EVEN
    taught = weights[lesson.seen.supervised]
    rows = weights.reshape(len(weights), -1)
    by_row = rows.sum(dim=1)[lesson.seen.supervised.reshape(rows.shape).any(dim=1)]
    return WeighedForward(
        count=lesson.seen.count,
        rows=len(weights),
        total=float(taught.sum()),
        by_token=_even(taught, within),
        by_row=_even(by_row, within) and all(_even(row[row > 0], within) for row in rows),
    )


def _even(weights: Tensor, within: float) -> bool:
    return not len(weights) or float(weights.max()) <= (1 + within) * float(weights.min())
