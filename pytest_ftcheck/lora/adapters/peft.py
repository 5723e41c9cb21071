"""PEFT, by its public functions: what they do is what a training meets."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from peft import PeftConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from torch import Tensor, nn

from ...errors import NotApplicable
from ...methods import LoRA
from ..adapter import FEATURES, Adapter
from ..bases.experts import StackedExperts
from .peft_defects import Stage, met_by


class _Alone(nn.Module):
    """A model of one layer."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *inputs: Any) -> Any:
        return self.layer(*inputs)


class PeftAdapter(Adapter):
    """LoRA as ``peft.get_peft_model`` puts it on: on a single layer, or on a model whose targets are declared.

    ``autocast_adapter_dtype`` is PEFT's: whether the factors are float32 on a base of half precision. With
    ``known_defects``, layers are tried as well on which PEFT is known to be wrong (docs/peft-findings.md).
    """

    kinds = ("linear", "conv1d", "embedding", "convolution", "experts", "attention", "model")
    features = FEATURES
    # What it refuses to do, or does not do: there is no input of a parameter, and a lookup's cannot be dropped.
    unknown: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "experts": ("dropout", "dora", "lora_bias", "pissa", "olora"),
        "embedding": ("dropout", "lora_bias", "pissa", "olora"),
        "convolution": ("pissa", "olora"),
        "attention": ("dropout", "dora", "lora_bias", "pissa", "olora"),
    }

    def __init__(self, autocast_adapter_dtype: bool = True, known_defects: bool = False) -> None:
        self.autocast_adapter_dtype, self.known_defects = autocast_adapter_dtype, known_defects

    def knows(self, feature: str, kind: str) -> bool:
        return feature in self.features and feature not in self.unknown.get(kind, ())

    def wrap(self, layer: nn.Module, config: LoRA) -> nn.Module:
        self._refuse_defects("wrapping", layer, config)
        model, settings = _as_model(layer, config)
        wrapped: nn.Module = get_peft_model(model, settings, autocast_adapter_dtype=self.autocast_adapter_dtype)
        return wrapped

    def forward(self, wrapped: Any, *inputs: Any) -> Tensor:
        for layer in self.layers(wrapped).values():
            self._refuse_defects("computing", layer.get_base_layer())  # type: ignore[operator]
        return super().forward(wrapped, *inputs)

    def layers(self, wrapped: Any) -> Mapping[str, nn.Module]:
        model: Any = wrapped.base_model.model
        if _is_alone(model):
            return {"": model.layer}
        modules = model.named_modules()
        return {name.replace(".base_layer", ""): module for name, module in modules if _is_adapted(module)}

    def factors(self, layer: Any) -> tuple[Tensor, Tensor]:
        (active,) = layer.active_adapters
        if active in layer.lora_embedding_A:
            return layer.lora_embedding_A[active], layer.lora_embedding_B[active]
        a, b = layer.lora_A[active].weight, layer.lora_B[active].weight
        if isinstance(layer, ParamWrapper):
            experts = layer.num_experts
            return a.view(experts, -1, a.shape[-1]), b.view(b.shape[0], -1, experts).permute(2, 0, 1)
        return a, b

    def scaling(self, layer: Any) -> float:
        (active,) = layer.active_adapters
        return float(layer.scaling[active])

    def weight(self, layer: Any) -> Tensor:
        base: Any = layer.get_base_layer()
        weight: Tensor = base.in_proj_weight if isinstance(base, nn.MultiheadAttention) else base.weight
        return weight

    def delta(self, layer: Any) -> Tensor:
        self._refuse_merging(layer)
        (active,) = layer.active_adapters
        delta: Tensor = layer.get_delta_weight(active)
        return delta

    def magnitude(self, layer: Any) -> Tensor:
        (active,) = layer.active_adapters
        magnitude: Tensor = layer.lora_magnitude_vector[active].weight
        return magnitude

    def merge(self, wrapped: Any) -> None:
        for layer in self.layers(wrapped).values():
            self._refuse_merging(layer)
        wrapped.merge_adapter()

    def unmerge(self, wrapped: Any) -> None:
        wrapped.unmerge_adapter()

    def disabled(self, wrapped: Any) -> AbstractContextManager[object]:
        disabled: AbstractContextManager[object] = wrapped.disable_adapter()
        return disabled

    def scale(self, wrapped: Any, factor: float) -> None:
        for layer in self._scaled(wrapped):
            layer.scale_layer(factor)

    def unscale(self, wrapped: Any) -> None:
        for layer in self._scaled(wrapped):
            layer.unscale_layer()

    def _scaled(self, wrapped: Any) -> list[Any]:
        layers: list[Any] = list(self.layers(wrapped).values())
        if any(active in layer.lora_embedding_A for layer in layers for active in layer.active_adapters):
            raise NotApplicable("PEFT scales no embedding")
        return layers

    def add(self, wrapped: Any, name: str, config: LoRA) -> None:
        model: Any = wrapped.base_model.model
        base: nn.Module = model.layer.get_base_layer() if _is_alone(model) else model
        wrapped.add_adapter(name, _as_model(base, config)[1], autocast_adapter_dtype=self.autocast_adapter_dtype)

    def activate(self, wrapped: Any, name: str) -> None:
        wrapped.set_adapter(name)

    def save(self, wrapped: Any, folder: Path) -> None:
        # A card for a hub describes what is saved, and takes ten times as long to write.
        wrapped.create_or_update_model_card = lambda output_dir: None
        try:
            wrapped.save_pretrained(str(folder))
        finally:
            del wrapped.create_or_update_model_card

    def load(self, base: nn.Module, config: LoRA, folder: Path) -> nn.Module:
        model, _ = _as_model(base, config)
        loaded: nn.Module = PeftModel.from_pretrained(
            model, str(folder), autocast_adapter_dtype=self.autocast_adapter_dtype
        )
        return loaded

    def _refuse_merging(self, layer: Any) -> None:
        base: nn.Module = layer.get_base_layer()
        if getattr(base, "groups", 1) > 1:
            raise NotApplicable("PEFT merges no grouped convolution")
        if any(layer.lora_bias.values()) and getattr(base, "bias", None) is None:
            raise NotApplicable("PEFT merges no bias of B into a layer that has no bias")
        self._refuse_defects("merging", base)

    def _refuse_defects(self, stage: Stage, layer: nn.Module, config: LoRA | None = None) -> None:
        met = [] if self.known_defects else met_by(layer, config or LoRA(), stage)
        if met:
            raise NotApplicable(str(met[0]))


def _as_model(layer: nn.Module, config: LoRA) -> tuple[nn.Module, PeftConfig]:
    """A model, and what it is to be adapted by: one that declares no targets is a layer alone."""
    if config.target_modules is not None or config.options.get("target_parameters"):
        return layer, config.to_peft()
    if isinstance(layer, StackedExperts):
        options = {**config.options, "target_parameters": ["layer.weight"]}
        return _Alone(layer), replace(config, options=options).to_peft()
    return _Alone(layer), replace(config, target_modules=["layer"]).to_peft()


def _is_alone(model: object) -> bool:
    return isinstance(model, _Alone)


def _is_adapted(module: object) -> bool:
    return isinstance(module, LoraLayer)
