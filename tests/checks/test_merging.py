"""Merging and unmerging, against bugs that PEFT has had and exports that people wrote."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checks.adapted_models import failed, lora_recipe, tied_llama, tiny_mixtral


def test_a_layer_that_is_not_merged_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """peft#438"""
    from peft.tuners.lora.layer import Embedding

    monkeypatch.setattr(Embedding, "merge", lambda self, *args, **kwargs: self.merged_adapters.append("default"))
    found = failed(lora_recipe(target_modules=["q_proj", "embed_tokens"]), "adapter")
    assert "a layer left unmerged" in found["merging-keeps-the-logits"]
    assert "1 merged weights are not W + s·BA" in found["merged-weights-are-exact"]


def test_a_merge_that_raises_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from peft.tuners.lora.layer import Linear

    def merge(self: Any, *args: Any, **kwargs: Any) -> None:
        raise AttributeError("no attribute 'bias'")

    monkeypatch.setattr(Linear, "merge", merge)
    found = failed(lora_recipe(), "adapter", "saving")
    assert list(found) == ["merging-keeps-the-logits"]
    assert "raised AttributeError: no attribute 'bias'" in found["merging-keeps-the-logits"]


def test_an_unmerge_that_raises_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of DoRA on a Conv1D in PEFT 0.18."""
    from peft.tuners.lora.layer import Linear

    def unmerge(self: Any) -> None:
        raise RuntimeError("The size of tensor a (32) must match the size of tensor b (96)")

    monkeypatch.setattr(Linear, "unmerge", unmerge)
    found = failed(lora_recipe(), "adapter")
    assert list(found) == ["unmerging-restores-the-base"]
    assert "unmerge_adapter() raised RuntimeError: The size of" in found["unmerging-restores-the-base"]


def test_merging_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """peft#1355"""
    from peft.tuners.lora.layer import Linear

    right = Linear.merge

    def forgetful(self: Any, *args: Any, **kwargs: Any) -> None:
        self.merged_adapters.clear()
        right(self, *args, **kwargs)

    monkeypatch.setattr(Linear, "merge", forgetful)
    assert list(failed(lora_recipe(), "adapter")) == ["merging-twice-is-merging-once"]


def test_experts_merged_in_another_order_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    import peft

    layers = pytest.importorskip("peft.tuners.lora.layer")
    right = layers.ParamWrapper.get_delta_weight
    monkeypatch.setattr(layers.ParamWrapper, "get_delta_weight", lambda self, name: right(self, name).flip(0))
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], target_parameters=["mlp.experts.gate_up_proj"])
    assert "adapted experts" in str(failed(lora_recipe(tiny_mixtral, config=config), "merging-keeps-the-logits"))


def test_a_merge_in_lower_precision_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from peft.tuners.lora.layer import Linear

    right = Linear.get_delta_weight
    monkeypatch.setattr(Linear, "get_delta_weight", lambda self, name: right(self, name).bfloat16().float())
    assert "merged-weights-are-exact" in failed(lora_recipe(), "merged-weights-are-exact")
    # In bfloat16 that is the rounding of the weights themselves.
    assert failed(lora_recipe(dtype="bfloat16"), "merged-weights-are-exact", "merging-keeps-the-logits") == {}


def test_an_export_in_half_precision_is_silent() -> None:
    recipe = lora_recipe().replace(merge=lambda model: model.merge_and_unload().to(torch.bfloat16))
    assert failed(recipe, "merging-keeps-the-logits", "merged-model-survives-saving") == {}


def test_an_adapted_tied_head_is_named() -> None:
    """peft#2018"""
    found = failed(lora_recipe(tied_llama, target_modules=["q_proj", "lm_head"]), "adapter")
    assert "lm_head shares its weight with another module" in found["merging-keeps-the-logits"]
    assert failed(lora_recipe(tied_llama), "adapter", "saving") == {}
