"""LoRA (Hu et al. 2021, arXiv 2106.09685) and DoRA (Liu et al. 2024, arXiv 2402.09353).

r (d_in + d_out) parameters on a layer. DoRA adds d_out, the length of each output's weight, and ``lora_bias`` d_out, a
bias of B. MultiheadAttention is two layers, of d and 3 d outputs. Of a grouped convolution A is not grouped and B is:
r C K + r d_out / groups. Of E stacked experts each has factors of its own: E r (d_in + d_out).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import RecipeError
from ..growth import Growth
from ..layers import ADAPTABLE, Layer, layers_of
from ..lora_config import has_closed_form
from ..placement import placement_of
from ..targets import are_rewritten, closest, rank_of, targeted_modules
from .adapter import Adapter
from .experts import experts

if TYPE_CHECKING:
    from torch import nn

    from ...methods import LoRA


def lora(model: nn.Module, method: LoRA) -> dict[str, Adapter] | None:
    """Module name -> adapter; None where the settings, or stacked experts, make the counts another method's."""
    if not has_closed_form(method) or are_rewritten(model, method):
        return None
    stacked = experts(model, method)
    if stacked is None:
        return None
    found = {**_on_modules(model, method), **stacked}
    if not found:
        names = [name for name, _ in model.named_parameters()]
        unknown = ", ".join(closest(names, one) for one in placement_of(method).target_parameters)
        raise RecipeError(f"LoRA.target_parameters names no parameter of this model: {unknown}")
    return found


def _on_modules(model: nn.Module, method: LoRA) -> dict[str, Adapter]:
    adapters: dict[str, Adapter] = {}
    for name in targeted_modules(model, method):
        module, rank = model.get_submodule(name), rank_of(method, name)
        layers = layers_of(name, module)
        if not layers:
            raise RecipeError(f"LoRA cannot adapt {name}, a {type(module).__name__}; allowed: {ADAPTABLE}")
        for layer_name, layer in layers.items():
            if rank % layer.groups:
                raise RecipeError(f"LoRA.r is {rank} for {name}; allowed: a multiple of its {layer.groups} groups")
            adapters[layer_name] = _adapter(layer, rank, method)
    return adapters


def _adapter(layer: Layer, rank: int, method: LoRA) -> Adapter:
    vectors = int(method.use_dora) + int(bool(method.options.get("lora_bias")))
    growth = Growth(vectors * layer.outputs, layer.per_rank)
    return Adapter(f"r={rank} on {layer}{', DoRA' if method.use_dora else ''}", rank, (growth,))
