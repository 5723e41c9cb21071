"""Tokens that are predicted and seen."""

from __future__ import annotations

from collections.abc import Callable

import torch

from pytest_ftcheck import Full, Recipe
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.stack.models import build
from pytest_ftcheck.stack.recipe_forms import recipe_on
from pytest_ftcheck.tasks.instruction import instruction_recipe

VerdictOn = Callable[..., Verdict]
ID = "later-tokens-are-not-seen"


def full(architecture: str, **changes: object) -> Recipe:
    return recipe_on(architecture, architecture, changes, full=Full(lr=1e-3))


def test_a_causal_model_with_padded_rows_is_sound(verdict_on: VerdictOn) -> None:
    assert verdict_on(ID, instruction_recipe()).status == "passed"


def test_a_model_with_a_sliding_window_is_sound(verdict_on: VerdictOn) -> None:
    assert verdict_on(ID, full("gemma3"), "full").status == "passed"


def test_experts_are_sound(verdict_on: VerdictOn) -> None:
    assert verdict_on(ID, full("mixtral"), "full").status == "passed"


def test_models_of_hidden_words_and_encoder_decoders_have_no_future(verdict_on: VerdictOn) -> None:
    assert verdict_on(ID, full("bert-masked"), "full").status == "not applicable"
    assert verdict_on(ID, full("t5"), "full").status == "not applicable"


def test_an_encoder_that_is_trained_as_a_decoder_is_found(verdict_on: VerdictOn) -> None:
    def encoder() -> torch.nn.Module:
        from transformers import BertConfig, BertLMHeadModel

        settings = build("bert-masked").config.to_dict()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return BertLMHeadModel(BertConfig(**{**settings, "is_decoder": False}))

    verdict = verdict_on(ID, instruction_recipe(model=encoder, full=Full(lr=1e-3), lora=None), "full")
    assert "attention is not causal" in str(verdict)
