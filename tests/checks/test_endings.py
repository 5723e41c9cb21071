"""A sequence's end is learned, or found to be lost."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from language_models import Batch, labels_from_inputs, pad_is_end, t5_recipe, to_decoder

from pytest_ftcheck.checks.endings import common_end
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.tasks.instruction import END, FIRST_WORD, VOCABULARY, Row, collate, instruction_recipe, train_rows

VerdictOn = Callable[..., Verdict]
CHECK = "end-of-sequence-supervised"


def cut(row: Row, end: int) -> Row:
    return {"input_ids": row["input_ids"][:end], "labels": row["labels"][:end]}


def without_end() -> list[Row]:
    return [cut(row, -1) for row in train_rows()]


def tokens_only() -> list[Row]:
    return [{"input_ids": row["input_ids"]} for row in train_rows()]


def random_rows(length: int | None = None) -> list[Row]:
    draw = random.Random(0)
    sizes = [length or draw.randint(4, 16) for _ in range(48)]
    return [{"input_ids": [draw.randrange(FIRST_WORD, VOCABULARY) for _ in range(size)]} for size in sizes]


def test_an_end_that_is_masked_as_padding_is_found(verdict_on: VerdictOn) -> None:
    verdict = verdict_on(CHECK, instruction_recipe(train_data=tokens_only, collate=pad_is_end_of_ids))
    assert verdict.status == "failed"
    assert "padding is the same token" in verdict.findings[0].cause


def pad_is_end_of_ids(rows: list[Row]) -> Batch:
    return pad_is_end([{**row, "labels": row["input_ids"]} for row in rows])


def labels_of_ids(rows: list[Row]) -> Batch:
    return labels_from_inputs([{**row, "labels": row["input_ids"]} for row in rows])


def test_an_end_that_is_cut_off_in_the_batch_is_found(verdict_on: VerdictOn) -> None:
    recipe = instruction_recipe(collate=lambda rows: collate([cut(row, -1) for row in rows]))
    assert "reach the model without the token that ends them" in str(verdict_on(CHECK, recipe))


def test_answers_that_end_in_no_way_are_found(verdict_on: VerdictOn) -> None:
    assert "none of" in str(verdict_on(CHECK, instruction_recipe(train_data=without_end)))


def test_rows_longer_than_the_model_may_be_cut(verdict_on: VerdictOn) -> None:
    recipe = instruction_recipe(collate=lambda rows: collate([cut(row, 12) for row in rows]))
    assert verdict_on(CHECK, recipe).status == "passed"


@pytest.mark.parametrize("length", [None, 12])
def test_random_tokens_need_no_end(length: int | None, verdict_on: VerdictOn) -> None:
    recipe = instruction_recipe(train_data=random_rows(length), collate=labels_of_ids)
    assert verdict_on(CHECK, recipe).status == "not applicable"


def test_a_line_break_after_the_end_of_a_turn_need_not_be_learned(verdict_on: VerdictOn) -> None:
    rows = [{"input_ids": [*r["input_ids"], 63], "labels": [*r["labels"], -100]} for r in train_rows()]
    assert verdict_on(CHECK, instruction_recipe(train_data=rows)).status == "passed"


def test_a_decoder_that_learns_no_end_is_found(verdict_on: VerdictOn) -> None:
    def masked(rows: list[Row]) -> Batch:
        batch = to_decoder(rows)
        return {**batch, "labels": batch["labels"].masked_fill(batch["labels"] == END, -100)}

    rows = [{"input_ids": r["input_ids"], "labels": [x for x in r["labels"] if x != -100]} for r in train_rows()]
    assert verdict_on(CHECK, t5_recipe(train_data=rows, collate=masked), "full").status == "failed"
    assert verdict_on(CHECK, t5_recipe(train_data=rows), "full").status == "passed"


def test_an_end_is_common_to_ragged_rows_only() -> None:
    rows = {(1, 2, 9), (1, 9), (3, 4, 5, 9), (4, 9)}
    assert common_end(rows) == 9
    assert common_end({row[-2:] for row in rows}) is None
    assert common_end({(1, 2), (1, 2, 3), (1, 4), (5, 6, 7)}) is None
