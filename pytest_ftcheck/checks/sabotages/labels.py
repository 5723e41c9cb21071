"""Breaking what is supervised."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..check import NotApplicable, Sabotage

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from ...recipe import Job, Recipe

IGNORED = -100


def with_labels(recipe: Recipe, change: Callable[[dict[str, Any]], Tensor]) -> Recipe:
    """``recipe`` whose batches have the labels that ``change(batch)`` returns. NotApplicable where batches have none."""
    from ...training import collate as default

    inner = recipe.collate or default

    def collate(rows: list[Any]) -> Any:
        batch = inner(rows)
        if "labels" not in batch:
            raise NotApplicable("the recipe's batches have no labels")
        return {**batch, "labels": change(batch)}

    return recipe.replace(collate=collate)


def _rolled(by: int) -> Callable[[Recipe], Recipe]:
    def change(batch: dict[str, Any]) -> Tensor:
        labels = batch["labels"].roll(by, dims=1)
        labels[:, :by] = IGNORED
        labels[:, labels.shape[1] + min(by, 0) :] = IGNORED
        return labels  # type: ignore[no-any-return]

    return lambda recipe: with_labels(recipe, change)


LABELS_NOT_SHIFTED = Sabotage("labels-not-shifted", "each position is taught its own token", _rolled(1))
LABELS_SHIFTED_TWICE = Sabotage("labels-shifted-twice", "each position is taught the token after next", _rolled(-1))
