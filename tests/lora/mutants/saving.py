"""Mistakes in saving and loading."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pytest_ftcheck.methods import LoRA

from ..mutant import Mutant
from ..reference import ReferenceAdapter, ReferenceLayer

RESTORED, UNCHANGED, BYTES = "saved-is-restored", "saving-changes-nothing", "saved-bytes"
FILE = "adapter.safetensors"


class SavesHalfPrecision(ReferenceAdapter):
    def save(self, wrapped: Any, folder: Path) -> None:
        save_file({name: one.half() for name, one in wrapped.current.state_dict().items()}, folder / FILE)


class SavesTheBase(ReferenceAdapter):
    def save(self, wrapped: Any, folder: Path) -> None:
        state = {**wrapped.current.state_dict(), "base.weight": wrapped.base.weight.detach()}
        save_file(state, folder / FILE)

    def load(self, base: nn.Module, config: LoRA, folder: Path) -> nn.Module:
        layer = self.layer_type(base, config)
        layer.current.load_state_dict(load_file(folder / FILE), strict=False)
        return layer


class SavesAAlone(ReferenceAdapter):
    def save(self, wrapped: Any, folder: Path) -> None:
        save_file({"a": wrapped.current.a.detach()}, folder / FILE)

    def load(self, base: nn.Module, config: LoRA, folder: Path) -> nn.Module:
        layer = self.layer_type(base, config)
        layer.current.load_state_dict(load_file(folder / FILE), strict=False)
        return layer


class SavesWithTheScaling(ReferenceAdapter):
    def save(self, wrapped: Any, folder: Path) -> None:
        state = dict(wrapped.current.state_dict())
        save_file({**state, "b": state["b"] * wrapped.current.scaling()}, folder / FILE)


class LoadsAnotherScaling(ReferenceAdapter):
    def load(self, base: nn.Module, config: LoRA, folder: Path) -> nn.Module:
        loaded: Any = super().load(base, config, folder)
        loaded.current.factor = 2.0
        return loaded  # type: ignore[no-any-return]


class MergesToSave(ReferenceAdapter):
    def save(self, wrapped: Any, folder: Path) -> None:
        super().save(wrapped, folder)
        wrapped.current.b.data *= 1.25


class RoundsToSave(ReferenceAdapter):
    def save(self, wrapped: Any, folder: Path) -> None:
        for factor in (wrapped.current.a, wrapped.current.b):
            factor.data = factor.data.to(torch.bfloat16).to(factor.dtype)
        super().save(wrapped, folder)


def _right(adapter: type[ReferenceAdapter]) -> type[ReferenceLayer]:
    return type(adapter.__name__, (ReferenceLayer,), {})


def _mutant(adapter: type[ReferenceAdapter], mistake: str, *by: str) -> Mutant:
    return Mutant(_right(adapter), mistake, by, adapter)


MUTANTS = (
    _mutant(SavesHalfPrecision, "saved as float16", RESTORED, BYTES),
    _mutant(SavesTheBase, "the base's weight is saved too", BYTES),
    _mutant(SavesAAlone, "B is not saved", RESTORED, BYTES),
    _mutant(SavesWithTheScaling, "the scaling is saved in B", RESTORED),
    _mutant(LoadsAnotherScaling, "loaded with another scaling", RESTORED),
    _mutant(MergesToSave, "B is scaled after saving", UNCHANGED),
    _mutant(RoundsToSave, "the factors are rounded in place", UNCHANGED),
)
