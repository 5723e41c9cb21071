"""Breaking the resizing of a vocabulary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ..check import Sabotage

if TYPE_CHECKING:
    from ...recipe import Recipe

MORE_TOKENS = 3


def _redrawn(model: Any) -> Any:
    """Add tokens to the vocabulary, and draw all rows of the embedding anew."""
    import torch

    model.resize_token_embeddings(len(model.get_input_embeddings().weight) + MORE_TOKENS)
    weight = model.get_input_embeddings().weight
    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape).mul_(0.02).to(weight))
    return model


def _apply(recipe: Recipe) -> Recipe:
    if not hasattr(recipe.model(), "resize_token_embeddings"):
        raise NotApplicable("the recipe's model has no resize_token_embeddings")
    inner = recipe.model
    return recipe.replace(model=lambda: _redrawn(inner()))


RESIZE_REDRAWS = Sabotage("resize-redraws", "resizing the vocabulary draws all of its rows anew", _apply)
