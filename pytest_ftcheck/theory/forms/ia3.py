"""(IA)³ (Liu et al. 2022, arXiv 2205.05638): a factor for each output of a layer, or for each input of others.

Layers named in ``feedforward_modules`` scale their inputs: d_in parameters, C_in for a convolution. All others scale
their outputs: d_out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ...errors import RecipeError
from ..growth import Growth
from .adapter import Adapter, on_each

if TYPE_CHECKING:
    from torch import nn

    from ..layers import Layer

KINDS = ("Linear", "Conv1D", "Conv2d", "Conv3d")


def ia3(model: nn.Module, config: Any) -> dict[str, Adapter]:
    """Module name -> adapter of a ``peft.IA3Config``."""
    feedforward = _feedforward(model, config)

    def adapter(name: str, layer: Layer) -> Adapter:
        scales_inputs = _is_feedforward(name, feedforward)
        size = layer.channels if scales_inputs else layer.outputs
        note = f"IA3 on the {size} {'inputs' if scales_inputs else 'outputs'} of {layer}"
        return Adapter(note, 0, (Growth(size),))

    return on_each(model, config, KINDS, adapter)


def _feedforward(model: nn.Module, config: Any) -> Any:
    """The modules that scale their inputs; where none are named, PEFT has a default for the type of model."""
    if config.feedforward_modules is not None:
        return config.feedforward_modules
    from peft.utils import TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING as DEFAULTS

    kind = getattr(getattr(model, "config", None), "model_type", None)
    if kind not in DEFAULTS:
        raise RecipeError(
            f"IA3Config.feedforward_modules is None, and PEFT has no default for a model of type {kind!r}; name them, "
            "or give []"
        )
    return DEFAULTS[kind]


def _is_feedforward(name: str, feedforward: Any) -> bool:
    """A string is an expression for the whole name; of names in a list the last letters count, without a dot (PEFT)."""
    if isinstance(feedforward, str):
        return re.fullmatch(feedforward, name) is not None
    return name.endswith(tuple(feedforward))
