"""Implementations whose layers take the place of the base's: weight and factors are parameters of one module."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...errors import NotApplicable
from ...methods import LoRA
from ..adapter import Adapter

FILE = "adapter.safetensors"


class ReplacingAdapter(Adapter):
    """A layer in a model of one layer, since that is how such a library's functions meet it.

    With ``known_defects``, layers are tried as well on which the library is known to be wrong (docs/lora-findings.md).
    """

    def __init__(self, known_defects: bool = False) -> None:
        self.known_defects = known_defects

    @abstractmethod
    def replacement(self, layer: Any, config: LoRA) -> Any:
        """The library's layer of the shape of ``layer``, with weights of its own."""

    def prefix(self, replacement: nn.Module) -> str:
        """What the base's parameters are called in it, before their own names."""
        return ""

    @abstractmethod
    def freeze(self, wrapped: nn.Module, config: LoRA) -> None:
        """Let only train what ``config`` says."""

    @abstractmethod
    def state(self, wrapped: nn.Module) -> Mapping[str, Tensor]:
        """What the library saves of an adapter."""

    def refuse(self, id: str, claim: str) -> None:
        """Raise NotApplicable for what the library gets wrong, unless it is to be tried."""
        if not self.known_defects:
            raise NotApplicable(f"{claim} (docs/lora-findings.md#{id})")

    def wrap(self, layer: nn.Module, config: LoRA) -> nn.Module:
        dtype = next(layer.parameters()).dtype
        replacement = self.replacement(layer, config).to(dtype)
        base = {self.prefix(replacement) + name: one for name, one in layer.state_dict().items()}
        taken = replacement.load_state_dict(base, strict=False)
        assert not taken.unexpected_keys, taken
        wrapped = nn.Sequential(replacement)
        self.freeze(wrapped, config)
        return wrapped

    def layers(self, wrapped: Any) -> Mapping[str, nn.Module]:
        return {"": wrapped[0]}

    def factors(self, layer: Any) -> tuple[Tensor, Tensor]:
        return layer.lora_A, layer.lora_B

    def save(self, wrapped: nn.Module, folder: Path) -> None:
        save_file(dict(self.state(wrapped)), folder / FILE)

    def load(self, base: nn.Module, config: LoRA, folder: Path) -> nn.Module:
        wrapped = self.wrap(base, config)
        taken = wrapped.load_state_dict(load_file(folder / FILE), strict=False)
        assert not taken.unexpected_keys, taken
        return wrapped
