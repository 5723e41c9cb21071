"""VeRA (Kopiczko et al. 2023, arXiv 2310.11454): ΔW = diag(b) B diag(d) A, of which only the vectors b and d train.

r + d_out parameters on each layer. A and B are drawn once for the whole model, as large as its largest targeted layer,
r · (max d_in + max d_out) numbers. PEFT registers them as buffers: no count of parameters has them, neither PEFT's own
nor this one, though they take memory, and space in the adapter's file unless ``save_projection=False``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..growth import Growth
from .adapter import Adapter, on_each

if TYPE_CHECKING:
    from torch import nn

    from ..layers import Layer

KINDS = ("Linear", "Conv1D")


def vera(model: nn.Module, config: Any) -> dict[str, Adapter]:
    """Module name -> adapter of a ``peft.VeraConfig``."""

    def adapter(name: str, layer: Layer) -> Adapter:
        return Adapter(f"VeRA r={config.r} on {layer}", config.r, (Growth(layer.outputs, 1),))

    return on_each(model, config, KINDS, adapter)
