from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from checks.adapting import TIED, adapted_with, recipe
from torch import nn

from pytest_ftcheck import Full
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.tasks.instruction import tiny_llama

VerdictOn = Callable[..., Verdict]
ID = "embedding-resize-keeps-the-model"


def resizing(model: Any, method: Any) -> nn.Module:
    model.resize_token_embeddings(70)
    return model if isinstance(method, Full) else adapted_with(modules_to_save=["lm_head"])(model, method)


def with_class(changes: dict[str, Any]) -> Callable[[], nn.Module]:
    """A Llama with three more tokens, of a class that has ``changes``."""

    def model() -> Any:
        made: Any = tiny_llama()
        made.__class__ = type("Changed", (type(made),), changes)
        made.resize_token_embeddings(67)
        return made

    return model


@pytest.mark.parametrize("base", [tiny_llama, TIED])
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_resize_while_adapting_is_looked_at_and_is_sound(verdict_on: VerdictOn, base: Any, method: str) -> None:
    assert verdict_on(ID, recipe(model=base, adapt=resizing), method).status == "passed"


def test_a_recipe_that_resizes_nothing_is_not_judged_by_its_library(verdict_on: VerdictOn) -> None:
    verdict = verdict_on(ID, recipe(), "full")
    assert verdict.reason == "the recipe resizes no vocabulary"


def test_a_head_with_stale_sizes_is_found(verdict_on: VerdictOn) -> None:
    def resize(self: Any, *args: Any, **kwargs: Any) -> Any:
        resized = super(type(self), self).resize_token_embeddings(*args, **kwargs)
        self.lm_head.out_features = 64
        return resized

    verdict = verdict_on(ID, recipe(model=with_class({"resize_token_embeddings": resize})), "full")
    assert "after resizing to 67 tokens there are 64 out_features of the head" in str(verdict)


def test_a_head_drawn_anew_by_post_init_after_a_resize_is_found(verdict_on: VerdictOn) -> None:
    """As the head of a model without tied embeddings was in transformers 4.46 to 5.2."""

    def post_init(self: Any) -> None:
        nn.init.normal_(self.lm_head.weight)

    verdict = verdict_on(ID, recipe(model=with_class({"post_init": post_init})), "full")
    assert "64 of 64 old rows of the output embedding change when the vocabulary is resized and post_init()" in str(
        verdict
    )


def test_a_tie_that_is_lost_with_the_resize_is_found(verdict_on: VerdictOn) -> None:
    def model() -> nn.Module:
        made: Any = TIED()
        made.resize_token_embeddings(67)
        made.lm_head.weight = nn.Parameter(made.lm_head.weight.detach().clone())
        return made  # type: ignore[no-any-return]

    assert "and two after it" in str(verdict_on(ID, recipe(model=model), "full"))
