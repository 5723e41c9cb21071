"""LoHa (FedPara, Hyeon-Woo et al. 2021, arXiv 2108.06098; LyCORIS, arXiv 2309.14859): ΔW = (B₁ A₁) ∘ (B₂ A₂).

2 r (d_in + d_out) parameters on a Linear. A convolution of C inputs in g groups, kernel K, counts C/g · K inputs; with
``use_effective_conv2d``, where K > 1, two cores of r × r × K stand between factors without the kernel:
2 (r (C/g + d_out) + r² K). Dropout of ranks and modules changes no count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..growth import Growth
from ..targets import from_pattern
from .adapter import Adapter, on_each

if TYPE_CHECKING:
    from torch import nn

    from ..layers import Layer

KINDS = ("Linear", "Conv1d", "Conv2d")


def loha(model: nn.Module, config: Any) -> dict[str, Adapter]:
    """Module name -> adapter of a ``peft.LoHaConfig``."""

    def adapter(name: str, layer: Layer) -> Adapter:
        rank = from_pattern(config.rank_pattern or {}, name, config.r)
        return Adapter(f"LoHa r={rank} on {layer}", rank, (_growth(layer, config.use_effective_conv2d),))

    return on_each(model, config, KINDS, adapter)


def _growth(layer: Layer, effective: bool) -> Growth:
    inputs = layer.channels // layer.groups
    if effective and layer.kernel > 1:
        return Growth(linear=2 * (inputs + layer.outputs), quadratic=2 * layer.kernel)
    return Growth(linear=2 * (inputs * layer.kernel + layer.outputs))
