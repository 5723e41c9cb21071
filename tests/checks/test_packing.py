"""Documents in one row."""

from __future__ import annotations

from collections.abc import Callable

import torch
from language_models import Batch

from pytest_ftcheck import Recipe
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.tasks.instruction import IGNORED, Row, collate, instruction_recipe

VerdictOn = Callable[..., Verdict]
SEPARATE, BEGIN = "packed-documents-do-not-see-each-other", "sequences-begin-as-rows-begin"


def packed(rows: list[Row], first_label: bool = False) -> Batch:
    """All rows in one, told apart by positions that start again; no mask, so that attention keeps to them."""
    ids = [token for row in rows for token in row["input_ids"]]
    labels = [
        label if place or first_label else IGNORED
        for row in rows
        for place, label in enumerate(row["input_ids"] if first_label else row["labels"])
    ]
    positions = [place for row in rows for place in range(len(row["input_ids"]))]
    return {
        "input_ids": torch.tensor([ids]),
        "labels": torch.tensor([labels]),
        "position_ids": torch.tensor([positions]),
    }


def recipe(make: Callable[[list[Row]], Batch]) -> Recipe:
    return instruction_recipe(collate=make)


def test_packed_documents_that_positions_separate_are_sound(verdict_on: VerdictOn) -> None:
    assert verdict_on(SEPARATE, recipe(packed)).status == "passed"
    assert verdict_on(BEGIN, recipe(packed)).status == "passed"


def test_documents_that_a_mask_of_ones_joins_are_found(verdict_on: VerdictOn) -> None:
    joined = recipe(lambda rows: {**packed(rows), "attention_mask": torch.ones_like(packed(rows)["input_ids"])})
    assert "an attention_mask of ones overrules position_ids" in str(verdict_on(SEPARATE, joined))


def test_a_first_token_learned_from_the_document_before_is_found(verdict_on: VerdictOn) -> None:
    verdict = verdict_on(SEPARATE, recipe(lambda rows: packed(rows, first_label=True)))
    assert "learned from the document before" in str(verdict)


def test_documents_without_their_beginning_are_found(verdict_on: VerdictOn) -> None:
    def split(rows: list[Row]) -> Batch:
        first, rest = rows[0], rows[1:]
        cut = [{key: value[:5] for key, value in first.items()}, {key: value[5:] for key, value in first.items()}]
        return packed([*cut, *rest])

    verdict = verdict_on(BEGIN, recipe(split))
    assert "packing cuts rows" in str(verdict)


def test_rows_truncated_at_their_beginning_are_found(verdict_on: VerdictOn) -> None:
    verdict = verdict_on(BEGIN, recipe(lambda rows: collate([{k: v[-8:] for k, v in r.items()} for r in rows])))
    assert "truncated at their beginning" in str(verdict)


def test_unpacked_rows_have_nothing_to_be_separated(verdict_on: VerdictOn) -> None:
    assert verdict_on(SEPARATE, instruction_recipe()).status == "not applicable"
