"""PEFT, by its public functions: what they do is what a training meets."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from peft import get_peft_model
from torch import Tensor, nn

from ...methods import LoRA
from ..adapter import Adapter


class _Alone(nn.Module):
    """A model of one layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *inputs: Any) -> Any:
        return self.layer(*inputs)


class PeftAdapter(Adapter):
    """LoRA as ``peft.get_peft_model`` puts it on."""

    kinds = ("linear", "conv1d")
    features = ("dropout", "rslora", "dora", "gaussian")

    def wrap(self, layer: nn.Module, config: LoRA) -> nn.Module:
        return get_peft_model(_Alone(layer), replace(config, target_modules=["layer"]).to_peft())

    def layers(self, wrapped: Any) -> Mapping[str, nn.Module]:
        return {"": wrapped.base_model.model.layer}

    def factors(self, layer: Any) -> tuple[Tensor, Tensor]:
        (active,) = layer.active_adapters
        return layer.lora_A[active].weight, layer.lora_B[active].weight

    def scaling(self, layer: Any) -> float:
        (active,) = layer.active_adapters
        return float(layer.scaling[active])

    def weight(self, layer: Any) -> Tensor:
        weight: Tensor = layer.get_base_layer().weight
        return weight

    def delta(self, layer: Any) -> Tensor:
        (active,) = layer.active_adapters
        delta: Tensor = layer.get_delta_weight(active)
        return delta

    def merge(self, wrapped: Any) -> None:
        wrapped.merge_adapter()

    def unmerge(self, wrapped: Any) -> None:
        wrapped.unmerge_adapter()

    def disabled(self, wrapped: Any) -> AbstractContextManager[object]:
        disabled: AbstractContextManager[object] = wrapped.disable_adapter()
        return disabled
