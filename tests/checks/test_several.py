"""Several adapters on one model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checks.adapted_models import failed, lora_recipe, verdicts


def two_adapters(model: Any, method: Any, names: tuple[str, str] = ("foo", "foobar"), **second: Any) -> Any:
    """An ``adapt`` that puts two adapters on a model, of which the first is active."""
    import copy

    from peft import get_peft_model

    config = copy.deepcopy(method.to_peft())
    for key, value in second.items():
        setattr(config, key, value)
    adapted = get_peft_model(model, method.to_peft(), adapter_name=names[0])
    adapted.add_adapter(names[1], config)
    adapted.set_adapter(names[0])
    return adapted


def paired(**settings: Any) -> Any:
    return lora_recipe(**settings).replace(adapt=two_adapters, full=None)


def test_two_adapters_whose_names_overlap_are_silent() -> None:
    assert failed(paired(), "adapter", "saving") == {}
    assert failed(paired(modules_to_save=["lm_head"], dtype="bfloat16"), "adapter", "saving") == {}


def test_one_adapter_leaves_nothing_to_look_at() -> None:
    ids = ("other-adapters-change-nothing", "combined-adapters-add-up", "adapter-chosen-by-row")
    assert {v.status for v in verdicts(lora_recipe(), *ids).values()} == {"not applicable"}


def test_switching_that_leaves_other_parameters_trainable_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """peft#899"""
    from peft import PeftModel

    right = PeftModel.set_adapter

    def leave_trainable(self: Any, name: str, *args: Any, **kwargs: Any) -> None:
        leaving = self.active_adapter
        right(self, name, *args, **kwargs)
        for one, parameter in self.named_parameters():
            if "foobar" in one and leaving == "foobar":
                parameter.requires_grad_(True)

    monkeypatch.setattr(PeftModel, "set_adapter", leave_trainable)
    text = failed(paired(), "other-adapters-change-nothing")["other-adapters-change-nothing"]
    assert "8 parameters begin or cease to train" in text


def test_copies_of_the_first_adapters_modules_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """peft#2206"""
    from peft import PeftModel

    right = PeftModel.add_adapter

    def copy_all(self: Any, name: str, config: Any, **kwargs: Any) -> None:
        right(self, name, config, **kwargs)
        for module in self.modules():
            if hasattr(module, "modules_to_save") and hasattr(module, "original_module"):
                module.update(name)

    def adapt(model: Any, method: Any) -> Any:
        return two_adapters(model, method, modules_to_save=["embed_tokens"])

    recipe = lora_recipe(modules_to_save=["lm_head"]).replace(adapt=adapt, full=None)
    assert failed(recipe, "other-adapters-change-nothing") == {}
    monkeypatch.setattr(PeftModel, "add_adapter", copy_all)
    text = failed(recipe, "other-adapters-change-nothing")["other-adapters-change-nothing"]
    assert "1 modules are copied for the adapter 'foobar'" in text
    assert "base_model.model.lm_head" in text


def test_an_adapter_whose_name_begins_with_anothers_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """peft#3282"""
    from peft.utils import save_and_load

    monkeypatch.setattr(save_and_load, "_filter_state_dict_for_adapter_name", lambda state, names: state)
    text = failed(paired(), "nothing-else-is-saved")["nothing-else-is-saved"]
    assert "in the file of adapter 'foo' are those of 'foobar'" in text


def test_rows_that_get_another_adapter_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from peft.tuners.lora.layer import Linear

    right = Linear._mixed_batch_forward

    def first_row_for_all(self: Any, x: Any, *args: Any, adapter_names: Any, **kwargs: Any) -> Any:
        return right(self, x, *args, adapter_names=adapter_names[:1] * len(adapter_names), **kwargs)

    monkeypatch.setattr(Linear, "_mixed_batch_forward", first_row_for_all)
    assert "adapter_names" in failed(paired(), "adapter-chosen-by-row")["adapter-chosen-by-row"]


def test_pruning_that_does_not_rescale_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """peft#3152"""
    from peft.utils import merge_utils

    def combined(model: Any, method: Any) -> Any:
        adapted = two_adapters(model, method)
        adapted.add_weighted_adapter(["foo", "foobar"], [0.5, 0.5], "both", combination_type="dare_linear", density=0.5)
        adapted.set_adapter("foo")
        return adapted

    recipe = lora_recipe().replace(adapt=combined, full=None)
    assert failed(recipe, "combined-adapters-add-up") == {}
    monkeypatch.setattr(
        merge_utils, "random_pruning", lambda t, density, rescale: t * torch.bernoulli(torch.full_like(t, density))
    )
    assert "0.30 instead of 1" in failed(recipe, "combined-adapters-add-up")["combined-adapters-add-up"]
