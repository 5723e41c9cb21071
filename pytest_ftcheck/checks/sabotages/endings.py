"""Breaking how sequences end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..check import Sabotage
from .targets import IGNORED, Targets, targets_sabotage, with_targets
from .wrapping import around_training, forward_inputs

if TYPE_CHECKING:
    from torch import Tensor

    from ...recipe import Recipe


def _without_last(targets: Targets) -> Tensor:
    """The targets without each row's last: from the right, the first that is supervised."""
    supervised = targets.labels != IGNORED
    from_right = supervised.flip(1).long().cumsum(dim=1).flip(1)
    return targets.labels.masked_fill(supervised & (from_right == 1), IGNORED)


def _cut_off(recipe: Recipe) -> Recipe:
    """The last token of each row is padding to the model, and not learned."""

    def change(inputs: dict[str, Any]) -> dict[str, Any]:
        ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
        if ids is None or mask is None or mask.shape != ids.shape:
            return inputs
        is_last = (mask.flip(1).long().cumsum(dim=1).flip(1) == 1) & mask.bool()
        cut = {"attention_mask": mask.masked_fill(is_last, 0)}
        if "labels" in inputs:
            cut["labels"] = inputs["labels"].masked_fill(is_last, IGNORED)
        return {**inputs, **cut}

    recipe = with_targets(recipe, _without_last)
    return around_training(recipe, lambda job: forward_inputs(job, change))


END_NOT_LEARNED = targets_sabotage("end-not-learned", "the last token of each row is not in the loss", _without_last)
END_CUT_OFF = Sabotage("end-cut-off", "each row loses the token that ends it", _cut_off)
