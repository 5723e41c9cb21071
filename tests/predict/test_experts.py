"""Layers of experts are predicted without knowing which expert a token goes to."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from recipes import tiny_recipe
from torch import Tensor, nn

from pytest_ftcheck import LoRA, Recipe
from pytest_ftcheck.execution import execute
from pytest_ftcheck.predict import predict_recipe
from pytest_ftcheck.predict.experts import result_shape


def mixtral(**changes: Any) -> nn.Module:
    from transformers import MixtralConfig, MixtralForCausalLM

    sizes: dict[str, Any] = dict(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=4)
    return MixtralForCausalLM(
        MixtralConfig(vocab_size=20, num_key_value_heads=2, num_local_experts=4, **sizes, **changes)
    )


def recipe(**changes: Any) -> Recipe:
    parts: dict[str, Any] = dict(model=mixtral, lora=LoRA(r=2, target_modules=["q_proj"]))
    return tiny_recipe(**{**parts, **changes})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_mixture_of_experts_is_predicted(method: str, dtype: str) -> None:
    assert predict_recipe(recipe(dtype=dtype), method).peak_bytes > 0


def test_its_prediction_for_the_cpu_is_what_a_run_measures() -> None:
    real = execute(recipe(), "full", 0, 2, "cpu")
    assert predict_recipe(recipe(), device="cpu").peak_bytes == real.memory.peak_bytes


def test_every_expert_counts_and_so_does_every_token_once_for_each_of_its_experts() -> None:
    few, many = (predict_recipe(recipe(model=functools.partial(mixtral, num_experts_per_tok=k))) for k in (1, 2))
    assert many.memory.weights_bytes == few.memory.weights_bytes
    assert many.memory.activations_bytes > few.memory.activations_bytes


def empty(*shape: int) -> Tensor:
    return torch.empty(shape, device="meta")


def test_the_shape_of_a_grouped_product_is_that_of_torch() -> None:
    offsets = torch.tensor([2, 4], dtype=torch.int32)
    for left, right in (((6, 4), (2, 4, 8)), ((4, 8), (8, 12)), ((2, 3, 4), (2, 4, 8))):
        operands = [torch.ones(left), torch.ones(right)]
        expected = torch._grouped_mm(*operands, offs=None if len(left) == len(right) == 3 else offsets)
        assert result_shape(empty(*left), empty(*right), groups=2) == list(expected.shape)
