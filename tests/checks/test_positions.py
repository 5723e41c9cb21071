"""Positions that a loop gives to its model."""

from __future__ import annotations

from collections.abc import Callable

import torch
from language_models import Batch

from pytest_ftcheck import Recipe
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.tasks.instruction import Row, collate, instruction_recipe

VerdictOn = Callable[..., Verdict]
ID = "positions-count-up"


def with_positions(make: Callable[[Batch], torch.Tensor]) -> Recipe:
    def collated(rows: list[Row]) -> Batch:
        batch = collate(rows)
        return {**batch, "position_ids": make(batch)}

    return instruction_recipe(collate=collated)


def test_positions_of_a_padded_batch_are_sound(verdict_on: VerdictOn) -> None:
    counted = with_positions(lambda batch: (batch["attention_mask"].cumsum(1) - 1).clamp_min(0))
    assert verdict_on(ID, counted).status == "passed"


def test_one_row_of_positions_for_all_rows_is_sound(verdict_on: VerdictOn) -> None:
    shared = with_positions(lambda batch: torch.arange(batch["input_ids"].shape[1])[None])
    assert verdict_on(ID, shared).status == "passed"


def test_positions_that_are_all_zero_are_found_and_not_taken_for_documents(verdict_on: VerdictOn) -> None:
    zero = with_positions(lambda batch: torch.zeros_like(batch["input_ids"]))
    assert "have the same position" in str(verdict_on(ID, zero))
    assert verdict_on("packed-documents-do-not-see-each-other", zero).status == "not applicable"


def test_a_model_that_is_given_none_has_none_to_judge(verdict_on: VerdictOn) -> None:
    assert verdict_on(ID, instruction_recipe()).status == "not applicable"
