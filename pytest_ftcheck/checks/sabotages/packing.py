"""Breaking how rows share a batch."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ..check import Sabotage
from .targets import IGNORED, refuse_other_models
from .wrapping import after_adapting, around_training, forward_inputs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ...recipe import Recipe

Inputs = dict[str, Any]


def _with_inputs(recipe: Recipe, change: Callable[[Inputs, list[Tensor]], Inputs]) -> Recipe:
    """``recipe`` whose model is called on what ``change`` makes of its inputs and of the places of each row's tokens.

    NotApplicable where the model has no loss or no positions of its own: a loss outside it would not know.
    """
    refuse_other_models(recipe)
    takes = inspect.signature(recipe.model().forward).parameters
    if recipe.loss is not None or not {"labels", "position_ids"} <= set(takes):
        raise NotApplicable("the loss is not the model's own, or it takes no position_ids")

    def changed(inputs: Inputs) -> Inputs:
        ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
        if ids is None or mask is None or inputs.get("labels") is None:
            return inputs
        return {**inputs, **change(inputs, [row.nonzero()[:, 0] for row in mask])}

    return around_training(recipe, lambda job: forward_inputs(job, changed))


def _packed(inputs: Inputs, places: list[Tensor]) -> Inputs:
    """All rows in one, without padding, under a mask of ones."""
    import torch

    def joined(name: str) -> Tensor:
        return torch.cat([inputs[name][row, at] for row, at in enumerate(places)])[None]

    labels = joined("labels")
    positions = torch.cat([torch.arange(len(at)) for at in places])[None].to(labels.device)
    ids = joined("input_ids")
    labels = labels.masked_fill(positions == 0, IGNORED)
    return {"input_ids": ids, "labels": labels, "position_ids": positions, "attention_mask": torch.ones_like(ids)}


def _headless(inputs: Inputs, places: list[Tensor]) -> Inputs:
    """Packed, each document after the first without its first token."""
    return _packed(inputs, [at[min(row, 1) :] for row, at in enumerate(places)])


def _left(inputs: Inputs, places: list[Tensor]) -> Inputs:
    """Padded on the left, and nothing masked."""
    import torch

    moved = {name: inputs[name].clone() for name in ("input_ids", "labels")}
    for name, value in moved.items():
        for row, at in enumerate(places):
            rest = torch.ones(value.shape[1], dtype=torch.bool, device=value.device)
            rest[at] = False
            moved[name][row] = torch.cat([inputs[name][row, rest], inputs[name][row, at]])
    return {**moved, "attention_mask": None}


def _alike(inputs: Inputs, places: list[Tensor]) -> Inputs:
    """All tokens at position 0."""
    import torch

    return {"position_ids": torch.zeros_like(inputs["input_ids"])}


def _future_seen(recipe: Recipe) -> Recipe:
    def look_ahead(model: nn.Module) -> None:
        from torch import nn

        first = next(m for m in model.modules() if isinstance(m, nn.Embedding))
        first.register_forward_hook(lambda _, args, output: _with_the_next(output))

    refuse_other_models(recipe)
    return after_adapting(recipe, look_ahead)


def _with_the_next(output: Tensor) -> Tensor:
    """Each embedding [..., length, width] with half of the one after it."""
    return output + 0.5 * output.roll(-1, dims=-2) if output.dim() > 2 else output


def _sabotage(id: str, breaks: str, change: Callable[[Inputs, list[Tensor]], Inputs]) -> Sabotage:
    return Sabotage(id, breaks, lambda recipe: _with_inputs(recipe, change))


PACKED_TOGETHER = _sabotage("packed-together", "rows are packed into one, and see each other", _packed)
HEADLESS = _sabotage("headless", "packed documents lack their first token", _headless)
PADDED_LEFT_UNMASKED = _sabotage("padded-left-unmasked", "rows are padded on the left, and nothing is masked", _left)
FUTURE_SEEN = Sabotage("future-seen", "each position sees the token after it", _future_seen)
POSITIONS_ALIKE = _sabotage("positions-alike", "all tokens are said to be at position 0", _alike)
