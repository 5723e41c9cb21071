"""loralib, the implementation that Hu et al. published with LoRA (arXiv 2106.09685)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import loralib
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ...errors import NotApplicable
from ...methods import LoRA
from .replacing import ReplacingAdapter

CONVOLUTIONS = {nn.Conv1d: loralib.Conv1d, nn.Conv2d: loralib.Conv2d, nn.Conv3d: loralib.Conv3d}

CONVOLUTIONAL = tuple(CONVOLUTIONS.values())


class LoralibAdapter(ReplacingAdapter):
    """``loralib.Linear``, ``Embedding`` and, where A and B are those of a convolution, ``Conv1d`` to ``Conv3d``.

    loralib merges in ``eval()`` and takes out again in ``train()``, unless a layer is made with
    ``merge_weights=False``, as it is here by default; ``merge`` and ``unmerge`` then go through ``eval()`` and
    ``train()``. ``known_defects``: as in ``ReplacingAdapter``.
    """

    kinds = ("linear", "conv1d", "embedding", "convolution")
    features = ("dropout", "bias")

    def __init__(self, merge_weights: bool = False, known_defects: bool = False) -> None:
        super().__init__(known_defects)
        self.merge_weights = merge_weights

    def knows(self, feature: str, kind: str) -> bool:
        # Of a convolution it takes the setting, and does not obey it: docs/lora-findings.md#loralib-dropout.
        without = kind == "embedding" or (kind == "convolution" and not self.known_defects)
        return feature in self.features and not (feature == "dropout" and without)

    def runs_the_base(self, kind: str) -> bool:
        # Its layer for GPT-2's Conv1D multiplies by the transposed weight, as nn.Linear does.
        return kind != "conv1d"

    def replacement(self, layer: Any, config: LoRA) -> Any:
        settings = {"r": config.r, "lora_alpha": config.alpha, "merge_weights": self.merge_weights}
        if isinstance(layer, nn.Embedding):
            shape = layer.num_embeddings, layer.embedding_dim
            return loralib.Embedding(*shape, padding_idx=layer.padding_idx, **settings)
        settings["lora_dropout"] = config.dropout
        if type(layer) in CONVOLUTIONS:
            return self._convolution(layer, config, settings)
        if isinstance(layer, Conv1D):
            return loralib.Linear(*layer.weight.shape, fan_in_fan_out=True, **settings)
        return loralib.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None, **settings)

    def _convolution(self, layer: Any, config: LoRA, settings: Mapping[str, Any]) -> Any:
        if layer.groups > 1 or max(layer.kernel_size) > 1:
            raise NotApplicable("loralib's A and B are those of a convolution only of kernel 1 and without groups")
        if config.bias == "lora_only":
            self.refuse("loralib-bias", "loralib trains no bias of a convolution where bias is 'lora_only'")
        options = {name: getattr(layer, name) for name in ("stride", "padding", "dilation")}
        shape = layer.in_channels, layer.out_channels, layer.kernel_size[0]
        return CONVOLUTIONS[type(layer)](*shape, bias=layer.bias is not None, **options, **settings)

    def prefix(self, replacement: nn.Module) -> str:
        return "conv." if isinstance(replacement, CONVOLUTIONAL) else ""

    def freeze(self, wrapped: nn.Module, config: LoRA) -> None:
        loralib.mark_only_lora_as_trainable(wrapped, bias=config.bias)

    def state(self, wrapped: Any) -> Mapping[str, Tensor]:
        trains_bias = any(one.requires_grad for name, one in wrapped.named_parameters() if "bias" in name)
        state: Mapping[str, Tensor] = loralib.lora_state_dict(wrapped, bias="all" if trains_bias else "none")
        return state

    def scaling(self, layer: Any) -> float:
        return float(layer.scaling)

    def factors(self, layer: Any) -> tuple[Tensor, Tensor]:
        if not isinstance(layer, CONVOLUTIONAL):
            return super().factors(layer)
        ones = (1,) * (layer.conv.weight.dim() - 2)
        return layer.lora_A.view(*layer.lora_A.shape, *ones), layer.lora_B.view(*layer.lora_B.shape, *ones)

    def weight(self, layer: Any) -> Tensor:
        weight: Tensor = layer.conv.weight if isinstance(layer, CONVOLUTIONAL) else layer.weight
        return weight

    def merge(self, wrapped: Any) -> None:
        wrapped[0].merge_weights = True
        wrapped.eval()

    def unmerge(self, wrapped: Any) -> None:
        was_training = wrapped.training
        wrapped.train()
        wrapped[0].merge_weights = self.merge_weights
        wrapped.train(was_training)
