"""Methods of PEFT other than LoRA, each with a change that must be noticed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from peft import AdaLoraConfig, IA3Config, LoHaConfig, LoKrConfig, VeraConfig
from torch import nn

from pytest_ftcheck import Peft, Recipe
from pytest_ftcheck.tasks.instruction import instruction_recipe
from pytest_ftcheck.training import adapt as put_on

TARGETS = ["k_proj", "down_proj"]
OTHERS: dict[str, Any] = {
    "IA3": IA3Config(target_modules=TARGETS, feedforward_modules=["down_proj"]),
    "VeRA": VeraConfig(r=4, target_modules=TARGETS),
    "AdaLoRA": AdaLoraConfig(init_r=3, target_r=2, total_step=100, target_modules=TARGETS),
    "LoHa": LoHaConfig(r=2, target_modules=TARGETS),
    "LoKr": LoKrConfig(r=2, target_modules=TARGETS),
}
# A setting of each that decides what its adapter computes, and another value of it.
CHANGES: dict[str, tuple[str, Any]] = {
    "IA3": ("feedforward_modules", {"k_proj"}),
    "VeRA": ("r", 8),
    "AdaLoRA": ("init_r", 6),
    "LoHa": ("alpha", 32),
    "LoKr": ("decompose_both", True),
}


def recipe_of(method: str) -> Recipe:
    return instruction_recipe(lora=Peft(copy.deepcopy(OTHERS[method])))


def adapted_with(**changes: Any) -> Callable[[nn.Module, Any], nn.Module]:
    """An ``adapt`` that puts the declared method on with other settings."""

    def adapt(model: nn.Module, method: Any) -> nn.Module:
        config = copy.deepcopy(method.config)
        for name, value in changes.items():
            assert getattr(config, name) != value
            setattr(config, name, value)
        return put_on(model, Peft(config))

    return adapt
