"""Recipes whose adapter, or model, is another one than they declare."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import nn

from pytest_ftcheck import LoRA, Recipe
from pytest_ftcheck.tasks.instruction import instruction_recipe, tiny_llama

LORA = LoRA(r=4, alpha=16, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", lr=5e-3)
TIED = functools.partial(tiny_llama, tie_word_embeddings=True)


def adapted_with(**changes: Any) -> Callable[[nn.Module, Any], nn.Module]:
    """An ``adapt`` that puts on LoRA with other settings than ``LORA`` declares."""
    from peft import LoraConfig, get_peft_model

    settings = {"r": 4, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}

    def adapt(model: nn.Module, method: Any) -> nn.Module:
        return get_peft_model(model, LoraConfig(**{**settings, **changes}))

    return adapt


def recipe(**changes: Any) -> Recipe:
    return instruction_recipe(**{"lora": LORA, **changes})
