"""Breaking which weights are shared."""

from __future__ import annotations

from typing import Any

from ...errors import NotApplicable
from ..check import Sabotage
from .parameters import in_adapted


def _change_ties(model: Any) -> None:
    """Untie the input and output embeddings where they are tied, and tie them where they are not."""
    from torch import nn

    inputs, outputs = _embeddings(model)
    if inputs.weight is outputs.weight:
        outputs.weight = nn.Parameter(outputs.weight.detach().clone(), outputs.weight.requires_grad)
    else:
        outputs.weight = inputs.weight


def _embeddings(model: Any) -> tuple[Any, Any]:
    try:
        inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
        same = inputs.weight.shape == outputs.weight.shape
    except (AttributeError, NotImplementedError, TypeError):
        same = False
    if not same or any(hasattr(part, "base_layer") or hasattr(part, "modules_to_save") for part in (inputs, outputs)):
        raise NotApplicable("the recipe's model has no input and output embeddings that could be tied")
    return inputs, outputs


TIES_CHANGED = Sabotage(
    "ties-changed", "tied embeddings are taken apart; separate ones are tied", in_adapted(_change_ties, "any")
)
