"""The data say what is to be learned; the gradient says what is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from language_models import Batch, labels_from_inputs, next_token, of_logits, trainer_recipe
from torch import Tensor

from pytest_ftcheck.checks.prompts import generation_prompt
from pytest_ftcheck.checks.verdict import Verdict
from pytest_ftcheck.tasks.instruction import IGNORED, PAD, collate, instruction_recipe, train_rows

VerdictOn = Callable[..., Verdict]


def test_labels_that_the_loss_does_not_ignore_are_found(verdict_on: VerdictOn) -> None:
    loss = of_logits(lambda z, b: next_token(z, b["labels"].clamp_min(0)))
    verdict = verdict_on("prompt-not-supervised", instruction_recipe(loss=loss))
    assert "ignore_index" in verdict.findings[0].cause


def test_a_collator_that_drops_the_labels_of_the_rows_is_found(verdict_on: VerdictOn) -> None:
    verdict = verdict_on("prompt-not-supervised", trainer_recipe(collate=labels_from_inputs), "full")
    assert "the data's own labels" in str(verdict)
    assert "collator" in verdict.findings[0].cause


def test_masks_of_the_data_are_read_too(verdict_on: VerdictOn) -> None:
    rows = [
        {"input_ids": r["input_ids"], "completion_mask": [int(label != IGNORED) for label in r["labels"]]}
        for r in train_rows()
    ]

    def all_learned(batch: list[Any]) -> Batch:
        return labels_from_inputs([{**row, "labels": row["input_ids"]} for row in batch])

    recipe = instruction_recipe(train_data=rows, collate=all_learned)
    assert verdict_on("prompt-not-supervised", recipe).status == "failed"


def test_a_lost_first_token_of_each_answer_is_found(verdict_on: VerdictOn) -> None:
    def too_long(rows: list[Any]) -> Batch:
        batch = collate(rows)
        first = (batch["labels"] != IGNORED).long().cumsum(dim=1) == 1
        return {**batch, "labels": batch["labels"].masked_fill(first, IGNORED)}

    verdict = verdict_on("declared-tokens-supervised", instruction_recipe(collate=too_long))
    assert "one token too long" in verdict.findings[0].cause


def test_rows_that_mark_everything_do_not_forbid_a_mask(verdict_on: VerdictOn) -> None:
    rows = [{"input_ids": r["input_ids"], "labels": r["input_ids"]} for r in train_rows()]

    def masked(batch: list[Any]) -> Batch:
        found = collate(batch)
        found["labels"][:, :4] = IGNORED
        return found

    recipe = instruction_recipe(train_data=rows, collate=masked)
    assert verdict_on("declared-tokens-supervised", recipe).status == "passed"
    assert verdict_on("prompt-not-supervised", recipe).status == "passed"


class Tokenizer:
    """A template that puts 60 before a question and 61 before an answer."""

    def apply_chat_template(self, messages: Any, tokenize: bool, add_generation_prompt: bool) -> str:
        return "60 5" + (" 61" if add_generation_prompt else "")

    def __call__(self, text: str, add_special_tokens: bool) -> dict[str, list[int]]:
        return {"input_ids": [int(word) for word in text.split()]}


def test_the_generation_prompt_is_what_the_template_adds() -> None:
    assert generation_prompt(Tokenizer()) == [61]
    assert generation_prompt(None) == []


def test_a_header_of_the_template_that_is_learned_is_found(verdict_on: VerdictOn) -> None:
    def with_header(row: dict[str, list[int]], learned: bool) -> dict[str, list[int]]:
        ids = [*row["input_ids"][:4], 61, *row["input_ids"][4:]]
        return {"input_ids": ids, "labels": [*row["labels"][:4], 61 if learned else IGNORED, *row["labels"][4:]]}

    for learned, status in ((True, "failed"), (False, "passed")):
        recipe = trainer_recipe(train_data=[with_header(row, learned) for row in train_rows()])
        loop: Any = recipe.train.__self__  # type: ignore[union-attr]
        make = loop.make_trainer

        def make_trainer(job: Any, make: Any = make) -> Any:
            trainer = make(job)
            trainer.processing_class = Tokenizer()
            return trainer

        loop.make_trainer = make_trainer
        verdict = verdict_on("prompt-not-supervised", recipe, "full")
        assert verdict.status == status, verdict


def test_labels_of_ones_own_loss_need_not_reach_the_model(verdict_on: VerdictOn) -> None:
    def whole(logits: Tensor, batch: Batch) -> Tensor:
        return next_token(logits, batch["input_ids"].masked_fill(batch["input_ids"] == PAD, IGNORED))

    verdict = verdict_on("prompt-not-supervised", instruction_recipe(loss=of_logits(whole)))
    assert verdict.status == "failed"
