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


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_tied_head_stays_tied(verdict_on: VerdictOn, method: str) -> None:
    def untie(model: Any, declared: Any) -> nn.Module:
        model.lm_head.weight = nn.Parameter(model.lm_head.weight.detach().clone())
        return model if isinstance(declared, Full) else adapted_with()(model, declared)

    assert verdict_on("ties-are-kept", recipe(model=TIED), method).status == "passed"
    verdict = verdict_on("ties-are-kept", recipe(model=TIED, adapt=untie), method)
    assert "1 tied weights of 2,048 parameters came apart" in str(verdict)


@pytest.mark.parametrize("changes", [{"modules_to_save": ["lm_head"]}, {"target_modules": ["lm_head"]}])
def test_a_tie_that_an_adapter_breaks_by_design_is_silent(verdict_on: VerdictOn, changes: Any) -> None:
    tied = recipe(model=TIED, adapt=adapted_with(**changes))
    assert verdict_on("ties-are-kept", tied).status == "passed"


def test_a_base_tied_against_its_configuration_is_found(verdict_on: VerdictOn) -> None:
    def model() -> nn.Module:
        made: Any = tiny_llama(tie_word_embeddings=False)
        made.lm_head.weight = made.model.embed_tokens.weight
        return made

    verdict = verdict_on("ties-are-kept", recipe(model=model), "full")
    assert "tie_word_embeddings is False, and the input and output embeddings are one tensor" in str(verdict)
