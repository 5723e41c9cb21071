from __future__ import annotations

from collections.abc import Callable
from typing import Any

from checks.adapting import adapted_with, recipe
from torch import nn

from pytest_ftcheck import LoRA
from pytest_ftcheck.checks.verdict import Verdict

VerdictOn = Callable[..., Verdict]
ID = "loading-an-adapter-changes-nothing"


def two_adapters(model: nn.Module, method: Any) -> Any:
    """The declared adapter, and one beside it that is not used."""
    adapted: Any = adapted_with(modules_to_save=["lm_head"])(model, method)
    adapted.add_adapter("beside", adapted.peft_config["default"])
    adapted.set_adapter("default")
    return adapted


def test_adapters_with_trained_copies_of_the_head_may_be_loaded_beside_each_other(verdict_on: VerdictOn) -> None:
    assert verdict_on(ID, recipe(adapt=two_adapters)).status == "passed"


def test_a_recipe_with_one_adapter_is_not_judged_by_its_library(verdict_on: VerdictOn) -> None:
    assert verdict_on(ID, recipe()).reason == "the recipe uses one adapter only"


def test_the_adapter_beside_the_declared_one_is_no_departure_from_it(verdict_on: VerdictOn) -> None:
    declared = recipe(adapt=two_adapters).replace(lora=LoRA(**{**vars(recipe().lora), "modules_to_save": ["lm_head"]}))
    for id in ("trainable-as-declared", "only-the-active-adapter-trains", "every-trainable-has-a-gradient"):
        assert verdict_on(id, declared).status == "passed", id


def test_weights_of_the_first_that_loading_overwrites_are_found(verdict_on: VerdictOn) -> None:
    def adapt(model: nn.Module, method: Any) -> nn.Module:
        adapted = two_adapters(model, method)
        kind = type(adapted)

        class Overwrites(kind):  # type: ignore[misc, valid-type]
            def load_adapter(self, *args: Any, **kwargs: Any) -> Any:
                loaded = super().load_adapter(*args, **kwargs)
                for name, parameter in self.named_parameters():
                    if "lora_B.default." in name:
                        nn.init.zeros_(parameter)
                return loaded

        adapted.__class__ = Overwrites
        return adapted  # type: ignore[no-any-return]

    verdict = verdict_on(ID, recipe(adapt=adapt))
    assert "4 of 39 tensors changed when an adapter is loaded for inference" in str(verdict)


def test_adapters_that_hold_a_part_of_the_base_are_not_looked_at(verdict_on: VerdictOn) -> None:
    pissa = recipe(lora=LoRA(r=4, alpha=4, target_modules=["q_proj"], init="pissa"))
    assert verdict_on(ID, pissa).status == "not applicable"
