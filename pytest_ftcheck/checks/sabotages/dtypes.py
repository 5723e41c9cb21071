"""Breaking the precision that weights are held in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..check import Sabotage
from .parameters import in_adapted

if TYPE_CHECKING:
    from torch import nn


def _halve_trainable(model: nn.Module) -> None:
    import torch

    for parameter in model.parameters():
        if parameter.requires_grad and parameter.is_floating_point():
            parameter.data = parameter.data.to(torch.bfloat16)


def _mix_dtypes(model: nn.Module) -> None:
    """The adapter of every second layer in float64, which PEFT casts to and from."""
    from ...evidence.evidence import adapters

    for _, module in adapters(model)[::2]:
        for name, parameter in module.named_parameters():
            if "lora_" in name and parameter.requires_grad:
                parameter.data = parameter.data.double()


def _cast_all(model: nn.Module) -> None:
    """The whole model to float64 where it was float32, and to float32 where it was coarser."""
    import torch

    coarse = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)
    model.to(torch.float64 if coarse == torch.float32 else torch.float32)


TRAINED_IN_HALF = Sabotage(
    "trained-in-half", "what trains is cast to bfloat16 behind a declared float32", in_adapted(_halve_trainable, "any")
)
ADAPTER_MIXED = Sabotage(
    "adapter-mixed", "a part of the adapter is cast to another dtype", in_adapted(_mix_dtypes), "adapter"
)
BASE_UPCAST = Sabotage("base-upcast", "the whole model is cast to a wider dtype", in_adapted(_cast_all), "adapter")
