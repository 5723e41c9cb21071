"""AdaLoRA (Zhang et al. 2023, arXiv 2303.10512): ΔW = P Λ Q with singular values that are pruned while it trains.

r (d_in + d_out) + r trainable parameters on a layer with r = ``init_r``, and one that never trains: PEFT keeps the rank
that is left as a frozen parameter. Pruning sets singular values to 0 and removes no parameter. An input of a
convolution counts C_in · K; unlike LoRA's, neither factor shrinks with its groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..growth import Growth
from .adapter import Adapter, on_each

if TYPE_CHECKING:
    from torch import nn

    from ..layers import Layer

KINDS = ("Linear", "Conv1D", "Conv2d")
# What PEFT keeps of a layer's rank (``ranknum``).
RANKS_LEFT = 1


def adalora(model: nn.Module, config: Any) -> dict[str, Adapter]:
    """Module name -> adapter of a ``peft.AdaLoraConfig``; its ``r`` and ``rank_pattern`` decide nothing here."""

    def adapter(name: str, layer: Layer) -> Adapter:
        growth = Growth(RANKS_LEFT, layer.inputs + layer.outputs + 1)
        return Adapter(f"AdaLoRA r={config.init_r} on {layer}", config.init_r, (growth,), frozen=RANKS_LEFT)

    return on_each(model, config, KINDS, adapter)
