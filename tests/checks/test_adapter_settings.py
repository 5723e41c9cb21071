"""The adapter is the declared one."""

from __future__ import annotations

import pytest
from checks.adapted_models import failed, lora_recipe

from pytest_ftcheck import LoRA
from pytest_ftcheck.training import adapt


def test_a_lost_target_is_named() -> None:
    import dataclasses

    recipe = lora_recipe(target_modules=["q_proj", "down_proj"])
    broken = recipe.replace(adapt=lambda m, method: adapt(m, dataclasses.replace(method, target_modules=["q_proj"])))
    text = failed(broken, "adapters-are-where-declared")["adapters-are-where-declared"]
    assert "2 modules are adapted and 4 are declared: 2 are missing, 0 were not meant" in text
    assert "model.layers.0.mlp.down_proj" in text


def test_a_list_an_expression_and_all_linear_are_read_as_peft_reads_them() -> None:
    for targets in (["q_proj"], r".*layers\.1.*\.(q_proj|up_proj)", "all-linear"):
        assert failed(lora_recipe(target_modules=targets), "adapters-are-where-declared") == {}


@pytest.mark.parametrize(("name", "value"), [("alpha", 32), ("use_rslora", True), ("bias", "all")])
def test_each_setting_is_held_to_the_declaration(name: str, value: object) -> None:
    import dataclasses

    def otherwise(model: object, method: object) -> object:
        return adapt(model, dataclasses.replace(method, **{name: value}) if isinstance(method, LoRA) else method)

    found = failed(lora_recipe().replace(adapt=otherwise), "adapter-configured-as-declared")
    assert f"instead of {getattr(lora_recipe().lora, name)}" in found["adapter-configured-as-declared"]
