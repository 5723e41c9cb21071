"""Breaking the order of rows, in the data themselves: so that any loop is broken by it."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ..check import Sabotage
from .wrapping import around_training

if TYPE_CHECKING:
    from ...recipe import Job, Recipe


class Reordered(Sequence[Any]):
    """``rows`` in another order: index i gives row ``order(i)``."""

    def __init__(self, rows: Any, order: Callable[[int], int]) -> None:
        self._rows, self._order = rows, order

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._rows[self._order(index) % len(self._rows)]


def reorderable(recipe: Recipe) -> Recipe:
    """``recipe``, if its rows are a plain sequence. Raises NotApplicable where they have an interface of their own."""
    from ...building import rows_of

    rows = rows_of(recipe, "train_data")
    if hasattr(rows, "column_names") or not (hasattr(rows, "__len__") and hasattr(rows, "__getitem__")):
        raise NotApplicable("the rows are no plain sequence")
    return recipe


def _order_by_chance(recipe: Recipe) -> Recipe:
    @contextlib.contextmanager
    def context(job: Job) -> Iterator[None]:
        order = list(range(len(job.train_data)))
        random.SystemRandom().shuffle(order)
        job.train_data = Reordered(job.train_data, order.__getitem__)
        yield

    return around_training(reorderable(recipe), context)


def _evaluation_moves_rows(recipe: Recipe) -> Recipe:
    @contextlib.contextmanager
    def context(job: Job) -> Iterator[None]:
        evaluations = [0]

        def count(model: Any, args: Any) -> None:
            evaluations[0] += not model.training

        job.train_data = Reordered(job.train_data, lambda index: index + evaluations[0])
        hook = job.model.register_forward_pre_hook(count)
        try:
            yield
        finally:
            hook.remove()

    if recipe.eval_data is None:
        raise NotApplicable("the recipe has no eval_data")
    return around_training(reorderable(recipe), context)


ORDER_BY_CHANCE = Sabotage("order-by-chance", "the order of the rows comes from no seed", _order_by_chance)
EVALUATION_MOVES_ROWS = Sabotage(
    "evaluation-moves-rows", "every evaluation changes which rows come next", _evaluation_moves_rows
)
