"""Checks of an adapter as a whole: silent on every sound kind, and not on the bugs that PEFT has had."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checks.adapted_models import failed, gpt2, lora_recipe, tiny_mixtral, verdicts

SOUND = {
    "bfloat16": dict(dtype="bfloat16"),
    "dora on conv1d": dict(model=gpt2, target_modules=["c_attn", "c_proj"], use_dora=True),
    "rslora bfloat16": dict(use_rslora=True, dtype="bfloat16"),
    "pissa on conv1d": dict(model=gpt2, target_modules=["c_attn"], init="pissa"),
    "olora bfloat16": dict(init="olora", dtype="bfloat16"),
    "orthogonal bfloat16": dict(init="orthogonal", dtype="bfloat16"),
    "modules_to_save": dict(modules_to_save=["lm_head"]),
    "patterns": dict(rank_pattern={"q_proj": 8}, alpha_pattern={"self_attn.q_proj": 64}),
    "embedding": dict(target_modules=["q_proj", "embed_tokens"], use_dora=True),
    "biases": dict(model=gpt2, target_modules=["c_attn"], bias="all"),
    "experts": dict(model=tiny_mixtral, target_modules=["q_proj"], dropout=0.0),
}


@pytest.mark.parametrize("settings", SOUND.values(), ids=SOUND.keys())
def test_sound_adapters_are_silent(settings: dict[str, Any]) -> None:
    assert failed(lora_recipe(**settings), "adapter", "saving") == {}


def test_other_methods_than_lora_are_silent_or_not_applicable() -> None:
    import peft

    ia3 = peft.IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"])
    prompt = peft.PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM")
    adalora = peft.AdaLoraConfig(target_r=4, init_r=6, lora_alpha=32, target_modules=["q_proj"], total_step=100)
    for config in (ia3, prompt, adalora):
        assert failed(lora_recipe(config=config), "adapter", "saving") == {}


def test_adalora_that_starts_with_random_singular_values_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """peft#1836"""
    import peft
    from peft.tuners.adalora.layer import AdaLoraLayer

    def reset(self: Any, name: str) -> None:
        for factors in (self.lora_E, self.lora_A, self.lora_B):
            if name in factors:
                torch.nn.init.normal_(factors[name], std=0.02)

    monkeypatch.setattr(AdaLoraLayer, "reset_lora_parameters", reset)
    config = peft.AdaLoraConfig(target_r=4, init_r=6, lora_alpha=32, target_modules=["q_proj"], total_step=100)
    assert "lora_E" in failed(lora_recipe(config=config), "adapter")["adapter-starts-as-the-base"]


def test_pissa_of_the_untransposed_weight_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """peft#2103, on a square Conv1D, where it does not crash"""
    from peft.tuners.lora.layer import LoraLayer

    right = LoraLayer.pissa_init

    def wrong(self: Any, *args: Any) -> None:
        turned, self.fan_in_fan_out = self.fan_in_fan_out, False
        right(self, *args)
        self.fan_in_fan_out = turned

    monkeypatch.setattr(LoraLayer, "pissa_init", wrong)
    recipe = lora_recipe(gpt2, target_modules=["attn.c_proj"], init="pissa")
    assert "wrong orientation" in failed(recipe, "adapter-starts-as-the-base")["adapter-starts-as-the-base"]


def test_copies_that_stay_in_use_when_the_adapter_is_disabled_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """peft#493"""
    from peft.utils.other import ModulesToSaveWrapper

    monkeypatch.setattr(ModulesToSaveWrapper, "enable_adapters", lambda self, enabled: None)
    text = failed(lora_recipe(modules_to_save=["lm_head"]), "disabled-adapter-leaves-the-base")
    assert "base_model.model.lm_head" in text["disabled-adapter-leaves-the-base"]


def test_an_adapter_declared_to_start_elsewhere_is_not_applicable() -> None:
    verdict = verdicts(lora_recipe(init=False), "adapter-starts-as-the-base")["adapter-starts-as-the-base"]
    assert verdict.status == "not applicable"


def test_a_base_that_is_not_frozen_changes_by_more_than_the_rank() -> None:
    from pytest_ftcheck.checks.sabotages.wrapping import after_adapting

    def thaw(model: torch.nn.Module) -> None:
        model.requires_grad_(True)

    text = failed(after_adapting(lora_recipe(), thaw), "change-has-the-declared-rank")["change-has-the-declared-rank"]
    assert "by rank 32, declared 4" in text
