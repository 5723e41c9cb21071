"""Scaling and formula of single layers, against bugs that PEFT has had."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from checks.adapted_models import failed, gpt2, lora_recipe, tiny_mixtral, verdicts

from pytest_ftcheck.training import adapt


def test_an_alpha_pattern_that_is_ignored_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """peft#2195"""
    from peft.tuners.lora import model as lora_model

    right = lora_model.get_pattern_key
    monkeypatch.setattr(lora_model, "get_pattern_key", lambda keys, key: right([k for k in keys if "." not in k], key))
    recipe = lora_recipe(rank_pattern={"q_proj": 8}, alpha_pattern={"self_attn.q_proj": 64})
    text = failed(recipe, "scaling-as-declared")["scaling-as-declared"]
    assert "by 2 instead of alpha/r = 64/8 = 8" in text


def test_a_reset_that_forgets_rslora_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """peft#2775"""
    from peft.tuners.lora.layer import LoraLayer

    def unscale(self: Any, scale: float | None = None) -> None:
        for name in self.scaling:
            self.scaling[name] = self.lora_alpha[name] / self.r[name]

    monkeypatch.setattr(LoraLayer, "unscale_layer", unscale)
    found = failed(lora_recipe(use_rslora=True), "scaling-survives-a-round-trip")
    assert "4 instead of 8" in found["scaling-survives-a-round-trip"]


def test_rslora_in_the_code_and_not_in_the_declaration_is_named() -> None:
    import dataclasses

    from pytest_ftcheck.training import adapt

    recipe = lora_recipe().replace(adapt=lambda m, method: adapt(m, dataclasses.replace(method, use_rslora=True)))
    assert "use_rslora was switched on" in failed(recipe, "scaling-as-declared")["scaling-as-declared"]


def test_dora_along_the_wrong_axis_of_a_square_conv1d_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """peft#1588"""
    from peft.tuners.lora.dora import DoraLinearLayer

    def norm(self: Any, weight: Any, lora_weight: Any, scaling: float, adapter_name: str | None = None) -> Any:
        return torch.linalg.norm(weight + scaling * lora_weight, dim=1).to(weight.dtype)

    monkeypatch.setattr(DoraLinearLayer, "get_weight_norm", norm)
    recipe = lora_recipe(gpt2, target_modules=["attn.c_proj"], use_dora=True)
    assert "untransposed weight of a Conv1D" in failed(recipe, "layer-follows-its-formula")["layer-follows-its-formula"]


def test_convolutions_and_embeddings_of_a_plain_module_follow_their_formula() -> None:
    from torch import nn

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.conv = nn.Embedding(64, 16), nn.Conv1d(16, 24, 3, padding=1)
            self.head = nn.Linear(24, 64)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.head(self.conv(self.embed(ids).transpose(1, 2)).transpose(1, 2))  # type: ignore[no-any-return]

    def loss(model: Any, batch: Any) -> torch.Tensor:
        logits = model(batch["input_ids"])[:, :-1]
        return nn.functional.cross_entropy(logits.reshape(-1, 64), batch["labels"][:, 1:].reshape(-1))

    def seeded() -> nn.Module:
        torch.manual_seed(0)
        return Net()

    recipe = lora_recipe(seeded, target_modules=["embed", "conv", "head"], use_dora=True, task_type=None)
    found = verdicts(recipe.replace(loss=loss), "adapter", "saving")
    assert {id: str(v) for id, v in found.items() if v.failed} == {}
    assert found["layer-follows-its-formula"].status == "passed"


def test_patterns_of_stacked_experts_are_looked_up_by_the_parameter() -> None:
    recipe = lora_recipe(
        tiny_mixtral,
        target_modules=["q_proj"],
        options={"target_parameters": ["experts.gate_up_proj", "experts.down_proj"]},
        rank_pattern={"experts.down_proj": 2},
        alpha_pattern={"experts.down_proj": 3},
    )
    assert verdicts(recipe, "scaling-as-declared")["scaling-as-declared"].status == "passed"
    forgetful = recipe.replace(adapt=lambda model, method: adapt(model, replace(method, alpha_pattern={})))
    found = failed(forgetful, "scaling-as-declared")["scaling-as-declared"]
    assert "mlp.experts by 8 instead of alpha/r = 3/2 = 1.5" in found
