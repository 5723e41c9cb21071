"""LitGPT's LoRA (``litgpt.lora``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import litgpt.lora
from torch import Tensor, nn

from ...methods import LoRA
from .replacing import ReplacingAdapter


class LitgptAdapter(ReplacingAdapter):
    """``litgpt.lora.LoRALinear``. It merges for good: there is no ``unmerge``, and nothing to disable it with."""

    features = ("dropout", "bias")

    def replacement(self, layer: Any, config: LoRA) -> Any:
        has_bias = layer.bias is not None
        if has_bias and config.bias == "lora_only":
            self.refuse("litgpt-bias", "LitGPT trains no bias where bias is 'lora_only'")
        shape = layer.in_features, layer.out_features
        settings = {"r": config.r, "lora_alpha": config.alpha, "lora_dropout": config.dropout}
        return litgpt.lora.LoRALinear(*shape, bias=has_bias, **settings)

    def prefix(self, replacement: nn.Module) -> str:
        return "linear."

    def freeze(self, wrapped: nn.Module, config: LoRA) -> None:
        litgpt.lora.mark_only_lora_as_trainable(wrapped, bias=config.bias)

    def state(self, wrapped: nn.Module) -> Mapping[str, Tensor]:
        return {name: one for name, one in wrapped.state_dict().items() if litgpt.lora.lora_filter(name, one)}

    def scaling(self, layer: Any) -> float:
        return float(layer.scaling)

    def weight(self, layer: Any) -> Tensor:
        weight: Tensor = layer.linear.weight
        return weight

    def delta(self, layer: Any) -> Tensor:
        delta: Tensor = layer.get_lora_AB()
        return delta

    def merge(self, wrapped: Any) -> None:
        litgpt.lora.merge_lora_weights(wrapped)
