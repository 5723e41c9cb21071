"""Padding beside a row must not change it."""

from __future__ import annotations

from collections.abc import Callable

from language_models import Batch, classes, classifier_recipe, gpt2_recipe, on_the_left, without_mask

from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.tasks.instruction import Row, instruction_recipe

VerdictOn = Callable[..., Verdict]
CHECK = "padding-does-not-matter"


def left_unmasked(rows: list[Row]) -> Batch:
    return {key: value for key, value in on_the_left(rows).items() if key != "attention_mask"}


def unmasked_classes(rows: list[Row]) -> Batch:
    return {key: value for key, value in classes(rows).items() if key != "attention_mask"}


def left_with_positions(rows: list[Row]) -> Batch:
    batch = on_the_left(rows)
    return {**batch, "position_ids": (batch["attention_mask"].cumsum(dim=1) - 1).clamp_min(0)}


def test_a_causal_model_without_a_mask_does_not_see_what_follows(verdict_on: VerdictOn) -> None:
    assert verdict_on(CHECK, instruction_recipe(collate=without_mask)).status == "passed"


def test_padding_on_the_left_that_is_attended_to_is_found(verdict_on: VerdictOn) -> None:
    verdict = verdict_on(CHECK, instruction_recipe(collate=left_unmasked))
    assert "attention mask is missing" in str(verdict)


def test_an_encoder_without_a_mask_is_found(verdict_on: VerdictOn) -> None:
    assert verdict_on(CHECK, classifier_recipe(collate=unmasked_classes), "full").status == "failed"
    assert verdict_on(CHECK, classifier_recipe(), "full").status == "passed"


def test_positions_that_count_padding_on_the_left_are_found(verdict_on: VerdictOn) -> None:
    verdict = verdict_on(CHECK, gpt2_recipe(collate=on_the_left), "full")
    assert "their positions count the padding" in str(verdict)


def test_positions_that_start_at_the_text_are_sound(verdict_on: VerdictOn) -> None:
    assert verdict_on(CHECK, gpt2_recipe(collate=left_with_positions), "full").status == "passed"


def test_rotary_positions_do_not_mind_the_left(verdict_on: VerdictOn) -> None:
    assert verdict_on(CHECK, instruction_recipe(collate=on_the_left)).status == "passed"
