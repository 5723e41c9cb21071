"""Saving and loading, by the recipe's own code and by the library's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from checks.adapted_models import failed, lora_recipe, tied_llama, tiny_mixtral, verdicts

from pytest_ftcheck import Recipe
from pytest_ftcheck.tasks.instruction import tiny_llama

RELOAD = "reload-gives-the-same-logits"


def save_state(model: Any, folder: Path) -> None:
    torch.save(model.state_dict(), folder / "model.pt")


def load_full(folder: Path) -> Any:
    model: Any = tiny_llama()
    model.load_state_dict(torch.load(folder / "model.pt", weights_only=True))
    return model


def merge_and_save(model: Any, folder: Path) -> None:
    import copy

    copy.deepcopy(model).merge_and_unload().save_pretrained(folder)


def load_merged(folder: Path) -> Any:
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(folder)


def save_half(model: Any, folder: Path) -> None:
    model.save_pretrained(folder)
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def test_a_file_that_is_cut_short_fails_where_it_is_loaded_and_no_check_is_to_blame() -> None:
    found = verdicts(lora_recipe().replace(save=save_half), "saving")
    assert found[RELOAD].status == "failed"
    assert {verdict.status for verdict in found.values()} <= {"failed", "not applicable", "passed"}
    assert "adapter_model.safetensors cannot be read" in found["every-trained-tensor-is-saved"].reason


@pytest.mark.parametrize(
    "recipe",
    [
        lora_recipe(),
        lora_recipe(dtype="bfloat16"),
        lora_recipe(tied_llama),
        lora_recipe(tiny_mixtral),
        lora_recipe().replace(save=save_state, load=load_full),
    ],
    ids=["llama", "bfloat16", "tied", "experts", "own state dict"],
)
def test_sound_full_fine_tuning_is_silent(recipe: Recipe) -> None:
    assert failed(recipe, "saving", method="full") == {}


def test_a_merged_export_is_silent() -> None:
    recipe = lora_recipe().replace(save=merge_and_save, load=load_merged)
    found = verdicts(recipe, "saving")
    assert {id: str(v) for id, v in found.items() if v.failed} == {}
    assert found[RELOAD].status == "passed"
    assert found["every-trained-tensor-is-saved"].reason == "saving writes a merged model"


def test_the_base_saved_as_a_merged_export_is_found() -> None:
    recipe = lora_recipe().replace(
        save=lambda model, folder: model.unload().save_pretrained(folder),
        load=load_merged,
    )
    found = failed(recipe, "saving")
    assert "what is loaded is the base" in found[RELOAD]
    assert "the base was saved instead of the adapter" in found["every-trained-tensor-is-saved"]


def test_an_adapter_loaded_onto_an_adapted_model_is_found() -> None:
    """get_peft_model, and then load_state_dict of keys that it does not have"""

    def load(folder: Path) -> Any:
        from safetensors.torch import load_file

        from pytest_ftcheck.building import adapted_model

        model = adapted_model(lora_recipe(), "lora", 0)
        model.load_state_dict(load_file(folder / "adapter_model.safetensors"), strict=False)
        return model

    assert "what is loaded is the base" in failed(lora_recipe().replace(load=load), RELOAD)[RELOAD]


def test_an_adapter_edited_after_training_is_found() -> None:
    from pytest_ftcheck.checks.sabotages.saving import ALPHA_EDITED

    found = failed(ALPHA_EDITED.apply(lora_recipe()), "saving")
    assert "the adapter's scaling is lost" in found[RELOAD]
    assert "lora_alpha: 32 instead of 16" in found["saved-configuration-matches"]


def test_a_configuration_field_that_is_lost_on_loading_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from peft.config import PeftConfigMixin

    right = PeftConfigMixin.from_peft_type.__func__

    def lose(cls: Any, **fields: Any) -> Any:
        fields.pop("use_rslora", None)
        return right(cls, **fields)

    monkeypatch.setattr(PeftConfigMixin, "from_peft_type", classmethod(lose))
    assert "scaling is lost" in failed(lora_recipe(use_rslora=True), RELOAD)[RELOAD]


def test_a_save_that_raises_is_one_finding_only() -> None:
    def save(model: Any, folder: Path) -> None:
        raise OSError("no space left")

    found = failed(lora_recipe().replace(save=save), "saving")
    assert list(found) == [RELOAD]
    assert "saving raised OSError: no space left" in found[RELOAD]


def test_a_save_that_switches_to_evaluation_is_found() -> None:
    def save(model: Any, folder: Path) -> None:
        model.eval().save_pretrained(folder)

    recipe = lora_recipe(dropout=0.1).replace(save=save)
    text = failed(recipe, "saving-leaves-the-model-alone", method="full")
    # from_pretrained and get_peft_model differ in the mode that they leave; only a change counts.
    assert not text or "another mode" in text["saving-leaves-the-model-alone"]
    assert "another mode" in str(failed(recipe, "saving-leaves-the-model-alone"))


def test_an_export_that_merges_the_model_itself_is_silent() -> None:
    recipe = lora_recipe().replace(
        save=lambda model, folder: model.merge_and_unload().save_pretrained(folder), load=load_merged
    )
    assert failed(recipe, "saving") == {}


def test_a_load_that_names_the_adapter_otherwise_is_silent() -> None:
    def load(folder: Path) -> Any:
        from peft import PeftModel

        return PeftModel.from_pretrained(tiny_llama(), folder, adapter_name="other", is_trainable=True)

    assert failed(lora_recipe().replace(load=load), "saving") == {}
