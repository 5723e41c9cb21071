"""The right implementation on the layers of a model, in steps that a mutant can get wrong one at a time."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pytest_ftcheck.lora.adapter import Adapter
from pytest_ftcheck.methods import LoRA
from pytest_ftcheck.theory.parameters import saved_modules
from pytest_ftcheck.theory.placement import placement_of
from pytest_ftcheck.theory.targets import alpha_of, rank_of, targeted_modules

from .reference import ReferenceLayer


class LayerOfModel(ReferenceLayer):
    """A layer whose model looks at its weight."""

    @property
    def weight(self) -> Tensor:
        return self.base.weight  # type: ignore[no-any-return]


class Copied(nn.Module):
    """A module that ``modules_to_save`` names: the original, and a copy that trains."""

    def __init__(self, original: nn.Module) -> None:
        super().__init__()
        self.original, self.copied = original, self.copy(original)
        self.enabled = True

    def copy(self, original: nn.Module) -> nn.Module:
        return copy.deepcopy(original).requires_grad_(True)

    def forward(self, *inputs: Any) -> Any:
        return (self.copied if self.enabled else self.original)(*inputs)


class ReferenceNetwork(nn.Module):
    """A model with adapters on the layers that ``config`` means."""

    copied_type = Copied

    def __init__(self, model: nn.Module, config: LoRA) -> None:
        super().__init__()
        self.config = config
        self.names, saved = self.targets(model), saved_modules(model, placement_of(config))
        self.model: Any = model.requires_grad_(False)
        for name in self.names:
            model.set_submodule(name, LayerOfModel(model.get_submodule(name), self.config_of(name)))
        for name in saved:
            model.set_submodule(name, self.copied_type(model.get_submodule(name)))
        self.start()

    def targets(self, model: nn.Module) -> tuple[str, ...]:
        return targeted_modules(model, self.config)

    def config_of(self, name: str) -> LoRA:
        return replace(self.config, r=rank_of(self.config, name), alpha=alpha_of(self.config, name))

    def start(self) -> None:
        """What is done last."""

    @property
    def layers(self) -> dict[str, Any]:
        return {name: self.model.get_submodule(name) for name in self.names}

    def forward(self, *inputs: Any) -> Any:
        return self.model(*inputs)

    def merged_layers(self) -> list[Any]:
        """Those that merging merges."""
        return list(self.layers.values())

    def switched(self) -> list[Any]:
        """Those that disabling disables."""
        return [one for one in self.model.modules() if isinstance(one, (ReferenceLayer, Copied))]

    def saved(self) -> dict[str, Tensor]:
        """What is written into a file: each tensor by its name."""
        return {name: one.detach() for name, one in self.named_parameters() if one.requires_grad}


class NetworkAdapter(Adapter):
    """``ReferenceNetwork``, or a mutant of it, for the properties."""

    kinds = ("model",)
    features = ("rslora", "patterns", "modules_to_save", "layers")

    def __init__(self, network_type: type[ReferenceNetwork] = ReferenceNetwork) -> None:
        self.network_type = network_type

    @property
    def name(self) -> str:
        return self.network_type.__name__

    def wrap(self, layer: nn.Module, config: LoRA) -> nn.Module:
        return self.network_type(layer, config)

    def layers(self, wrapped: Any) -> Mapping[str, nn.Module]:
        layers: dict[str, nn.Module] = wrapped.layers
        return layers

    def factors(self, layer: Any) -> tuple[Tensor, Tensor]:
        return layer.current.a, layer.current.b

    def scaling(self, layer: Any) -> float:
        return layer.current.scaling()  # type: ignore[no-any-return]

    def merge(self, wrapped: Any) -> None:
        for layer in wrapped.merged_layers():
            layer.merge()

    @contextlib.contextmanager
    def disabled(self, wrapped: Any) -> Iterator[None]:
        switched = wrapped.switched()
        for one in switched:
            one.enabled = False
        try:
            yield
        finally:
            for one in switched:
                one.enabled = True

    def save(self, wrapped: Any, folder: Path) -> None:
        save_file({name: one.contiguous() for name, one in wrapped.saved().items()}, folder / "adapter.safetensors")

    def load(self, base: nn.Module, config: LoRA, folder: Path) -> nn.Module:
        network = self.network_type(base, config)
        network.load_state_dict(load_file(folder / "adapter.safetensors"), strict=False)
        return network
