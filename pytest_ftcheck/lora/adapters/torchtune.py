"""torchtune's LoRA and DoRA (``torchtune.modules.peft``)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from ...errors import NotApplicable
from ...methods import LoRA
from .replacing import ReplacingAdapter

try:
    from torchtune.modules import peft
except ModuleNotFoundError as error:
    if not str(error.name).startswith("torchao."):
        raise
    raise ImportError("torchtune 0.6.1 needs a torchao that still has NF4: pip install torchao==0.16.0") from error


class TorchtuneAdapter(ReplacingAdapter):
    """``LoRALinear`` and ``DoRALinear``. torchtune merges a state dict, which is for a model without adapters: here the
    merged weight is put into the layer, whose adapter is disabled from then on.
    """

    features = ("dropout", "dora")

    def replacement(self, layer: Any, config: LoRA) -> Any:
        has_bias = layer.bias is not None
        if has_bias and config.use_dora:
            self.refuse("torchtune-dora", "torchtune's DoRA scales the bias with the weight")
        layer_type = peft.DoRALinear if config.use_dora else peft.LoRALinear
        settings = {"rank": config.r, "alpha": config.alpha, "dropout": config.dropout, "use_bias": has_bias}
        return layer_type(layer.in_features, layer.out_features, **settings)

    def freeze(self, wrapped: Any, config: LoRA) -> None:
        if config.use_dora:
            wrapped[0].initialize_dora_magnitude()
        peft.set_trainable_params(wrapped, peft.get_adapter_params(wrapped))

    def state(self, wrapped: nn.Module) -> Mapping[str, Tensor]:
        state: Mapping[str, Tensor] = peft.get_adapter_state_dict(wrapped.state_dict())
        return state

    def factors(self, layer: Any) -> tuple[Tensor, Tensor]:
        return layer.lora_a.weight, layer.lora_b.weight

    def weight(self, layer: Any) -> Tensor:
        weight: Tensor = layer.weight
        return weight

    def magnitude(self, layer: Any) -> Tensor:
        magnitude: Tensor = layer.magnitude
        return magnitude

    def merge(self, wrapped: Any) -> None:
        (layer,) = wrapped
        rank = layer.lora_a.out_features
        alpha = layer.scaling * rank if isinstance(layer, peft.DoRALinear) else layer.alpha
        copied = {name: one.clone() for name, one in wrapped.state_dict().items()}
        merged = peft.get_merged_lora_ckpt(copied, rank, alpha)
        with torch.no_grad():
            layer.weight.copy_(merged["0.weight"])
        layer.disabled = True

    def disabled(self, wrapped: Any) -> AbstractContextManager[object]:
        if wrapped[0].disabled:
            raise NotApplicable("torchtune takes nothing out again that was merged")
        disabled: AbstractContextManager[object] = peft.disable_adapter(wrapped)
        return disabled
