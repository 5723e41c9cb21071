from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from checks.adapting import adapted_with, recipe
from torch import nn

from pytest_ftcheck import Job
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.tasks import loop
from pytest_ftcheck.tasks.instruction import tiny_llama

VerdictOn = Callable[..., Verdict]


def test_half_precision_that_is_declared_is_silent_and_an_adapter_in_float32_too(verdict_on: VerdictOn) -> None:
    for method in ("full", "lora"):
        for id in ("trained-in-the-declared-dtype", "frozen-base-keeps-its-dtype"):
            assert not verdict_on(id, recipe(dtype="bfloat16"), method).failed


def test_a_model_loaded_in_half_precision_behind_the_recipe_is_found(verdict_on: VerdictOn) -> None:
    loaded = recipe(model=lambda: tiny_llama().to(torch.bfloat16))
    verdict = verdict_on("trained-in-the-declared-dtype", loaded, "full")
    assert "21 of 21 trainable tensors are bfloat16; the recipe declares float32" in str(verdict)


def test_norms_in_float32_on_a_coarser_base_are_silent(verdict_on: VerdictOn) -> None:
    def adapt(model: nn.Module, method: Any) -> nn.Module:
        adapted = adapted_with()(model, method)
        for parameter in adapted.parameters():
            parameter.data = parameter.data.float() if parameter.dim() == 1 else parameter.data
        return adapted

    assert (
        verdict_on("frozen-base-keeps-its-dtype", recipe(dtype="bfloat16", adapt=adapt, train=only_one)).failed is False
    )


def only_one(job: Job) -> None:
    """Under autocast, as models of several dtypes are trained."""
    with torch.autocast("cpu", torch.bfloat16):
        loop.train(job)
