"""The adapter is the declared one."""

from __future__ import annotations

import pytest
from checks import other_methods
from checks.adapted_models import failed, lora_recipe, verdicts
from checks.other_methods import CHANGES, OTHERS, recipe_of

from pytest_ftcheck import LoRA, Peft
from pytest_ftcheck.training import adapt


def test_a_lost_target_is_named() -> None:
    import dataclasses

    recipe = lora_recipe(target_modules=["q_proj", "down_proj"])
    broken = recipe.replace(adapt=lambda m, method: adapt(m, dataclasses.replace(method, target_modules=["q_proj"])))
    text = failed(broken, "adapters-are-where-declared")["adapters-are-where-declared"]
    assert "2 modules are adapted and 4 are declared: 2 are missing, 0 were not meant" in text
    assert "model.layers.0.mlp.down_proj" in text


def test_an_adapter_that_was_forgotten_is_found_by_what_trains_and_no_layers_of_others_are_missed() -> None:
    """Whether layers of the user's own adapt (docs/guides/custom-lora.md) or nothing does: both are not PEFT's."""
    found = verdicts(
        lora_recipe().replace(adapt=lambda model, method: model), "parameters", "adapters-are-where-declared"
    )
    assert found["adapters-are-where-declared"].status == "not applicable"
    assert found["trainable-as-declared"].status == "failed"


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


@pytest.mark.parametrize("method", OTHERS)
def test_other_methods_are_held_to_their_settings_and_places(method: str) -> None:
    checks = ("adapter-configured-as-declared", "adapters-are-where-declared")
    found = verdicts(recipe_of(method), *checks)
    assert {one.status for one in found.values()} == {"passed"}
    name, value = CHANGES[method]
    broken = failed(recipe_of(method).replace(adapt=other_methods.adapted_with(**{name: value})), *checks)
    assert f"{name}: {value} instead of" in broken["adapter-configured-as-declared"]
    fewer = recipe_of(method).replace(adapt=other_methods.adapted_with(target_modules={"k_proj"}))
    assert "mlp.down_proj" in failed(fewer, *checks)["adapters-are-where-declared"]


def test_another_method_than_the_declared_one_is_named() -> None:
    broken = recipe_of("LoHa").replace(adapt=lambda model, method: adapt(model, Peft(OTHERS["LoKr"])))
    found = failed(broken, "adapter-configured-as-declared")["adapter-configured-as-declared"]
    assert "peft_type: LOKR instead of LOHA" in found
